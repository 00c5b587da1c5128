// The page: asks the server, shows what it answers. An answer never replaces a newer one.
let clipShown = "";
let sending = null;
let poll = 0;
let trouble = "";       // a sentence while there is no session that could carry it

const find = (selector) => element.querySelector(selector);

async function ask(told) {
  const tab = model ? model.tab : told.tab;
  let answer = null;
  try {
    answer = await server.act({ tab, ...told });
  } catch (error) {
    trouble = say("lost");
    showStatus();
    if (model && model.job) later(2000);
    return null;
  }
  if (trouble === say("lost")) trouble = "";
  // an answer about a clip that the page has left meanwhile is no news
  if (tab && told.do !== "hello" && (!model || model.tab !== tab)) return null;
  take(answer);
  return answer;
}

function take(answer) {
  if (!answer || typeof answer !== "object") return;
  if (answer.engines) config = answer;
  if (answer.gone) { model = null; trouble = answer.notice || ""; show(); return; }
  if (answer.notice && !("model" in answer)) { trouble = answer.notice; show(); return; }
  if (!("model" in answer)) { if (model && model.job) later(600); return; }
  if (answer.model && model && answer.model.tab === model.tab && answer.model.serial < model.serial) return;
  trouble = "";
  const fetched = model && model.job && model.job.work === "weights" && answer.model && !answer.model.job;
  model = answer.model;
  show();
  if (fetched) ask({ do: "hello" });  // which engines are here now
}

function later(wait) {
  clearTimeout(poll);
  poll = setTimeout(() => { if (model && model.job) ask({ do: "look" }); }, wait);
}

function show() {
  const phase = model ? model.phase : "clip";
  const root = find(".iz");
  root.dataset.phase = phase;
  for (const [name, id] of [["clip", "#clip-step"], ["select", "#select-step"], ["result", "#result-step"]]) {
    find(id).hidden = phase !== name;
  }
  address();
  showSteps(phase);
  showDrop();
  showStatus();
  showResult();
  if (model && model.clip) {
    const fresh = clipShown !== model.stage.clip;
    clipShown = model.stage.clip;
    showFacts();
    showObjects();
    showActions();
    showFound();
    showFilm(fresh);
    showSettings();
    showStage(fresh);
    if (fresh) { clearTimeout(settled); settled = setTimeout(warm, 100); }
  } else {
    clipShown = "";
  }
  if (model && model.job) later(document.hidden ? 3000 : 450);
  root.dataset.ready = "1";
}

function address() {
  const here = new URL(location.href);
  if (model) here.searchParams.set("job", model.tab); else here.searchParams.delete("job");
  if (here.href !== location.href) history.replaceState(history.state, "", here.href);
  for (const link of element.querySelectorAll("[data-plain]")) link.href = "simple" + here.search;
}

function showSteps(phase) {
  const names = ["clip", "select", "result"];
  const now = names.indexOf(phase);
  find(".iz-steps").replaceChildren(...names.map((name, rank) => {
    const item = document.createElement("li");
    item.className = rank === now ? "now" : rank < now ? "done" : "later";
    if (rank === now) item.setAttribute("aria-current", "step");
    const dot = document.createElement("b");
    dot.textContent = rank < now ? "✓" : String(rank + 1);
    const text = document.createElement("span");
    text.textContent = say("step_" + name);
    item.append(dot, text);
    return item;
  }));
}

// ---------------------------------------------------------------- clip

const zone = find(".iz-drop");
const fileInput = find("#clip-file");

function limitText() { return bytes((config ? config.limits.upload_mb : 2048) * 1e6); }

function showDrop() {
  if (sending) return;
  zone.classList.remove("busy", "over");
  zone.querySelector(".sending").hidden = true;
  zone.querySelector("strong").textContent = say("drop");
  zone.querySelector("#clip-hint").textContent = say("drop_hint", limitText());
}

function uploadFile(path, file, told) {
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    sending = request;
    request.open("POST", path + "?name=" + encodeURIComponent(file.name));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => { if (event.lengthComputable) told(event.loaded / event.total); };
    request.onerror = () => { sending = null; done({ notice: say("broke_off") }); };
    request.onload = () => {
      sending = null;
      if (request.status !== 200) { done({ notice: request.responseText || say("not_arrived") }); return; }
      try { done(JSON.parse(request.responseText)); } catch (error) { done({ notice: say("not_arrived") }); }
    };
    request.send(file);
  });
}

