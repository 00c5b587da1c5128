const root = element.querySelector(".iz-result");
const [before, after] = element.querySelectorAll("video");
const play = element.querySelector('[data-act="play"]');
const seek = element.querySelector(".iz-seek");
const time = element.querySelector("output");
const share = element.querySelector(".iz-share");
const films = element.querySelector(".iz-films");
let told = null;

function take() {
  const news = props.value;
  if (!news || typeof news !== "object") {
    before.pause(); after.pause();
    before.removeAttribute("src"); after.removeAttribute("src");
    before.load(); after.load();
    told = null;
    return;
  }
  if (!told || told.after !== news.after || told.before !== news.before || told.stamp !== news.stamp) {
    before.src = news.before + "?v=" + news.stamp;
    after.src = news.after + "?v=" + news.stamp;
  }
  told = news;
  films.style.setProperty("--ratio", news.ratio);
  const clean = element.querySelector("#download-clean");
  clean.href = news.clean;
  clean.download = news.clean_name;
  clean.querySelector("small").textContent = news.clean_size;
  const masks = element.querySelector("#download-masks");
  masks.href = news.masks;
  masks.download = news.masks_name;
  element.querySelector(".iz-told").textContent = news.facts;
  element.querySelector(".iz-notes").textContent = news.notes.join(" ");
}

function follow() {
  // the clean one leads; the other is pulled along when it strays by more than a frame and a half
  const stray = Math.abs(before.currentTime - after.currentTime);
  if (told && stray > 1.5 / told.fps && !before.seeking) before.currentTime = after.currentTime;
}

function show() {
  const length = after.duration || 0;
  if (length) seek.value = String(Math.round((1000 * after.currentTime) / length));
  time.textContent = after.currentTime.toFixed(1) + " s of " + length.toFixed(1) + " s";
}

function start() {
  if (after.ended) { after.currentTime = 0; before.currentTime = 0; }
  after.play(); before.play();
}

play.addEventListener("click", () => { if (after.paused) start(); else { after.pause(); before.pause(); } });
for (const name of ["play", "pause", "ended"]) {
  after.addEventListener(name, () => {
    const on = !after.paused && !after.ended;
    root.classList.toggle("playing", on);
    play.setAttribute("aria-label", on ? "Pause" : "Play");
    if (!on) { before.pause(); follow(); }
  });
}
after.addEventListener("timeupdate", () => { follow(); show(); });
after.addEventListener("loadedmetadata", show);
after.addEventListener("seeked", show);
seek.addEventListener("input", () => {
  const at = (Number(seek.value) / 1000) * (after.duration || 0);
  after.currentTime = at; before.currentTime = at;
});
share.addEventListener("input", () => films.style.setProperty("--share", share.value + "%"));
root.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-mode]");
  if (!button) return;
  root.dataset.mode = button.dataset.mode;
  for (const other of root.querySelectorAll("button[data-mode]")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
});
watch("value", take);
take();
