// The frame in view: picture, tint, clicks, strokes, zoom. Coordinates told to the server are
// pixels of the clip; nothing here remembers a mask.
let model = null;       // what the server said last of this tab's session
let config = null;      // limits and engines

const stageRoot = element.querySelector(".iz-stage");
const view = element.querySelector(".iz-view");
const canvas = view.querySelector("canvas");
const chip = element.querySelector(".iz-chip");
const liveButton = element.querySelector(".iz-live");
const range = element.querySelector(".iz-rail input");
const frameNumber = element.querySelector(".iz-time output");
const ticks = element.querySelector(".iz-ticks");
const trustBar = element.querySelector(".iz-trust");
const strip = element.querySelector(".iz-strip");
const brushSize = element.querySelector("#brush-size");
const pen = canvas.getContext("2d");
view.classList.toggle("no-canvas", !pen);  // what stands there then leads to the plain page

let kind = "add";
let picture = null;     // the frame on show
let tint = null;        // the overlay on it
let waiting = [];       // clicks without an answer
let sent = 0;           // the number of the last click
let drag = null;        // the box being drawn
let stroke = null;      // the points being painted
let hover = null;       // where the pointer is, in pixels of the clip
let cross = null;       // where the keyboard's cross is
let wanted = null;      // the frame that the slider asks for
let asked = false;      // whether an answer to a seek is due
let following = true;   // whether a running job's newest frame is shown
let shownPicture = "";  // address of the picture on show
let pulse = 0;
let settled = 0;
const camera = { zoom: 1, x: 0, y: 0 };  // x, y: where the frame's corner is, in shares of the view
const fingers = new Map();
let pinch = null;

function loadPicture(address) {
  return new Promise((done) => {
    if (!address) { done(null); return; }
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => done(null);
    image.src = address;
  });
}

function isBusy() { return Boolean(model && model.job); }
function canMark() { return model && model.clip && !model.job && picture && wanted === null; }

async function showStage(fresh) {
  const news = model;
  if (!news || !news.clip) return;
  if (fresh) {
    picture = tint = null; shownPicture = ""; wanted = null; asked = false; cross = null; waiting = [];
    camera.zoom = 1; camera.x = camera.y = 0;
    following = true;
  }
  if (!news.job) following = true;
  waiting = waiting.filter((mark) => mark.due > news.handled);
  stageControls();
  const live = news.job && following && news.job.pictures > 0;
  const address = live ? `iz/${news.tab}/live.jpg?v=${news.job.pictures}` : news.stage.image;
  const [next, over] = await Promise.all([
    address === shownPicture && picture ? picture : loadPicture(address),
    live ? null : loadPicture(news.stage.overlay),
  ]);
  if (model !== news) return;
  if (next) { picture = next; shownPicture = address; }
  tint = over;
  stageRoot.dataset.frame = live ? "" : String(news.stage.index);
  stageRoot.dataset.marks = String(news.stage.marks.length);
  stageRoot.dataset.serial = String(news.serial);
  draw();
}

function stageControls() {
  const last = model.clip.frames - 1;
  const live = model.job && following && model.job.pictures > 0;
  asked = false;
  range.max = String(last);
  const at = live && model.job.frame != null ? model.job.frame : model.stage.index;
  if (wanted === null || wanted === model.stage.index || live) {
    wanted = null;
    range.value = String(at);
    labelFrame(at);
  } else {
    askSeek();
  }
  range.disabled = last === 0;
  for (const button of element.querySelectorAll("[data-step]")) {
    const to = at + Number(button.dataset.step);
    button.disabled = to < 0 || to > last;
  }
  for (const button of element.querySelectorAll("button[data-kind]")) button.disabled = isBusy();
  for (const button of element.querySelectorAll("[data-edit]")) {
    button.disabled = isBusy() || !model["can_" + button.dataset.edit];
  }
  stageRoot.classList.toggle("busy", isBusy());
  liveButton.hidden = !(model.job && !following && model.job.pictures > 0);
  view.style.aspectRatio = model.clip.width + " / " + model.clip.height;
  view.style.setProperty("--shape", model.clip.width / model.clip.height);
  ticks.replaceChildren();
  const spot = (index, name) => {
    const tick = document.createElement("i");
    tick.className = name;
    tick.style.left = (last ? (100 * index) / last : 0) + "%";
    ticks.append(tick);
  };
  for (const index of model.prompted) spot(index, "shown");
  drawTrust();
  fillStrip();
}

