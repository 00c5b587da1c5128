const root = element.querySelector(".iz-stage");
const view = element.querySelector(".iz-view");
const canvas = element.querySelector("canvas");
const chip = element.querySelector(".iz-chip");
const range = element.querySelector("input[type=range]");
const number = element.querySelector("output");
const ticks = element.querySelector(".iz-ticks");
const brush = canvas.getContext("2d");

let told = null;        // what the server said last
let kind = "add";
let frame = null;       // the picture on show
let tint = null;        // the overlay on it
let waiting = [];       // clicks without an answer
let sent = 0;           // the number of the last click
let drag = null;        // the box being drawn
let wanted = null;      // the frame that the slider asks for
let asked = false;      // whether an answer to a seek is due
let pulse = 0;

function load(address) {
  return new Promise((done) => {
    if (!address) { done(null); return; }
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => done(null);
    image.src = address;
  });
}

async function take() {
  const news = props.value;
  if (!news || typeof news !== "object") return;
  if (told && told.clip !== news.clip) { frame = tint = null; wanted = null; asked = false; }
  const serial = news.serial;
  told = news;
  waiting = waiting.filter((mark) => mark.due > news.handled);
  controls();
  const [picture, over] = await Promise.all([load(news.busy ? news.live : news.image), load(news.overlay)]);
  if (told.serial !== serial) return;
  if (picture) frame = picture;
  tint = news.busy ? null : over;
  root.dataset.frame = news.busy ? "" : String(news.index);
  root.dataset.serial = String(serial);
  root.dataset.marks = String((news.marks || []).length);
  draw();
}

function controls() {
  const last = told.count - 1;
  asked = false;
  range.max = String(last);
  const at = told.busy && told.live_index != null ? told.live_index : told.index;
  if (wanted === null || wanted === told.index || told.busy) {
    wanted = null;
    range.value = String(at);
    label(at);
  } else {
    ask();
  }
  range.disabled = told.busy || last === 0;
  for (const button of root.querySelectorAll("[data-step]")) {
    const to = told.index + Number(button.dataset.step);
    button.disabled = told.busy || to < 0 || to > last;
  }
  for (const button of root.querySelectorAll("[data-kind]")) button.disabled = told.busy;
  for (const button of root.querySelectorAll("[data-edit]")) {
    button.disabled = told.busy || !told["can_" + button.dataset.edit];
  }
  root.classList.toggle("busy", told.busy);
  view.style.aspectRatio = told.width + " / " + told.height;
  view.style.setProperty("--shape", told.width / told.height);
  root.style.setProperty("--object", told.colour);
  ticks.replaceChildren();
  const spot = (index, name) => {
    const tick = document.createElement("i");
    tick.className = name;
    tick.style.left = (last ? (100 * index) / last : 0) + "%";
    ticks.append(tick);
  };
  for (const index of told.doubtful) spot(index, "doubt");
  for (const index of told.prompted) spot(index, "shown");
}

function label(index) {
  number.textContent = "Frame " + (index + 1) + " of " + told.count;
}

function ask() {
  if (asked || wanted === null || told.busy) return;
  asked = true;
  trigger("seek", { frame: wanted });
}

function go(index) {
  if (!told || told.busy) return;
  wanted = Math.max(0, Math.min(told.count - 1, index));
  range.value = String(wanted);
  label(wanted);
  ask();
}

function draw() {
  const box = canvas.getBoundingClientRect();
  const dense = window.devicePixelRatio || 1;
  const w = Math.max(1, Math.round(box.width * dense));
  const h = Math.max(1, Math.round(box.height * dense));
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  brush.imageSmoothingQuality = "high";
  brush.clearRect(0, 0, w, h);
  if (frame) brush.drawImage(frame, 0, 0, w, h);
  if (!told) return;
  if (tint) brush.drawImage(tint, 0, 0, w, h);
  const sx = w / told.width;
  const sy = h / told.height;
  if (!told.busy) {
    for (const mark of told.marks || []) put(mark, sx, sy, dense, 1);
    const glow = 0.55 + 0.45 * Math.cos(pulse / 5);
    for (const mark of waiting) put(mark, sx, sy, dense, glow);
    if (drag) put({ kind: "box", at: drag, colour: told.colour }, sx, sy, dense, 1);
  }
  chip.hidden = !(waiting.length && !told.busy);
  chip.textContent = waiting.length ? "Looking…" : "";
}