async function sendClip(file) {
  if (!file || sending) return;
  trouble = "";
  if (config && file.size > config.limits.upload_mb * 1e6) {
    trouble = say("too_large", limitText());
    fileInput.value = "";
    showStatus();
    return;
  }
  const bar = zone.querySelector(".sending");
  zone.classList.add("busy");
  zone.querySelector("strong").textContent = say("sending", file.name);
  zone.querySelector("#clip-hint").textContent = percent(0);
  bar.hidden = false;
  bar.firstElementChild.style.width = "0";
  showStatus();
  const answer = await uploadFile("iz/new/clip", file, (share) => {
    bar.firstElementChild.style.width = 100 * share + "%";
    zone.querySelector("#clip-hint").textContent = share < 1 ? percent(share) : say("reading_short");
    if (share >= 1) zone.querySelector("strong").textContent = say("reading", file.name);
  });
  fileInput.value = "";
  if (answer.model && !answer.model.clip) answer.notice = answer.model.notice;
  if (answer.model && !answer.model.clip) delete answer.model;
  take(answer);
  showDrop();
}

fileInput.addEventListener("change", () => sendClip(fileInput.files[0]));
for (const name of ["dragenter", "dragover"]) {
  zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.remove("over"); });
}
zone.addEventListener("drop", (event) => sendClip(event.dataTransfer.files[0]));
find("#example").addEventListener("click", async () => {
  const button = find("#example");
  button.disabled = true;
  button.textContent = say("getting_example");
  await ask({ do: "example" });
  button.disabled = false;
  button.textContent = say("example");
});

// ---------------------------------------------------------------- select

function showFacts() {
  const clip = model.clip;
  const name = document.createElement("strong");
  name.textContent = name.title = clip.name;
  const list = document.createElement("ul");
  for (const fact of [
    clip.width + " × " + clip.height,
    clip.fps ? say("fps", number(clip.fps, 3)) : "",
    clip.frames === 1 ? say("one_frame") : say("frames", number(clip.frames)),
    span(clip.seconds),
    say(clip.sound ? "sound" : "no_sound"),
  ]) {
    if (!fact) continue;
    const item = document.createElement("li");
    item.textContent = fact;
    list.append(item);
  }
  find("#facts").replaceChildren(name, list);
}

function nameOf(object) { return object.name || say("object", object.id); }

function iconButton(act, label, path, object) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "icon";
  button.dataset.act = act;
  button.dataset.label = String(object.id);
  button.title = label;
  button.setAttribute("aria-label", label);
  button.innerHTML = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="' + path + '"/></svg>';
  return button;
}

function showObjects() {
  const list = find(".iz-objects ul");
  if (list.querySelector("input")) return;  // a name is being written
  list.replaceChildren(...model.objects.map((object) => {
    const item = document.createElement("li");
    const now = object.id === model.stage.label;
    item.className = (now ? "now" : "") + (object.visible ? "" : " hidden-object");
    const pick = document.createElement("button");
    pick.type = "button";
    pick.className = "pick";
    pick.dataset.act = "pick";
    pick.dataset.label = String(object.id);
    pick.setAttribute("aria-pressed", String(now));
    const swatch = document.createElement("i");
    swatch.style.background = object.colour;
    const name = document.createElement("span");
    name.textContent = nameOf(object);
    const told = document.createElement("small");
    told.textContent = !object.frames ? say(model.tracked ? "everywhere" : "not_marked")
      : object.frames === 1 ? say("in_frame") : say("in_frames", number(object.frames));
    pick.append(swatch, name, told);
    const who = nameOf(object);
    const eye = object.visible
      ? iconButton("show", say("hide_object", who), "M2.5 10s3-5 7.5-5 7.5 5 7.5 5-3 5-7.5 5-7.5-5-7.5-5zm7.5-2a2 2 0 1 0 0 4 2 2 0 0 0 0-4", object)
      : iconButton("show", say("show_object", who), "M3 3l14 14M8.2 5.2A8 8 0 0 1 10 5c4.5 0 7.5 5 7.5 5a14 14 0 0 1-2 2.5M5 6.800A13 13 0 0 0 2.5 10s3 5 7.5 5a7.5 7.5 0 0 0 3-.6", object);
    eye.setAttribute("aria-pressed", String(!object.visible));
    const rename = iconButton("rename", say("rename_object", who), "M4 16l.8-3.2L13 4.600l2.400 2.400-8.2 8.2zM11.5 6.100l2.400 2.400", object);
    const drop = iconButton("delete", say("delete_object", who), "M5 5l10 10M15 5L5 15", object);
    for (const button of [rename, drop]) button.disabled = isBusy();
    pick.disabled = isBusy();
    item.append(pick, eye, rename, drop);
    return item;
  }));
  find(".iz-objects .more").disabled = isBusy();
}

