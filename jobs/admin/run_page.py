"""The page of a run: its output as it grows, search in it, what ran, the runs beside it."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from jobs.admin import definition_rows
from jobs.execution import ansi, output, queue_reasons
from jobs.models import JobRun, State

VIEW_RUN, CHANGE_RUN = "jobs.view_jobrun", "jobs.change_jobrun"
_SHOWN_BYTES = 64 * 1024
_LINES_FOUND = 200
_LINE_MOST = 500


def context(request: HttpRequest, run: JobRun) -> dict[str, Any]:
    """The page's part about output, what ran and what may be done."""
    siblings = JobRun.objects.filter(job_id=run.job_id)
    end = output.end(run.pk)
    start = max(0, end - _SHOWN_BYTES)
    query = request.GET.get("find", "").strip()[:200]
    return {
        "run": run,
        "waits_for": queue_reasons.for_run(run),
        "previous_run": siblings.filter(pk__lt=run.pk).order_by("-pk").values_list("pk", flat=True).first(),
        "next_run": siblings.filter(pk__gt=run.pk).order_by("pk").values_list("pk", flat=True).first(),
        "what_ran": definition_rows.rows(run.definition),
        "query": query,
        "found_lines": find_lines(run.pk, query) if query else None,
        "cut": start > 0,
        "output_gone": bool(not end and run.output_bytes and not run.is_active),
        **_piece(run, start, ansi.read_style("")),
        **_allowed(request, run),
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
    values = {
        "run": run,
        "waits_for": queue_reasons.for_run(run),
        "is_live": True,
        **_piece(run, int(offset), style),
        **_allowed(request, run),
    }
    headers = {} if values["more"] else {"HX-Trigger": "over"}
    return TemplateResponse(request, "admin/jobs/run_live.html", values, headers=headers)


def find_lines(run_id: int, query: str) -> list[tuple[int, str]]:
    """The first lines that hold the words, in any case, with their numbers."""
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
    """Output from an offset on, whole lines as long as the run may go on with the last one."""
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
    return {
        "html": html,
        "skipped": skipped,
        "offset": place,
        "style": ansi.style_text(style),
        "more": run.is_active or place < output.end(run.pk),
    }


def _allowed(request: HttpRequest, run: JobRun) -> dict[str, bool]:
    may = request.user.has_perm(CHANGE_RUN)
    return {
        "can_abort": may and run.is_active and not run.abort_requested_at,
        "can_retry": may and not run.is_active and run.state != State.SKIPPED,
    }


def live_view(site: admin.AdminSite) -> Any:
    return site.admin_view(live)
