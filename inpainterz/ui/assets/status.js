element.addEventListener("click", (event) => {
  const button = event.target.closest('[data-act="seek"]');
  if (button) trigger("seek", { frame: Number(button.dataset.frame) });
});