find(".iz-objects").addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button || !model) return;
  const label = Number(button.dataset.label);
  const object = model.objects.find((one) => one.id === label);
  if (button.dataset.act === "pick") ask({ do: "pick", label });
  if (button.dataset.act === "delete") ask({ do: "delete", label });
  if (button.dataset.act === "new") ask({ do: "new" });
  if (button.dataset.act === "show" && object) ask({ do: "show", label, visible: !object.visible });
  if (button.dataset.act === "rename" && object) writeName(button.closest("li"), object);
});

function writeName(item, object) {
  const input = document.createElement("input");
  input.type = "text";
  input.maxLength = 40;
  input.value = object.name;
  input.placeholder = say("object", object.id);
  input.setAttribute("aria-label", say("rename_object", nameOf(object)));
  item.querySelector(".pick span").replaceWith(input);
  input.focus();
  let done = false;
  const end = (keep) => {
    if (done) return;
    done = true;
    input.remove();
    if (keep) ask({ do: "name", label: object.id, name: input.value }); else showObjects();
  };
  input.addEventListener("click", (event) => event.stopPropagation());
  input.addEventListener("blur", () => end(true));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") end(true);
    if (event.key === "Escape") end(false);
    event.stopPropagation();
  });
}

function showActions() {
  const busy = isBusy();
  const followed = model.tracked && !model.stale;
  const track = find("#track");
  const remove = find("#remove");
  const cancel = find("#cancel");
  const forth = find("#forth");
  track.textContent = say(model.tracked ? "track_again" : "track");
  track.hidden = remove.hidden = busy;
  track.disabled = busy || !model.marked || followed;
  remove.disabled = busy || !followed;
  track.classList.toggle("primary", !followed);
  remove.classList.toggle("primary", followed);
  cancel.hidden = !busy;
  cancel.disabled = busy && model.job.stopping;
  forth.hidden = busy || !model.result;
  find("#preview").hidden = busy || !followed || Boolean(model.result);
  showTrials();
  find(".iz-foot").hidden = busy;
  find("#settings").hidden = busy;
}

function showTrials() {
  const box = find(".iz-trials");
  const stamp = model.trials.map((one) => one.url).join(" ") + speech;
  box.hidden = !model.trials.length;
  if (box.dataset.stamp === stamp) return;
  box.dataset.stamp = stamp;
  box.replaceChildren(...model.trials.map((one) => {
    const figure = document.createElement("figure");
    const film = document.createElement("video");
    film.src = one.url;
    film.muted = film.loop = film.autoplay = film.controls = film.playsInline = true;
    const known = config && config.engines.find((each) => each.stage === "inpaint" && each.name === one.engine && each.weights);
    const told = say("preview_of", known ? known.title : one.engine === "builtin" ? say("built_in") : one.engine);
    film.setAttribute("aria-label", told);
    const caption = document.createElement("figcaption");
    caption.textContent = told + ", " + say("from_to", number(one.start + 1), number(one.stop));
    figure.append(film, caption);
    return figure;
  }));
}

function line(name, text, role) {
  const p = document.createElement("p");
  p.className = name;
  if (role) p.setAttribute("role", role);
  p.textContent = text;
  return p;
}

function showStatus() {
  const parts = [];
  const notice = (model && model.notice) || trouble;
  if (notice) parts.push(line("wrong", translate(notice), "alert"));
  if (model && model.job) {
    parts.push(progress(model.job));
  } else if (model && model.clip) {
    const next = !model.marked && !model.tracked ? "click" : !model.tracked ? "all"
      : model.stale ? "stale" : model.result ? "done" : "followed";
    const p = line("next", " " + say("next_" + next + "_how"));
    const strong = document.createElement("strong");
    strong.textContent = say("next_" + next);
    p.prepend(strong);
    parts.push(p);
    if (model.tracked && !model.stale && model.doubtful.length) parts.push(doubts());
  }
  const phase = model ? model.phase : "clip";
  const place = find(phase === "clip" ? "#clip-status" : "#status");
  find(phase === "clip" ? "#status" : "#clip-status").replaceChildren();
  patch(place, parts);
}