function drawTrust() {
  const values = model.trust || [];
  const dense = window.devicePixelRatio || 1;
  const box = trustBar.getBoundingClientRect();
  trustBar.width = Math.max(1, Math.round(box.width * dense));
  trustBar.height = Math.max(1, Math.round(box.height * dense));
  const paint = trustBar.getContext("2d");
  if (!paint) return;
  const look = getComputedStyle(element.querySelector(".iz"));
  const sure = look.getPropertyValue("--iz-accent").trim();
  const unsure = look.getPropertyValue("--iz-doubt").trim();
  const step = trustBar.width / Math.max(1, values.length);
  values.forEach((value, index) => {
    if (value < 0) return;
    paint.fillStyle = value < 50 ? unsure : sure;
    paint.globalAlpha = value < 50 ? 1 : 0.35 + 0.0055 * (value - 50);
    paint.fillRect(index * step, 0, Math.ceil(step), trustBar.height);
  });
}

function fillStrip() {
  const items = model.strip || [];
  const stamp = items.map((item) => item.image).join(" ");
  strip.hidden = items.length === 0;
  if (strip.dataset.stamp !== stamp) {
    strip.dataset.stamp = stamp;
    strip.replaceChildren(...items.map((item) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.frame = String(item.frame);
      if (item.doubtful) button.className = "doubt";
      const image = document.createElement("img");
      image.src = item.image;
      image.loading = "lazy";
      image.alt = "";
      image.style.aspectRatio = model.clip.width + " / " + model.clip.height;
      const text = document.createElement("span");
      button.append(image, text);
      return button;
    }));
  }
  items.forEach((item, index) => {
    const button = strip.children[index];
    button.querySelector("span").textContent = number(item.frame + 1);
    const told = item.trust < 0 ? say("strip_frame", item.frame + 1)
      : say("strip_sure", item.frame + 1, percent(item.trust / 100));
    button.setAttribute("aria-label", told);
    button.title = told;
    button.setAttribute("aria-current", String(item.frame === model.stage.index));
  });
}

function labelFrame(index) {
  frameNumber.textContent = say("frame_of", number(index + 1), number(model.clip.frames));
}

function askSeek() {
  if (asked || wanted === null) return;
  asked = true;
  ask({ do: "seek", frame: wanted }).then(() => {
    asked = false;
    clearTimeout(settled);
    settled = setTimeout(warm, 250);
  });
}

function warm() {
  if (wanted === null && model && model.clip && !model.job) ask({ do: "warm" });
}

function go(index) {
  if (!model || !model.clip) return;
  following = false;
  wanted = Math.max(0, Math.min(model.clip.frames - 1, index));
  range.value = String(wanted);
  labelFrame(wanted);
  askSeek();
}

function current() { return wanted === null ? model.stage.index : wanted; }

// ---------------------------------------------------------------- drawing

function draw() {
  if (!pen) return;
  const box = canvas.getBoundingClientRect();
  const dense = window.devicePixelRatio || 1;
  const w = Math.max(1, Math.round(box.width * dense));
  const h = Math.max(1, Math.round(box.height * dense));
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, w, h);
  if (!model || !model.clip) return;
  const zoom = camera.zoom;
  pen.setTransform(zoom, 0, 0, zoom, camera.x * w, camera.y * h);
  pen.imageSmoothingEnabled = zoom < 4;
  pen.imageSmoothingQuality = "high";
  if (picture) pen.drawImage(picture, 0, 0, w, h);
  if (tint) pen.drawImage(tint, 0, 0, w, h);
  const sx = w / model.clip.width;
  const sy = h / model.clip.height;
  const unit = dense / zoom;
  if (!isBusy()) {
    for (const mark of model.stage.marks) put(mark, sx, sy, unit, 1);
    const glow = 0.55 + 0.45 * Math.cos(pulse / 5);
    for (const mark of waiting) put(mark, sx, sy, unit, glow);
    if (drag) put({ kind: "box", at: drag, colour: model.stage.colour }, sx, sy, unit, 1);
    if (stroke) put({ kind, at: stroke, radius: radius(), colour: model.stage.colour }, sx, sy, unit, 0.6);
    if (hover && (kind === "brush" || kind === "erase")) {
      pen.lineWidth = 1.5 * unit;
      pen.strokeStyle = "#fff";
      pen.beginPath();
      pen.ellipse(hover[0] * sx, hover[1] * sy, radius() * sx, radius() * sy, 0, 0, 7);
      pen.stroke();
    }
    if (cross && document.activeElement === view) putCross(sx, sy, unit);
  }
  chip.hidden = !(waiting.length && !isBusy());
  chip.textContent = waiting.length ? say("looking") : "";
}

