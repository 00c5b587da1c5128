// Words in the reader's language, and how numbers are said in it. TABLE is assets/words.json.
let speech = "en";

function chooseLanguage() {
  let kept = null;
  try { kept = localStorage.getItem("inpainterz-language"); } catch (error) { kept = null; }
  for (const wish of [kept, ...(navigator.languages || [navigator.language || "en"])]) {
    const short = String(wish || "").toLowerCase().split("-")[0];
    if (TABLE.languages[short]) return short;
  }
  return "en";
}

function rank() { return Object.keys(TABLE.languages).indexOf(speech); }

function say(key, ...values) {
  const told = TABLE.words[key] || [key];
  return (told[rank()] || told[0]).replace(/\{(\d)\}/g, (whole, index) => String(values[Number(index)]));
}

// sentences of the server that are met most, by how they begin; the others come as they are
function translate(notice) {
  const known = rank() ? Object.entries(TABLE.notices) : [];
  const found = known.find(([begin]) => notice.toLowerCase().startsWith(begin.toLowerCase()));
  return found ? found[1][rank() - 1] : notice;
}

function number(value, digits = 0) {
  return new Intl.NumberFormat(speech, { maximumFractionDigits: digits }).format(value);
}

function percent(value) {
  return new Intl.NumberFormat(speech, { style: "percent", maximumFractionDigits: 0 }).format(value);
}

function span(seconds) {
  if (seconds < 59.95) return say("seconds", number(seconds, 1));
  const whole = Math.round(seconds);
  return say("minutes", number(Math.floor(whole / 60)), number(whole % 60));
}

// as rough as it is known
function roughly(seconds) {
  const step = seconds < 20 ? 1 : seconds < 120 ? 5 : 30;
  return span(Math.max(1, Math.round(seconds / step) * step));
}

function bytes(count) {
  if (count < 1e6) return number(Math.max(1, count / 1000)) + " kB";
  return count < 1e9 ? number(count / 1e6, 1) + " MB" : number(count / 1e9, 1) + " GB";
}

function speak() {
  document.documentElement.lang = speech;
  for (const node of element.querySelectorAll("[data-t]")) node.textContent = say(node.dataset.t);
  for (const node of element.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", say(node.dataset.tLabel));
  for (const node of element.querySelectorAll("[data-t-title]")) node.title = say(node.dataset.tTitle);
  for (const node of element.querySelectorAll("[data-t-hint]")) node.placeholder = say(node.dataset.tHint);
}