// a progress bar that is only moved keeps its place for screen readers and for the eye
function patch(place, parts) {
  const old = place.querySelector(".iz-progress");
  const fresh = parts.find((part) => part.classList.contains("iz-progress"));
  if (old && fresh && place.children.length === parts.length && parts.length === 1) {
    for (const name of ["aria-valuenow", "aria-label", "aria-valuetext"]) {
      if (fresh.hasAttribute(name)) old.setAttribute(name, fresh.getAttribute(name)); else old.removeAttribute(name);
    }
    old.querySelector("strong").textContent = fresh.querySelector("strong").textContent;
    old.querySelector("p span").textContent = fresh.querySelector("p span").textContent;
    old.querySelector("small").textContent = fresh.querySelector("small").textContent;
    old.querySelector(".bar").className = fresh.querySelector(".bar").className;
    old.querySelector(".bar i").style.width = fresh.querySelector(".bar i").style.width;
    return;
  }
  place.replaceChildren(...parts);
}

function progress(job) {
  const box = document.createElement("div");
  box.className = "iz-progress";
  box.setAttribute("role", "progressbar");
  box.setAttribute("aria-valuemin", "0");
  box.setAttribute("aria-valuemax", "100");
  const title = job.stopping ? say("stopping") : say("job_" + job.work);
  box.setAttribute("aria-label", title);
  const share = job.total ? Math.min(1, job.done / job.total) : null;
  const head = document.createElement("p");
  const strong = document.createElement("strong");
  strong.textContent = title + "…";
  const right = document.createElement("span");
  right.textContent = share === null ? "" : percent(share);
  head.append(strong, right);
  const bar = document.createElement("div");
  bar.className = share === null ? "bar moving" : "bar";
  const fill = document.createElement("i");
  if (share !== null) {
    fill.style.width = 100 * share + "%";
    box.setAttribute("aria-valuenow", String(Math.round(100 * share)));
  }
  bar.append(fill);
  const told = [];
  if (job.work === "queue" && job.place) told.push(say("place", number(job.place)));
  else if (job.work === "weights" && job.total) told.push(bytes(job.done) + " / " + bytes(job.total));
  else if (job.work === "follow") {  // both ways through the clip: the bar tells how far all of it is
    if (job.frame != null) told.push(say("frame_done", number(job.frame + 1), number(model.clip.frames)));
  } else if (job.total && job.done) told.push(say("frame_done", number(job.done), number(job.total)));
  if (job.left != null) told.push(say("left", roughly(job.left)));
  const small = document.createElement("small");
  small.textContent = told.join(" · ") || "\u00a0";
  const hint = document.createElement("em");
  hint.textContent = say("leave");
  box.append(head, bar, small, hint);
  return box;
}

function doubts() {
  const p = line("doubts", say("worth") + " ");
  for (const frame of model.doubtful.slice(0, 6)) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.frame = String(frame);
    button.textContent = number(frame + 1);
    p.append(button, " ");
  }
  if (model.doubtful.length > 6) p.append(say("and_more", number(model.doubtful.length - 6)));
  return p;
}

find("#status").addEventListener("click", (event) => {
  const button = event.target.closest("[data-frame]");
  if (button) go(Number(button.dataset.frame));
});
find("#track").addEventListener("click", () => ask({ do: "track" }));
find("#preview").addEventListener("click", () => ask({ do: "preview" }));
find("#remove").addEventListener("click", () => ask({ do: "remove" }));
find("#cancel").addEventListener("click", () => { find("#cancel").disabled = true; ask({ do: "cancel" }); });
find("#forth").addEventListener("click", () => ask({ do: "forth" }));
find("#back").addEventListener("click", () => ask({ do: "back" }));
for (const id of ["#again", "#another"]) find(id).addEventListener("click", () => ask({ do: "again" }));

