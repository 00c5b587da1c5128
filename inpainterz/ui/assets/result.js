// The result: two players that keep together, a wipe, the map of what was seen and invented.
const resultRoot = element.querySelector(".iz-result");
const films = element.querySelector(".iz-films");
const [before, after] = films.querySelectorAll("video");
const beforeName = films.querySelector(".before figcaption");
const play = element.querySelector('[data-act="play"]');
const seekBar = element.querySelector(".iz-seek");
const playTime = element.querySelector(".iz-play output");
const shareBar = element.querySelector(".iz-share");
let resultShown = null;

function showResult() {
  const made = model && model.result;
  if (!made) {
    if (resultShown) {
      for (const film of [before, after]) { film.pause(); film.removeAttribute("src"); film.load(); }
    }
    resultShown = null;
    return;
  }
  const fresh = !resultShown || resultShown.stamp !== made.stamp || resultShown.after !== made.after;
  resultShown = made;
  if (fresh) {
    after.src = made.after;
    setMode("side");
  }
  films.style.setProperty("--ratio", made.ratio);
  for (const what of ["clean", "masks", "overlay", "report", "project"]) {
    const link = element.querySelector("#download-" + what);
    link.href = made.files[what].url;
    link.download = made.files[what].name;
    link.querySelector("small").textContent = bytes(made.files[what].size);
  }
  const key = element.querySelector(".iz-key");
  key.style.setProperty("--seen", made.seen_colour);
  key.style.setProperty("--invented", made.invented_colour);
  element.querySelector(".iz-told").textContent = say(
    "result_facts", model.clip.width, model.clip.height, number(model.clip.frames), span(model.clip.seconds), span(made.seconds));
  const hole = made.seen_px + made.invented_px;
  const notes = [];
  if (hole && !made.invented_px) notes.push(say("all_seen"));
  else if (hole && made.invented_px < 0.005 * hole) notes.push(say("nearly_seen"));
  else if (hole) notes.push(say("part_seen", percent(made.seen_px / hole), percent(made.invented_px / hole)));
  if (made.ghost_frames.length && model.settings.second_pass === "none") {
    notes.push(say("ghosts", number(made.ghost_frames.length), number(made.ghost_frames[0] + 1)));
  }
  for (const text of made.not_carried) notes.push(say("not_carried", text));
  element.querySelector(".iz-notes").textContent = notes.join(" ");
  showPosition();
}

function setMode(mode) {
  if (!resultShown) return;
  resultRoot.dataset.mode = mode;
  for (const button of resultRoot.querySelectorAll("button[data-mode]")) {
    button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  }
  const source = mode === "map" ? resultShown.origin : resultShown.before;
  if (before.dataset.source !== source || !before.hasAttribute("src")) {
    const at = after.currentTime;
    before.dataset.source = source;
    before.src = source;
    before.currentTime = at;
    if (!after.paused) before.play();
  }
  beforeName.textContent = say(mode === "map" ? "origin" : "original");
  element.querySelector(".iz-key").hidden = mode !== "map";
}

function keepTogether() {
  // the clean one leads; the other is pulled along when it strays by more than a frame and a half
  const stray = Math.abs(before.currentTime - after.currentTime);
  if (resultShown && stray > 1.5 / resultShown.fps && !before.seeking) before.currentTime = after.currentTime;
}

function showPosition() {
  const length = after.duration || 0;
  if (length) seekBar.value = String(Math.round((1000 * after.currentTime) / length));
  playTime.textContent = say("of_seconds", number(after.currentTime, 1), number(length, 1));
}

play.addEventListener("click", () => {
  if (!after.paused) { after.pause(); before.pause(); return; }
  if (after.ended) { after.currentTime = 0; before.currentTime = 0; }
  after.play();
  before.play();
});
for (const name of ["play", "pause", "ended"]) {
  after.addEventListener(name, () => {
    const on = !after.paused && !after.ended;
    resultRoot.classList.toggle("playing", on);
    play.setAttribute("aria-label", say(on ? "pause" : "play"));
    if (!on) { before.pause(); keepTogether(); }
  });
}
after.addEventListener("timeupdate", () => { keepTogether(); showPosition(); });
after.addEventListener("loadedmetadata", showPosition);
after.addEventListener("seeked", () => { keepTogether(); showPosition(); });
before.addEventListener("loadedmetadata", keepTogether);
seekBar.addEventListener("input", () => {
  const at = (Number(seekBar.value) / 1000) * (after.duration || 0);
  after.currentTime = at;
  before.currentTime = at;
});
shareBar.addEventListener("input", () => films.style.setProperty("--share", shareBar.value + "%"));
resultRoot.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-mode]");
  if (button) setMode(button.dataset.mode);
});
