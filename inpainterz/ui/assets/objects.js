element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  const label = Number(button.dataset.label);
  if (button.dataset.act === "pick") trigger("pick", { label });
  if (button.dataset.act === "delete") trigger("delete", { label });
  if (button.dataset.act === "new") trigger("new", {});
});