// the clip itself, to look at: a copy is made first where the browser cannot play it
let filmWanted = false;
const film = find(".iz-clip-film");
const playClip = find("#play-clip");
function showFilm(fresh) {
  if (fresh || model.notice) filmWanted = false;
  const on = filmWanted && Boolean(model.film);
  playClip.disabled = !model.film && isBusy();
  playClip.setAttribute("aria-pressed", String(on));
  playClip.title = say(on ? "hide_clip" : "play_clip");
  playClip.setAttribute("aria-label", playClip.title);
  if (on === !film.hidden) return;
  film.hidden = !on;
  if (on) { film.src = model.film; film.play().catch(() => {}); } else { film.pause(); film.removeAttribute("src"); film.load(); }
}
playClip.addEventListener("click", () => {
  filmWanted = !filmWanted;
  if (filmWanted && !model.film) { ask({ do: "play" }); return; }
  // the frame at which the player stood is the one to go on with
  const at = !filmWanted && film.currentTime > 0 && film.duration
    ? Math.min(model.clip.frames - 1, Math.floor(model.clip.frames * film.currentTime / film.duration)) : null;
  showFilm(false);
  if (at !== null && at !== model.stage.index) go(at);
});
film.addEventListener("pointerdown", (event) => event.stopPropagation());

function showFound() {
  const box = find(".iz-found");
  const list = box.querySelector("ul");
  const stamp = model.looked_for + model.found.map((one) => one.image).join(" ") + speech;
  for (const button of element.querySelectorAll("[data-what], #find-text button")) button.disabled = isBusy();
  const open = ["#tab-things", "#tab-text"].some((tab) => find(tab).getAttribute("aria-selected") === "true");
  box.hidden = !open || !model.found.length;
  if (list.dataset.stamp === stamp) { tellTicked(); return; }
  list.dataset.stamp = stamp;
  list.replaceChildren(...model.found.map((one) => {
    const item = document.createElement("li");
    const label = document.createElement("label");
    const tick = document.createElement("input");
    tick.type = "checkbox";
    tick.value = String(one.id);
    const image = document.createElement("img");
    image.src = one.image;
    image.alt = "";
    const text = document.createElement("span");
    text.textContent = one.name || say("thing", number(one.id));
    const small = document.createElement("small");
    small.textContent = say("from_to", number(one.first + 1), number(one.last + 1)) + " · " + percent(one.sure);
    label.append(tick, image, text, small);
    item.append(label);
    return item;
  }));
  tellTicked();
}

function ticked() { return [...element.querySelectorAll(".iz-found input:checked")].map((tick) => Number(tick.value)); }
function tellTicked() { find("#take-things").disabled = isBusy() || !ticked().length; }
find(".iz-found").addEventListener("change", tellTicked);
find(".iz-find").addEventListener("click", (event) => {
  const button = event.target.closest("[data-what]");
  if (button) ask({ do: "things", what: button.dataset.what });
});
find("#find-text").addEventListener("submit", (event) => {
  event.preventDefault();
  const what = find("#find-words").value.trim();
  if (what) ask({ do: "things", what });
});
find("#take-things").addEventListener("click", async () => {
  find("#take-things").disabled = true;
  await ask({ do: "take", items: ticked() });
  for (const tick of element.querySelectorAll(".iz-found input")) tick.checked = false;
  tellTicked();
});

const masksInput = find("#masks-file");
masksInput.addEventListener("change", async () => {
  const file = masksInput.files[0];
  if (!file || !model || sending) return;
  const answer = await uploadFile("iz/" + model.tab + "/masks", file, () => {});
  masksInput.value = "";
  take(answer);
});

// ---------------------------------------------------------------- settings

const marginAuto = find("#auto-margin");
const margin = find("#margin");
const cover = find("#cover");
const soft = find("#soft");
const quality = find("#quality");
const partFirst = find("#part-first");
const partLast = find("#part-last");
const memory = find("#memory");

function showSettings() {
  const settings = model.settings;
  if (find("#settings").contains(document.activeElement) && find("#engines").children.length) return;
  marginAuto.checked = settings.grow_px === null;
  if (settings.grow_px !== null) margin.value = String(settings.grow_px);
  cover.checked = settings.second_pass === "box";
  soft.value = String(settings.feather_px);
  quality.value = settings.crf === null ? "" : String(settings.crf);
  partFirst.max = partLast.max = String(model.clip.frames);
  partFirst.value = String(settings.part ? settings.part[0] + 1 : 1);
  partLast.value = String(settings.part ? settings.part[1] + 1 : model.clip.frames);
  memory.value = settings.memory_limit_mb === null ? "" : String(settings.memory_limit_mb);
  showSettingNumbers();
  if (!config) return;
  find("#engines").replaceChildren(...["segment", "track", "inpaint", "detect"].map((stage) => engineChoice(stage, settings)));
}

