const zone = element.querySelector(".iz-drop");
const input = element.querySelector("input");
const title = element.querySelector("strong");
const hint = element.querySelector("#clip-hint");
const bar = element.querySelector(".sending");
const asked = title.textContent;
const told = hint.textContent;
let limit = 2048;
let sending = null;
let ready = false;   // whether the server knows this tab yet
let early = null;    // a file that was chosen before

function idle(text) {
  sending = null;
  zone.classList.remove("busy", "over");
  bar.hidden = true;
  title.textContent = asked;
  hint.textContent = text || told;
  hint.classList.toggle("wrong", Boolean(text));
  input.value = "";
}

function send(file) {
  if (!file || sending) return;
  if (!ready) { early = file; return; }
  if (file.size > limit * 1e6) {
    idle("That file is larger than " + limit + " MB, which is the most that is taken.");
    return;
  }
  zone.classList.add("busy");
  hint.classList.remove("wrong");
  title.textContent = "Sending " + file.name;
  hint.textContent = "0 %";
  bar.hidden = false;
  bar.firstElementChild.style.width = "0";
  const form = new FormData();
  form.append("files", file);
  sending = new XMLHttpRequest();
  sending.open("POST", "gradio_api/upload");
  sending.upload.onprogress = (event) => {
    if (!event.lengthComputable) return;
    const share = Math.floor((100 * event.loaded) / event.total);
    bar.firstElementChild.style.width = share + "%";
    hint.textContent = share < 100 ? share + " %" : "Reading the clip…";
  };
  sending.onerror = () => idle("The upload broke off. Try again.");
  sending.onload = () => {
    let paths = null;
    try { paths = JSON.parse(sending.responseText); } catch (error) { paths = null; }
    if (sending.status === 413) {
      idle("That file is larger than " + limit + " MB, which is the most that is taken.");
    } else if (sending.status !== 200 || !Array.isArray(paths) || !paths[0]) {
      idle("The upload did not arrive. Try again.");
    } else {
      title.textContent = "Reading " + file.name;
      trigger("opened", { path: paths[0], name: file.name });
    }
  };
  sending.send(form);
}

input.addEventListener("change", () => send(input.files[0]));
for (const name of ["dragenter", "dragover"]) {
  zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.remove("over"); });
}
zone.addEventListener("drop", (event) => send(event.dataTransfer.files[0]));
function news() {
  if (!props.value || !props.value.serial) return;
  limit = props.value.limit_mb;
  ready = true;
  idle("");
  const file = early;
  early = null;
  send(file);
}
watch("value", news);
news();
