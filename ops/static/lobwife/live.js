// Live parts (data-live) pause while the tab is hidden or somebody chooses something in them, and say so when they
// can't be refreshed.
"use strict";
(() => {
  const part = (event) => event.target.closest && event.target.closest("[data-live]");

  const inUse = (each) => each.querySelector(":checked:not(option)")
    || each.querySelector(":focus:is(input, select, textarea)") || each.querySelector(".feed details[open]")
    || [...each.querySelectorAll("select, textarea")].some((field) => field.value);

  // What somebody typed is never thrown away: the page says that the session ended, and stays.
  let typed = false;
  document.addEventListener("input", (event) => { typed ||= !!event.target.closest("#content form"); });
  const signedOut = () => {
    if (!typed) return location.reload();
    if (document.getElementById("signed-out")) return;
    const banner = document.createElement("p");
    banner.id = "signed-out";
    banner.className = "paused";
    banner.setAttribute("role", "alert");
    const link = document.createElement("a");
    Object.assign(link, { href: "/admin/login/", target: "_blank", rel: "noopener", textContent: "Sign in" });
    banner.append("You are signed out; what you typed is still here. ", link, " in a new tab, then save.");
    document.getElementById("content").prepend(banner);
  };

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.matches("[data-live]") && (document.hidden || inUse(event.target))) event.preventDefault();
  });
  // Somebody may have begun while the answer was under way.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { elt } = event.detail.requestConfig;
    if (elt.matches("[data-live]") && inUse(elt)) event.detail.shouldSwap = false;
  });
  // A form that was refreshed sends to where it says now; htmx reads that a moment later.
  document.addEventListener("htmx:configRequest", (event) => {
    if (!event.target.matches("form")) return;
    const submitter = event.detail.triggeringEvent && event.detail.triggeringEvent.submitter;
    const action = (submitter && submitter.getAttribute("formaction")) || event.target.getAttribute("action");
    if (action) event.detail.path = action;
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) document.querySelectorAll("[data-live]").forEach((each) => htmx.trigger(each, "live"));
  });
  for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(failure, (event) => {
      const stale = part(event);
      if (!stale) return;
      const answer = event.detail.xhr;
      if (answer && [401, 403].includes(answer.status)) return signedOut();
      const said = document.getElementById("said");
      if (said && !event.target.matches("[data-live]")) {
        const isSentence = answer && (answer.getResponseHeader("Content-Type") || "").startsWith("text/plain");
        said.textContent = isSentence ? answer.responseText : "That did not work: lobwife does not answer. Try again.";
      } else {
        markStale(stale);
      }
    });
  }
  // Words, and not a paler page alone; they are gone with the next answer.
  const markStale = (stale) => {
    if (stale.id !== "frame-live") stale.classList.add("stale");
    if (document.querySelector(".lost")) return;
    const lost = document.createElement("p");
    lost.className = "lost banner banner-bad";
    lost.setAttribute("role", "alert");
    lost.textContent = `lobwife has not answered since ${new Date().toLocaleTimeString()}: this is how it was then.`
      + " The page goes on by itself.";
    (document.getElementById("frame-live") || stale).before(lost);
  };
  // The tab says how many problems there are, and its icon that one is bad.
  const title = document.title.replace(/^\(\d+\) /, "");
  const count = () => {
    const frame = document.getElementById("frame-live");
    if (!frame) return;
    const { problems, questions, worst } = frame.dataset;
    document.title = problems === "0" ? title : `(${problems}) ${title}`;
    const icon = document.getElementById("icon");
    icon.href = worst === "bad" ? icon.dataset.bad : icon.dataset.good;
    for (const [id, number] of [["problem-count", problems], ["question-count", questions]]) {
      const badge = document.getElementById(id);
      if (!badge) continue;
      badge.hidden = number === "0";
      badge.firstElementChild.textContent = number;
    }
  };
  document.addEventListener("htmx:afterSettle", count);
  document.addEventListener("htmx:afterSwap", (event) => {
    const fresh = part(event);
    if (!fresh) return;
    fresh.classList.remove("stale");
    document.querySelectorAll(".lost").forEach((each) => each.remove());
  });

  // What somebody opened stays open.
  let opened = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    const old = part(event);
    opened = old ? [...old.querySelectorAll("details[class][open]")].map((each) => each.className) : [];
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    const fresh = part(event);
    for (const each of fresh ? fresh.querySelectorAll("details[class]") : []) each.open ||= opened.includes(each.className);
  });

  // A card that moved had the focus on a button that is gone: the card keeps it, or the one that took its place.
  let focused = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    const card = part(event) && document.activeElement.closest("[data-card]");
    if (!card) return;
    const next = [card.nextElementSibling, card.previousElementSibling].find((each) => each && each.matches("[data-card]"));
    focused = [card.id, next && next.id];
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    if (!focused || !part(event)) return;
    const ids = focused;
    focused = null;
    if (document.activeElement !== document.body) return;
    const card = ids.map((id) => id && document.getElementById(id)).find(Boolean);
    const link = (card || document).querySelector(card ? "a" : ".tabs [aria-current]");
    if (link) link.focus();
  });

  // The next firings follow the schedule as one types.
  const firings = document.getElementById("firings");
  let typing;
  for (const id of ["id_schedule", "id_timezone"]) {
    const field = firings && document.getElementById(id);
    if (field) field.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => htmx.trigger(firings, "preview"), 250);
    });
  }

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