function showSettingNumbers() {
  margin.disabled = marginAuto.checked;
  cover.disabled = !marginAuto.checked;
  find('output[for="margin"]').textContent = marginAuto.checked ? "" : margin.value;
  find('output[for="soft"]').textContent = soft.value;
}

function licenceOf(one) { return say(one.commercial ? "engine_free" : "engine_nc", one.licence); }

// detectors are not chosen but fetched: what is looked for says which one it takes
function engineChoice(stage, settings) {
  const choices = config.engines.filter((one) => one.stage === stage);
  const box = document.createElement("div");
  const title = document.createElement("span");
  title.textContent = say("engine_" + stage);
  if (stage === "detect") box.append(title); else box.append(engineSelect(stage, settings, choices, title));
  const absent = choices.filter((choice) => !choice.here);
  if (config.limits.fetch && absent.length) box.append(engineFetch(absent));
  box.hidden = stage === "detect" && !box.querySelector("details");
  return box;
}

function engineSelect(stage, settings, choices, title) {
  const own = choices.find((one) => one.own);
  const now = settings.engines[stage] || (own ? own.name : "builtin");
  const label = document.createElement("label");
  const select = document.createElement("select");
  select.dataset.stage = stage;
  for (const one of choices) {
    const option = document.createElement("option");
    option.value = one.name;
    option.disabled = !one.here && !one.own;
    option.selected = one.name === now;
    option.textContent = (one.weights ? one.title : say("engine_builtin", one.title))
      + (one.here ? "" : " (" + say("engine_needs", one.size) + ")");
    select.append(option);
  }
  const chosen = choices.find((one) => one.name === now);
  const small = document.createElement("small");
  if (chosen) small.textContent = licenceOf(chosen);
  label.append(title, select, small);
  return label;
}

function engineFetch(absent) {
  const more = document.createElement("details");
  more.className = "iz-more";
  const summary = document.createElement("summary");
  summary.textContent = say("more_engines", number(absent.length));
  const list = document.createElement("ul");
  list.append(...absent.map((one) => {
    const item = document.createElement("li");
    const told = document.createElement("span");
    told.textContent = one.title;
    const small = document.createElement("small");
    small.textContent = one.size + " · " + licenceOf(one);
    told.append(small);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "iz-button small";
    button.dataset.weights = one.weights;
    button.textContent = say("fetch_one");
    button.setAttribute("aria-label", say("fetch", one.title, one.size));
    item.append(told, button);
    return item;
  }));
  more.append(summary, list);
  return more;
}

function saveSettings() {
  const engines = {};
  for (const select of element.querySelectorAll("#engines select")) {
    const own = config.engines.find((one) => one.stage === select.dataset.stage && one.own);
    if (!own || own.name !== select.value) engines[select.dataset.stage] = select.value;
  }
  showSettingNumbers();
  ask({
    do: "settings",
    grow_px: marginAuto.checked ? null : Number(margin.value),
    feather_px: Number(soft.value),
    second_pass: cover.checked && marginAuto.checked ? "box" : "none",
    part: [Number(partFirst.value) - 1, Number(partLast.value) - 1],
    memory_limit_mb: memory.value === "" ? null : Number(memory.value),
    crf: quality.value === "" ? null : Number(quality.value),
    engines,
  });
}

find("#settings").addEventListener("change", saveSettings);
find("#settings").addEventListener("input", showSettingNumbers);
find("#engines").addEventListener("click", async (event) => {
  const button = event.target.closest("[data-weights]");
  if (!button) return;
  event.preventDefault();
  await ask({ do: "weights", weights: button.dataset.weights });
});

// ---------------------------------------------------------------- language and start

const languages = find("#language");
for (const [code, name] of Object.entries(TABLE.languages)) {
  const option = document.createElement("option");
  option.value = code;
  option.textContent = name;
  option.lang = code;
  languages.append(option);
}
languages.addEventListener("change", () => {
  speech = languages.value;
  try { localStorage.setItem("inpainterz-language", speech); } catch (error) { /* not kept then */ }
  speak();
  show();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && model && model.job) later(50); });
window.addEventListener("pageshow", (event) => { if (event.persisted && model) ask({ do: "look" }); });

const known = new URL(location.href).searchParams.get("job") || undefined;
speech = chooseLanguage();
languages.value = speech;
speak();
if (!known) show();  // at once, for the first paint
ask({ do: "hello", tab: known }).then(show);