function put(mark, sx, sy, unit, alpha) {
  pen.save();
  pen.globalAlpha = alpha;
  if (mark.kind === "box") {
    const [x0, y0, x1, y1] = mark.at;
    pen.lineWidth = 4 * unit;
    pen.strokeStyle = "rgba(255,255,255,.9)";
    pen.strokeRect(x0 * sx, y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy);
    pen.lineWidth = 2 * unit;
    pen.setLineDash([6 * unit, 4 * unit]);
    pen.strokeStyle = mark.colour;
    pen.strokeRect(x0 * sx, y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy);
  } else if (mark.kind === "add" || mark.kind === "exclude") {
    const x = mark.at[0] * sx;
    const y = mark.at[1] * sy;
    pen.beginPath();
    pen.arc(x, y, 8 * unit, 0, 7);
    pen.fillStyle = "#fff";
    pen.shadowColor = "rgba(0,0,0,.45)";
    pen.shadowBlur = 4 * unit;
    pen.fill();
    pen.shadowBlur = 0;
    pen.beginPath();
    pen.arc(x, y, 6 * unit, 0, 7);
    pen.fillStyle = mark.kind === "add" ? mark.colour : "#25272c";
    pen.fill();
    pen.strokeStyle = "#fff";
    pen.lineWidth = 1.8 * unit;
    pen.beginPath();
    pen.moveTo(x - 3 * unit, y);
    pen.lineTo(x + 3 * unit, y);
    if (mark.kind === "add") { pen.moveTo(x, y - 3 * unit); pen.lineTo(x, y + 3 * unit); }
    pen.stroke();
  } else if (mark.at.length >= 2 && mark.radius) {
    pen.strokeStyle = mark.kind === "erase" ? "#fff" : mark.colour;
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = 2 * mark.radius * sx;
    pen.beginPath();
    pen.moveTo(mark.at[0] * sx, mark.at[1] * sy);
    for (let i = 0; i < mark.at.length; i += 2) pen.lineTo(mark.at[i] * sx + 0.01, mark.at[i + 1] * sy);
    pen.stroke();
  }
  pen.restore();
}

function putCross(sx, sy, unit) {
  const x = cross[0] * sx;
  const y = cross[1] * sy;
  for (const [colour, width] of [["rgba(0,0,0,.7)", 4], ["#fff", 1.8]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width * unit;
    pen.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(x + 4 * unit * dx, y + 4 * unit * dy);
      pen.lineTo(x + 16 * unit * dx, y + 16 * unit * dy);
    }
    pen.stroke();
  }
}

function radius() {
  // the slider says a share of the frame's shorter side, finely for small brushes
  const share = Number(brushSize.value) / 100;
  return Math.max(1, share * share * 0.25 * Math.min(model.clip.width, model.clip.height));
}

function animate() {
  pulse += 1;
  draw();
  if (waiting.length) requestAnimationFrame(animate);
}

// ---------------------------------------------------------------- pointing

function place(event, free) {
  const box = canvas.getBoundingClientRect();
  const u = ((event.clientX - box.left) / box.width - camera.x) / camera.zoom;
  const v = ((event.clientY - box.top) / box.height - camera.y) / camera.zoom;
  const x = u * model.clip.width;
  const y = v * model.clip.height;
  if (free) return [x, y];
  return [Math.max(0, Math.min(model.clip.width - 0.01, x)), Math.max(0, Math.min(model.clip.height - 0.01, y))];
}

function send(what, at, more) {
  sent = Math.max(sent, model.handled) + 1;
  waiting.push({ kind: what, at, colour: model.stage.colour, due: sent, ...more });
  ask({ do: "mark", kind: what, at, frame: model.stage.index, ...(more ? { radius_px: more.radius } : {}) });
  animate();
}

