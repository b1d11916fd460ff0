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
    waits = false;
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
  // Enter goes to the first match, as soon as the list is the one of these words; without a match, or an answer, the
  // form searches everywhere.
  let listed = "";
  let waits = false;
  const go = () => {
    const first = matches()[0];
    if (first) first.click();
    else field.form.submit();
  };
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!field.value.trim()) return;
    if (listed === field.value) go();
    else waits = true;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id !== "palette-matches") return;
    listed = new URL(event.detail.xhr.responseURL).searchParams.get("q") || "";
    if (waits && listed === field.value) go();
  });
  for (const failure of ["htmx:responseError", "htmx:sendError"]) {
    document.addEventListener(failure, (event) => { if (waits && event.target === field) field.form.submit(); });
  }
})();
