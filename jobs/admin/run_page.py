"""The page of a run: its output as it grows, search in it, what ran, what it is compared with."""

from __future__ import annotations

import difflib
import shlex
import time
from functools import partial
from typing import Any

import orjson
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import close_old_connections, connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from core.callers import operator_of
from core.display import duration
from core.errors import TooManyRequests
from core.rest import is_gone
from events.readers import Reader, Wanted, readers
from events.types import expand
from jobs.admin import output_lines
from jobs.execution import ansi, output, queue_reasons
from jobs.models import FAILURES, Concurrency, JobRun, State
from jobs.scheduling import cron
from jobs.secrets import mask_environment

VIEW_RUN, CHANGE_RUN = "jobs.view_jobrun", "jobs.change_jobrun"
_COMPARED_BYTES, _COMPARED_LINES = 100_000, 1000
# Takes its own place when it is answered: what the run printed since. An answer waits for the run to print past `seen`.
_REST = (
    '<span id="more" data-live hx-get="{}?offset={}&amp;line={}&amp;style={}&amp;seen={}" '
    'hx-trigger="load delay:{}ms, live" hx-swap="outerHTML"></span>'
)
_SOON_MS, _LATER_MS = 500, 5000
_LONGEST_WAIT, _LOOK_SECONDS = 20.0, 0.4
_CHANGES = Wanted(expand(["run.*"]))
_CONCURRENCY: dict[str, str] = dict(Concurrency.choices)
_LABELS = {
    "script": "Script",
    "path": "Path",
    "arguments": "Arguments",
    "environment": "Environment",
    "secrets": "Secrets",
    "working_directory": "Working directory",
    "runs_on": "Runs on",
    "schedule": "Schedule",
    "timeout_seconds": "Time limit",
    "concurrency": "Concurrency",
}


