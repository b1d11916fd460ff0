// Ctrl-K or a click into the search field opens the palette; arrows choose, Enter goes. Without this file the field
// leads to the search page.
"use strict";
(() => {
  const palette = document.getElementById("palette");
  if (!palette) return;
  const field = palette.querySelector("input");
  const matches = () => [...palette.querySelectorAll(".match")];
  const open = (text = "") => {
    if (palette.open) return;
    field.value = text;
    palette.showModal();
    htmx.trigger(field, "open");
  };
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) {
      event.preventDefault();
      open();
    }
  });
  const button = document.querySelector(".search-everywhere .icon-button");
  if (button) button.addEventListener("click", (event) => {
    if (document.getElementById("search-everywhere").value) return;
    event.preventDefault();
    open();
  });
  palette.addEventListener("click", (event) => { if (event.target === palette) palette.close(); });
  palette.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const all = [field, ...matches()];
    const step = event.key === "ArrowDown" ? 1 : -1;
    all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus();
    event.preventDefault();
  });
  // Enter goes to the first match, once the list is the one of these words; before that the form searches everywhere.
  let listed = "";
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id === "palette-matches") listed = field.value;
  });
  field.form.addEventListener("submit", (event) => {
    const first = matches()[0];
    if (!first || listed !== field.value || !field.value.trim()) return;
    event.preventDefault();
    first.click();
  });
})();
