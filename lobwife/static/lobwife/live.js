// Live parts (data-live) pause while the tab is hidden, and say so when they can't be refreshed.
"use strict";
(() => {
  const part = (event) => event.target.closest && event.target.closest("[data-live]");

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (part(event) && document.hidden) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) document.querySelectorAll("[data-live]").forEach((each) => htmx.trigger(each, "live"));
  });
  for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(failure, (event) => {
      const stale = part(event);
      if (!stale) return;
      if (event.detail.xhr && [401, 403].includes(event.detail.xhr.status)) return location.reload();
      stale.classList.add("stale");
    });
  }
  document.addEventListener("htmx:afterSwap", (event) => {
    const fresh = part(event);
    if (fresh) fresh.classList.remove("stale");
  });

  // "/" goes to the search field, as in every tool that has one.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const search = document.getElementById("search-everywhere");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  });
})();
