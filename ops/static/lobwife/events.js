// Live parts that name events (data-events) are refreshed when one of them happens: two in a row at once, then one a second,
// or more rarely where an answer takes long; a failure may go before that once. While the stream is open they poll once a
// minute, or in data-rest seconds, for what time alone brings; without it they poll as they always did.
"use strict";
(() => {
  const parts = () => [...document.querySelectorAll("[data-events]")];
  if (!window.EventSource || !parts().length) return;
  const SHORTEST = 1000, SLOWNESS = 10, REST = 60, RETRY = 30_000;
  const FAILURES = ["failed", "timeout", "error", "lost"];
  const began = new Map(), took = new Map(), timers = new Map(); // by the id of the part, in milliseconds
  const paid = new Map(); // until when the refreshes so far use up one for each pause
  const loaded = Date.now();
  let source = null, isOpen = false, missed, retry = null;

  const wants = (each, event) => {
    const { events, subject } = each.dataset;
    return (!subject || subject === event.subject) && events.split(",").some((name) =>
      name.endsWith("*") ? event.type.startsWith(name.slice(0, -1)) : name === event.type);
  };
  const pause = (id) => Math.max(SHORTEST, SLOWNESS * (took.get(id) || 0));
  const refresh = (id, ahead = 1) => {
    const at = Math.max(Date.now() + 20, (paid.get(id) || 0) - ahead * pause(id));
    const planned = timers.get(id);
    if (planned && planned.at <= at) return;
    clearTimeout(planned && planned.timer);
    const timer = setTimeout(() => {
      timers.delete(id);
      const each = document.getElementById(id);
      if (each && !document.hidden) htmx.trigger(each, "live");
    }, at - Date.now());
    timers.set(id, { at, timer });
  };
  const refreshAll = () => { for (const each of parts()) refresh(each.id); };

  document.addEventListener("htmx:beforeRequest", (event) => {
    const each = event.target;
    if (event.defaultPrevented || !each.matches("[data-events], #frame-live")) return;
    const polls = !event.detail.requestConfig.triggeringEvent;
    const rest = (each.dataset.rest || REST) * 1000;
    if (polls && isOpen && each.dataset.events && Date.now() - (began.get(each.id) || loaded) < rest) event.preventDefault();
    else {
      began.set(each.id, Date.now());
      paid.set(each.id, Math.max(Date.now(), paid.get(each.id) || 0) + pause(each.id));
    }
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const { id } = event.target;
    if (began.has(id)) took.set(id, Date.now() - began.get(id));
  });

  // The frame asks for little: that the problems are others, such as a daemon that says nothing any more, concerns all.
  let problems = null;
  document.addEventListener("htmx:afterSettle", () => {
    const frame = document.getElementById("frame-live");
    const now = frame && `${frame.dataset.problems} ${frame.dataset.worst}`;
    if (problems !== null && now !== problems) refreshAll();
    problems = now;
  });

  const close = () => {
    if (source) source.close();
    clearTimeout(retry);
    source = null;
    isOpen = false;
    missed = true; // also what came between the page and its stream
  };
  const open = () => {
    close();
    const types = [...new Set(parts().flatMap((each) => each.dataset.events.split(",")))];
    source = new EventSource(`/api/v1/events?types=${encodeURIComponent(types.join(","))}`);
    source.onopen = () => {
      isOpen = true;
      if (missed) refreshAll();
      missed = false;
    };
    source.onmessage = (message) => {
      const event = JSON.parse(message.data);
      const concerned = parts().filter((each) => wants(each, event));
      const ahead = FAILURES.includes(event.data.state || event.data.status) ? 3 : 1;
      for (const each of concerned) refresh(each.id, ahead);
      if (concerned.length && document.getElementById("frame-live")) refresh("frame-live", ahead);
    };
    source.onerror = () => {
      isOpen = false;
      missed = true;
      // A browser opens it again by itself unless the answer was an error.
      if (source && source.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY);
    };
    for (const name of ["behind", "gone"]) source.addEventListener(name, refreshAll);
  };

  // A browser has six connections for a host: tabs that nobody looks at leave theirs to others.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  if (!document.hidden) open();
})();