def context(request: HttpRequest, run: JobRun) -> dict[str, Any]:
    """Return the page's part about output, what ran and what may be done."""
    siblings = JobRun.objects.filter(job_id=run.job_id)
    end = output.end(run.pk)
    query = request.GET.get("find", "").strip()[:200]
    line = _number(request.GET.get("line", ""))
    start = output_lines.around(run.pk, line) if line else output_lines.tail(run.pk)
    window = output_lines.window(run.pk, start, is_growing=run.is_active, folds=not run.is_active)
    follows = run.is_active and (not line or not window.is_full)
    return {
        **_state(request, run),
        "previous_run": siblings.filter(pk__lt=run.pk).order_by("-pk").values_list("pk", flat=True).first(),
        "next_run": siblings.filter(pk__gt=run.pk).order_by("pk").values_list("pk", flat=True).first(),
        "last_success": _success_before(run),
        "what_ran": definition_rows(run.definition),
        "words": shlex.join(map(str, run.arguments)),
        "query": query,
        "matches": output_lines.find(run.pk, query) if query else None,
        "line": line,
        "first_line": start.line,
        "earlier_line": max(1, start.line - output_lines.WINDOW_LINES // 2),
        "later_line": window.after.line + 200 if window.after.offset < end and not follows else None,
        "steps": output_lines.steps(run.pk),
        "has_times": bool(output.times(run.pk)),
        "output_gone": bool(not end and run.output_bytes and not run.is_active),
        "piece": format_html("{}{}", window.html, _more(run, window, end) if follows else ""),
        "follows": follows,
    }


def live(request: HttpRequest, pk: int) -> HttpResponse:
    """Return the output since an offset, and the run's state; with `seen`, once there is more output than that."""
    if not request.user.has_perm(VIEW_RUN):
        raise PermissionDenied
    offset, line = _offset(request.GET.get("offset", "0")), _number(request.GET.get("line", "")) or 1
    seen = _offset(request.GET.get("seen", ""))
    if offset is None:
        raise Http404
    is_full = seen is not None and not _wait_for_more(request, pk, seen)
    run = get_object_or_404(JobRun.objects.select_related("job"), pk=pk)
    end = output.end(run.pk)
    place = output_lines.Place(offset, line, ansi.read_style(request.GET.get("style", "")))
    window = output_lines.window(run.pk, place, is_growing=run.is_active)
    goes_on = run.is_active or window.after.offset < end
    state = render_to_string("admin/jobs/run_state.html", {"is_live": True, **_state(request, run)}, request)
    headers = {} if goes_on else {"HX-Trigger": "over"}
    more = _more(run, window, end, _LATER_MS if is_full else _SOON_MS) if goes_on else ""
    # Not by a template: each of its line ends would be one more line of output.
    return HttpResponse(f"{window.html}{more}{state.strip()}", headers=headers)


def _wait_for_more(request: HttpRequest, pk: int, seen: int) -> bool:
    """Wait until the run printed past an offset or changed its state; return False where too many wait already.

    It counts as a reader of events, and costs as little.
    """
    reader = Reader(_CHANGES, operator_of(request).identity, "", lambda: True, partial(is_gone, request))
    try:
        readers().enter(reader)
    except TooManyRequests:
        return False
    try:
        is_active = JobRun.objects.active().filter(pk=pk).exists()
        deadline = time.monotonic() + _LONGEST_WAIT
        with output.growth(pk) as has_grown:
            if not is_active or output.end(pk) != seen:
                return True
            if not connection.in_atomic_block:
                close_old_connections()  # the connection goes back before anything waits
            while time.monotonic() < deadline and not (reader.is_over or is_gone(request)):
                events = [orjson.loads(event.json) for event in reader.wait(_LOOK_SECONDS)]
                if reader.is_behind or has_grown():
                    break
                if any(event["data"]["run_id"] == pk for event in events):
                    break
        return True
    finally:
        readers().leave(reader)


def error_line(request: HttpRequest, pk: int) -> HttpResponse:
    """Go to the first line that looks like an error; to the end where none does."""
    if not request.user.has_perm(VIEW_RUN):
        raise PermissionDenied
    run = get_object_or_404(JobRun, pk=pk)
    line = output_lines.first_error(run.pk)
    page = reverse("admin:jobs_jobrun_change", args=[run.pk])
    return redirect(f"{page}?line={line}#L{line}" if line else page)


def compare(request: HttpRequest, pk: int, site: admin.AdminSite) -> HttpResponse:
    """Show a run beside the last success before it: what differs in how they ran, and in what they printed."""
    if not request.user.has_perm(VIEW_RUN):
        raise PermissionDenied
    run = get_object_or_404(JobRun.objects.select_related("job"), pk=pk)
    earlier = _success_before(run)
    if earlier is None:
        raise Http404
    before, after = dict(definition_rows(earlier.definition)), dict(definition_rows(run.definition))
    changed = [(label, before.get(label, ["–"]), after.get(label, ["–"])) for label in _LABELS.values()]
    longer = (run.duration or 0) - (earlier.duration or 0)
    lines = list(difflib.unified_diff(_last_lines(earlier), _last_lines(run), n=3, lineterm=""))[2:]
    return TemplateResponse(
        request,
        "admin/jobs/run_compare.html",
        {
            **site.each_context(request),
            "title": f"Run {run.pk} compared with run {earlier.pk}",
            "opts": JobRun._meta,
            "run": run,
            "earlier": earlier,
            "changed": [row for row in changed if row[1] != row[2]],
            "lines": [(_DIFF_KINDS.get(line[:1], ""), line) for line in lines],
            "difference": duration(abs(longer)),
            "is_longer": longer > 0,
        },
    )


_DIFF_KINDS = {"+": "is-added", "-": "is-removed", "@": "is-place"}


def _last_lines(run: JobRun) -> list[str]:
    data, _ = output.tail(run.pk, _COMPARED_BYTES)
    return ansi.plain_text(data.decode(errors="replace")).splitlines()[-_COMPARED_LINES:]


def _success_before(run: JobRun) -> JobRun | None:
    """Return the last run of the job before this one that succeeded, for one that is over."""
    if run.is_active:
        return None
    earlier = JobRun.objects.filter(job_id=run.job_id, pk__lt=run.pk, state=State.SUCCESS)
    return earlier.order_by("-pk").first()


def _more(run: JobRun, window: output_lines.Window, end: int, delay: int = _SOON_MS) -> str:
    """Return what asks for the rest: past the window at once, past the end once there is more."""
    url, place = reverse("admin:jobs_jobrun_live", args=[run.pk]), window.after
    seen = "" if window.is_full else end
    return format_html(_REST, url, place.offset, place.line, ansi.style_text(place.style), seen, delay)


def _offset(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 10 else None


def _state(request: HttpRequest, run: JobRun) -> dict[str, Any]:
    """Return the run, why it is still queued, and what this person may do with it."""
    may = request.user.has_perm(CHANGE_RUN)
    return {
        "run": run,
        "has_failed": run.state in FAILURES,
        "waits_for": queue_reasons.for_run(run),
        "can_abort": may and run.is_active and not run.abort_requested_at,
        "can_retry": may and not run.is_active and run.state != State.SKIPPED,
    }


# --- the job as it ran, whatever was edited since
def definition_rows(definition: object) -> list[tuple[str, list[str]]]:
    """Return labels, each with the lines of its value; of what was broken by hand, what can be read."""
    if not isinstance(definition, dict):
        return []
    return [(label, _lines_of(name, definition)) for name, label in _LABELS.items() if name in definition]


def _lines_of(name: str, definition: dict[str, Any]) -> list[str]:
    match name, definition[name]:
        case "arguments", list() as words:
            return [shlex.join(map(str, words)) or "none"]
        case "environment", dict() as pairs:
            return [f"{key}={text}" for key, text in mask_environment(pairs).items()] or ["none of its own"]
        case "secrets", list() as entries:
            return [", ".join(map(str, entries)) or "none"]
        case "working_directory", "":
            return ["the home directory"]
        case "runs_on", "":
            return ["the daemons"]
        case "schedule", str() as expression if expression:
            zone = definition.get("timezone")
            return [expression, cron.describe_safely(expression) + (f" ({zone})" if zone else "")]
        case "timeout_seconds", (int() | float()) as seconds:
            return [duration(seconds)]
        case "concurrency", str() as policy:
            return [_CONCURRENCY.get(policy, policy)]
        case _, value:
            return [str(value)]