function zoomAt(factor, u, v) {
  const before = camera.zoom;
  camera.zoom = Math.max(1, Math.min(16, camera.zoom * factor));
  const real = camera.zoom / before;
  camera.x = u - (u - camera.x) * real;
  camera.y = v - (v - camera.y) * real;
  clampCamera();
}

function clampCamera() {
  camera.x = Math.min(0, Math.max(1 - camera.zoom, camera.x));
  camera.y = Math.min(0, Math.max(1 - camera.zoom, camera.y));
  view.classList.toggle("zoomed", camera.zoom > 1);
  view.dataset.zoom = camera.zoom.toFixed(2);
  draw();
}

function shareOf(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("wheel", (event) => {
  if (!model || !model.clip || !(event.ctrlKey || event.metaKey || camera.zoom > 1)) return;
  event.preventDefault();
  const [u, v] = shareOf(event);
  zoomAt(Math.exp(-event.deltaY / 300), u, v);
}, { passive: false });

canvas.addEventListener("pointerdown", (event) => {
  if (!model || !model.clip) return;
  fingers.set(event.pointerId, shareOf(event));
  if (fingers.size === 2) {
    drag = stroke = null;
    pinch = { gap: gap(), zoom: camera.zoom };
    return;
  }
  if (event.button === 1 || (event.button === 0 && event.altKey)) {
    pinch = { pan: shareOf(event) };
    canvas.setPointerCapture(event.pointerId);
    event.preventDefault();
    return;
  }
  if (!canMark() || event.button !== 0) return;
  if (kind === "box") {
    const [x, y] = place(event);
    drag = [x, y, x, y];
  } else if (kind === "brush" || kind === "erase") {
    stroke = place(event, true);
  } else {
    return;
  }
  canvas.setPointerCapture(event.pointerId);
  event.preventDefault();
});
function gap() {
  const [a, b] = [...fingers.values()];
  return Math.max(0.01, Math.hypot(a[0] - b[0], a[1] - b[1]));
}
canvas.addEventListener("pointermove", (event) => {
  if (!model || !model.clip) return;
  hover = place(event, true);
  if (fingers.has(event.pointerId)) {
    const before = fingers.get(event.pointerId);
    const now = shareOf(event);
    fingers.set(event.pointerId, now);
    if (pinch && (pinch.pan || fingers.size === 2)) {
      const part = fingers.size === 2 ? 0.5 : 1;
      camera.x += (now[0] - before[0]) * part;
      camera.y += (now[1] - before[1]) * part;
      if (fingers.size === 2) {
        const [a, b] = [...fingers.values()];
        zoomAt((pinch.zoom * gap()) / pinch.gap / camera.zoom, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      } else {
        clampCamera();
      }
      return;
    }
  }
  if (drag) [drag[2], drag[3]] = place(event);
  if (stroke && stroke.length < 3900) {
    const [x, y] = place(event, true);
    const [lx, ly] = stroke.slice(-2);
    if (Math.hypot(x - lx, y - ly) > Math.max(0.5, radius() / 6)) stroke.push(x, y);
  }
  if (drag || stroke || kind === "brush" || kind === "erase") draw();
});
canvas.addEventListener("pointerleave", () => { hover = null; draw(); });
canvas.addEventListener("pointerup", (event) => {
  fingers.delete(event.pointerId);
  if (pinch) {
    if (!fingers.size) pinch = null;
    return;
  }
  if (drag) {
    const box = drag;
    drag = null;
    const size = Math.min(Math.abs(box[2] - box[0]), Math.abs(box[3] - box[1]));
    if (size >= 2) send("box", box); else draw();
  } else if (stroke) {
    const points = stroke;
    stroke = null;
    send(kind, points, { radius: radius() });
  } else if (canMark() && (kind === "add" || kind === "exclude") && event.pointerType === "mouse") {
    if (event.button === 0) send(event.shiftKey ? "exclude" : kind, place(event));
    if (event.button === 2) send("exclude", place(event));
  }
});
canvas.addEventListener("click", (event) => {
  // fingers and pens: a tap, never the end of a scroll
  if (event.pointerType !== "mouse" && canMark() && (kind === "add" || kind === "exclude")) send(kind, place(event));
});
canvas.addEventListener("pointercancel", (event) => {
  fingers.delete(event.pointerId);
  if (!fingers.size) pinch = null;
  drag = stroke = null;
  draw();
});

// ---------------------------------------------------------------- tools and keys

function takeTool(name) {
  kind = name;
  for (const other of element.querySelectorAll("button[data-kind]")) {
    other.setAttribute("aria-pressed", String(other.dataset.kind === name));
  }
  view.dataset.kind = name;
  draw();
}

function takeWay(way) {
  for (const tab of element.querySelectorAll("[data-way]")) {
    const on = tab.dataset.way === way;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    if (on) element.querySelector(".iz-tools").setAttribute("aria-labelledby", tab.id);
  }
  for (const part of element.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(way);
  if (model && model.clip) showFound();
  if (way === "brush" && kind !== "brush" && kind !== "erase") takeTool("brush");
  if (way !== "brush" && (kind === "brush" || kind === "erase")) takeTool("add");
}

element.querySelector(".iz-tabs").addEventListener("click", (event) => {
  const tab = event.target.closest("[data-way]");
  if (tab) takeWay(tab.dataset.way);
});
element.querySelector(".iz-tabs").addEventListener("keydown", (event) => {
  const tabs = [...element.querySelectorAll("[data-way]:not([hidden])")];
  const at = tabs.indexOf(event.target);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (at < 0 || !step) return;
  const next = tabs[(at + step + tabs.length) % tabs.length];
  takeWay(next.dataset.way);
  next.focus();
  event.preventDefault();
});

stageRoot.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !model || !model.clip) return;
  if (button.dataset.kind) takeTool(button.dataset.kind);
  if (button.dataset.edit) ask({ do: button.dataset.edit });
  if (button.dataset.zoom) zoomAt(button.dataset.zoom === "in" ? 1.6 : 1 / 1.6, 0.5, 0.5);
  if (button.dataset.step) go(current() + Number(button.dataset.step));
  if (button.dataset.frame) go(Number(button.dataset.frame));
});
liveButton.addEventListener("click", () => { following = true; showStage(false); });
range.addEventListener("input", () => go(Number(range.value)));

