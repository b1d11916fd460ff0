// The output of a run: followed as it grows while "Follow" is on, the line of the address in view and marked.
"use strict";
(() => {
  const output = document.querySelector("pre.output");
  if (!output) return;
  const follow = document.getElementById("follow");

  const mark = () => {
    output.querySelectorAll(".is-target").forEach((each) => each.classList.remove("is-target"));
    const line = /^#L\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (!line) return;
    line.classList.add("is-target");
    output.scrollTop = line.offsetTop - output.clientHeight / 3;
  };
  window.addEventListener("hashchange", mark);

  // Who scrolls up wants to read; who scrolls to the end wants to follow.
  const toEnd = () => { if (follow && follow.checked) output.scrollTop = output.scrollHeight; };
  if (follow) {
    output.addEventListener("scroll", () => {
      follow.checked = output.scrollTop + output.clientHeight >= output.scrollHeight - 24;
    });
    follow.addEventListener("change", toEnd);
    new MutationObserver(toEnd).observe(output, { childList: true });
  }
  if (location.hash) mark(); else output.scrollTop = output.scrollHeight;
})();