function put(mark, sx, sy, dense, alpha) {
  brush.save();
  brush.globalAlpha = alpha;
  if (mark.kind === "box") {
    const [x0, y0, x1, y1] = mark.at;
    brush.lineWidth = 4 * dense;
    brush.strokeStyle = "rgba(255,255,255,.9)";
    brush.strokeRect(x0 * sx, y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy);
    brush.lineWidth = 2 * dense;
    brush.setLineDash([6 * dense, 4 * dense]);
    brush.strokeStyle = mark.colour;
    brush.strokeRect(x0 * sx, y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy);
  } else {
    const x = mark.at[0] * sx;
    const y = mark.at[1] * sy;
    const r = 8 * dense;
    brush.beginPath();
    brush.arc(x, y, r, 0, 7);
    brush.fillStyle = "#fff";
    brush.shadowColor = "rgba(0,0,0,.45)";
    brush.shadowBlur = 4 * dense;
    brush.fill();
    brush.shadowBlur = 0;
    brush.beginPath();
    brush.arc(x, y, r - 2 * dense, 0, 7);
    brush.fillStyle = mark.kind === "add" ? mark.colour : "#25272c";
    brush.fill();
    brush.strokeStyle = "#fff";
    brush.lineWidth = 1.8 * dense;
    brush.beginPath();
    brush.moveTo(x - 3 * dense, y);
    brush.lineTo(x + 3 * dense, y);
    if (mark.kind === "add") { brush.moveTo(x, y - 3 * dense); brush.lineTo(x, y + 3 * dense); }
    brush.stroke();
  }
  brush.restore();
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * told.width;
  const y = ((event.clientY - box.top) / box.height) * told.height;
  return [Math.max(0, Math.min(told.width - 0.01, x)), Math.max(0, Math.min(told.height - 0.01, y))];
}

function send(what, at) {
  sent = Math.max(sent, told.handled) + 1;
  waiting.push({ kind: what, at, colour: told.colour, due: sent });
  trigger("mark", { kind: what, at, frame: told.index });
  animate();
}

function animate() {
  pulse += 1;
  draw();
  if (waiting.length) requestAnimationFrame(animate);
}

function ready() {
  return told && !told.busy && frame && wanted === null;
}

canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("pointerdown", (event) => {
  if (!ready() || kind !== "box" || event.button !== 0) return;
  const [x, y] = place(event);
  drag = [x, y, x, y];
  canvas.setPointerCapture(event.pointerId);
  event.preventDefault();
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  [drag[2], drag[3]] = place(event);
  draw();
});
canvas.addEventListener("pointerup", (event) => {
  if (drag) {
    const box = drag;
    drag = null;
    const size = Math.min(Math.abs(box[2] - box[0]), Math.abs(box[3] - box[1]));
    if (size >= 2) send("box", box); else draw();
  } else if (ready() && kind !== "box" && event.pointerType === "mouse") {
    if (event.button === 0) send(event.shiftKey ? "exclude" : kind, place(event));
    if (event.button === 2) send("exclude", place(event));
  }
});
canvas.addEventListener("click", (event) => {
  // fingers and pens: a tap, never the end of a scroll
  if (event.pointerType !== "mouse" && ready() && kind !== "box") send(kind, place(event));
});
canvas.addEventListener("pointercancel", () => { drag = null; draw(); });

root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !told) return;
  if (button.dataset.kind) {
    kind = button.dataset.kind;
    for (const other of root.querySelectorAll("[data-kind]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    view.dataset.kind = kind;
  }
  if (button.dataset.edit === "undo") trigger("undo", {});
  if (button.dataset.edit === "redo") trigger("redo", {});
  if (button.dataset.edit === "reset") trigger("reset", {});
  if (button.dataset.step) go((wanted === null ? told.index : wanted) + Number(button.dataset.step));
});
range.addEventListener("input", () => go(Number(range.value)));
root.addEventListener("keydown", (event) => {
  if (!told || told.busy) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key === "z" && !event.shiftKey && told.can_undo) {
    trigger("undo", {});
  } else if ((event.ctrlKey || event.metaKey) && (key === "y" || (key === "z" && event.shiftKey)) && told.can_redo) {
    trigger("redo", {});
  } else if (event.target === view && key === "arrowleft") {
    go((wanted === null ? told.index : wanted) - 1);
  } else if (event.target === view && key === "arrowright") {
    go((wanted === null ? told.index : wanted) + 1);
  } else {
    return;
  }
  event.preventDefault();
});
new ResizeObserver(draw).observe(canvas);
watch("value", take);
take();