function moveCross(dx, dy, far) {
  const step = (far ? 0.05 : 0.01) * Math.max(model.clip.width, model.clip.height) / camera.zoom;
  cross = cross || [model.clip.width / 2, model.clip.height / 2];
  cross = [
    Math.max(0, Math.min(model.clip.width - 0.01, cross[0] + dx * step)),
    Math.max(0, Math.min(model.clip.height - 0.01, cross[1] + dy * step)),
  ];
  draw();
}

stageRoot.addEventListener("keydown", (event) => {
  if (!model || !model.clip) return;
  const key = event.key.toLowerCase();
  const command = event.ctrlKey || event.metaKey;
  const onView = event.target === view;
  if (command && key === "z" && !event.shiftKey && model.can_undo && !isBusy()) ask({ do: "undo" });
  else if (command && (key === "y" || (key === "z" && event.shiftKey)) && model.can_redo && !isBusy()) ask({ do: "redo" });
  else if (command || !onView) return;
  else if (key === "arrowleft") go(current() - 1);
  else if (key === "arrowright") go(current() + 1);
  else if (key === "home") go(0);
  else if (key === "end") go(model.clip.frames - 1);
  else if (key === "a") moveCross(-1, 0, event.shiftKey);
  else if (key === "d") moveCross(1, 0, event.shiftKey);
  else if (key === "w") moveCross(0, -1, event.shiftKey);
  else if (key === "s") moveCross(0, 1, event.shiftKey);
  else if (key === "+" || key === "=") zoomAt(1.6, 0.5, 0.5);
  else if (key === "-") zoomAt(1 / 1.6, 0.5, 0.5);
  else if (key === "0") zoomAt(0.01, 0.5, 0.5);
  else if ((key === "enter" || key === "x") && cross && canMark()) {
    if (kind === "brush" || kind === "erase") send(key === "x" ? "erase" : kind, cross.slice(), { radius: radius() });
    else send(key === "x" || kind === "exclude" ? "exclude" : "add", cross.slice());
  } else return;
  event.preventDefault();
});
view.addEventListener("focus", () => { if (model && model.clip) moveCross(0, 0, false); });
view.addEventListener("blur", draw);
new ResizeObserver(() => { draw(); if (model && model.clip) drawTrust(); }).observe(canvas);
takeTool("add");
