"""The page of a run: its output as it grows, search in it, what ran, the runs beside it."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html

from core.display import duration
from jobs.execution import ansi, output, queue_reasons
from jobs.models import Concurrency, JobRun, State
from jobs.scheduling import cron
from jobs.secrets import mask_environment

VIEW_RUN, CHANGE_RUN = "jobs.view_jobrun", "jobs.change_jobrun"
_SHOWN_BYTES = 64 * 1024
_LINES_FOUND = 200
_LINE_MOST = 500
# Takes its own place when it is answered: what the run printed since.
_REST = (
    '<span id="more" data-live hx-get="{}?offset={}&amp;style={}" hx-trigger="load delay:1s, live" '
    'hx-swap="outerHTML"></span>'
)
_CONCURRENCY: dict[str, str] = dict(Concurrency.choices)
_LABELS = {
    "script": "Script",
    "arguments": "Arguments",
    "environment": "Environment",
    "secrets": "Secrets",
    "working_directory": "Working directory",
    "schedule": "Schedule",
    "timeout_seconds": "Time limit",
    "concurrency": "Concurrency",
}


def context(request: HttpRequest, run: JobRun) -> dict[str, Any]:
    """Return the page's part about output, what ran and what may be done."""
    siblings = JobRun.objects.filter(job_id=run.job_id)
    end = output.end(run.pk)
    start = max(0, end - _SHOWN_BYTES)
    query = request.GET.get("find", "").strip()[:200]
    return {
        **_state(request, run),
        "previous_run": siblings.filter(pk__lt=run.pk).order_by("-pk").values_list("pk", flat=True).first(),
        "next_run": siblings.filter(pk__gt=run.pk).order_by("pk").values_list("pk", flat=True).first(),
        "what_ran": definition_rows(run.definition),
        "query": query,
        "found_lines": find_lines(run.pk, query) if query else None,
        "cut": start > 0,
        "output_gone": bool(not end and run.output_bytes and not run.is_active),
        **_piece(run, start, ansi.read_style("")),
    }


def live(request: HttpRequest, pk: int) -> HttpResponse:
    """Return the output since an offset, and the run's state."""
    if not request.user.has_perm(VIEW_RUN):
        raise PermissionDenied
    run = JobRun.objects.select_related("job").filter(pk=pk).first()
    offset = request.GET.get("offset", "0")
    if run is None or not (offset.isascii() and offset.isdigit() and len(offset) < 16):
        raise Http404
    style = ansi.read_style(request.GET.get("style", ""))
    values = {"is_live": True, **_state(request, run), **_piece(run, int(offset), style)}
    state = render_to_string("admin/jobs/run_standing.html", values, request)
    headers = {} if values["more"] else {"HX-Trigger": "over"}
    return HttpResponse(values["piece"] + state.strip(), headers=headers)


def find_lines(run_id: int, query: str) -> list[tuple[int, str]]:
    """Return the first lines that hold the words, in any case, with their numbers."""
    matches = (
        (number, ansi.plain_text(line)[:_LINE_MOST])
        for number, line in enumerate(_lines(run_id), 1)
        if query.lower() in line.lower()
    )
    return list(islice(matches, _LINES_FOUND))


def _lines(run_id: int) -> Iterator[str]:
    rest = ""
    for text in codecs.iterdecode(output.whole(run_id), "utf-8", "replace"):
        *lines, rest = (rest + text).split("\n")
        yield from lines
    yield rest


def _piece(run: JobRun, offset: int, style: ansi.Style) -> dict[str, Any]:
    """Return output from an offset on, whole lines as long as the run may go on with the last one."""
    data, skipped, place = b"", 0, offset
    while len(data) < _SHOWN_BYTES:
        chunk = output.read(run.pk, place, _SHOWN_BYTES - len(data))
        if not chunk.data:
            break
        skipped += chunk.skipped
        data, place = data + chunk.data, chunk.next_offset
    if run.is_active or len(data) >= _SHOWN_BYTES:
        whole = data.rfind(b"\n") + 1
        if whole or len(data) < _SHOWN_BYTES:
            place -= len(data) - whole
            data = data[:whole]
    text = ansi.keep_last_form(data.decode(errors="replace"))
    html, style = ansi.to_html(text, style)
    note = format_html('<span class="quiet">[{} bytes left out]\n</span>', skipped) if skipped else ""
    more = run.is_active or place < output.end(run.pk)
    rest = format_html(_REST, reverse("admin:jobs_jobrun_live", args=[run.pk]), place, ansi.style_text(style))
    # Not by a template: each of its line ends would be one more line of output.
    return {"piece": format_html("{}{}{}", note, html, rest if more else ""), "more": more}


def _state(request: HttpRequest, run: JobRun) -> dict[str, Any]:
    """Return the run, why it is still queued, and what this person may do with it."""
    may = request.user.has_perm(CHANGE_RUN)
    return {
        "run": run,
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
        case "schedule", str() as expression if expression:
            zone = definition.get("timezone")
            return [expression, cron.describe_safely(expression) + (f" ({zone})" if zone else "")]
        case "timeout_seconds", (int() | float()) as seconds:
            return [duration(seconds)]
        case "concurrency", str() as policy:
            return [_CONCURRENCY.get(policy, policy)]
        case _, value:
            return [str(value)]


def live_view(site: admin.AdminSite) -> Any:
    return site.admin_view(live)
