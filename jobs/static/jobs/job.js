// The pages of a job: times in the reader's own zone, and in the form only the fields that apply.
"use strict";
(() => {
  const local = (root) => root.querySelectorAll("time[data-local]").forEach((each) => {
    const moment = new Date(each.dateTime);
    if (Number.isNaN(moment.getTime()) || !moment.getTimezoneOffset()) return;
    const text = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
    each.textContent = `${text} here`;
  });
  local(document);
  document.addEventListener("htmx:afterSwap", () => local(document));

  const RULES = [
    ["concurrency", (value) => value === "allow", ["max_parallel"]],
    ["misfire", (value) => value === "all", ["misfire_max"]],
    ["retries", (value) => Number(value) > 0, ["retry_delay_seconds", "retry_delay_max_seconds"]],
  ];
  for (const [name, applies, others] of RULES) {
    const field = document.getElementById(`id_${name}`);
    if (!field) continue;
    const show = () => others.forEach((other) => {
      const input = document.getElementById(`id_${other}`);
      const box = input && (input.closest(".form-multiline > div") || input.closest(".form-row"));
      if (!box) return;
      box.hidden = !applies(field.value) && !box.querySelector(".errorlist");
      const row = box.closest(".form-row");
      row.hidden = [...row.querySelectorAll(".form-multiline > div")].every((each) => each.hidden);
    });
    field.addEventListener("input", show);
    show();
  }
})();
