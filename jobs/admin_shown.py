"""What the admin shows of jobs and runs beside their columns."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobs import output
from jobs.models import Job, JobRun, JobState

_SHOWN_BYTES = 256 * 1024
_JOBS_LISTED = 100
# Colours, cursor movements, window titles: what a terminal obeys and a page would show as rubbish.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def with_summary(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Jobs with `is_enabled`, `last_status` and `last_run` of their rows in `job_state`; a missing row is enabled."""
    state = JobState.objects.filter(name=OuterRef("name"))
    return jobs.annotate(
        is_enabled=Coalesce(Subquery(state.values("enabled")[:1]), Value(True)),
        last_status=Subquery(state.values("last_status")[:1]),
        last_run=Subquery(state.values("last_run")[:1]),
    )


def state_label(state: str | None) -> SafeString | str:
    """A state with a class for its colour; the word itself says it too."""
    return format_html('<span class="state state-{}">{}</span>', state, state) if state else "–"


def plain_text(text: str) -> str:
    """Output as a page can show it: without what only a terminal understands; a rewritten line keeps its last form."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(_CONTROLS.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in lines)


def output_shown(run: JobRun) -> SafeString | str:
    """The end of a run's output, escaped, with a link to all of it."""
    if not run.pk:
        return "–"
    size = output.size_on_disk(run.pk)
    if not size:
        gone = run.output_bytes and not run.is_active
        return "No longer kept." if gone else "None yet." if run.is_active else "None."
    data, cut = output.tail(run.pk, _SHOWN_BYTES)
    link = reverse("admin:jobs_jobrun_output", args=[run.pk])
    note = format_html('<p class="help">The last {} kB of it.</p>', _SHOWN_BYTES // 1000) if cut else ""
    text = plain_text(data.decode(errors="replace"))
    return format_html(
        '{}<pre class="output" tabindex="0" aria-label="Output">{}</pre><p><a href="{}">All of it as text</a></p>',
        note,
        text,
        link,
    )


class JobFilter(admin.SimpleListFilter):
    """By job; of very many only the first by name are listed, and the one that is chosen."""

    title = "job"
    parameter_name = "job"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        names = list(Job.objects.order_by("name").values_list("name", flat=True)[:_JOBS_LISTED])
        if self.value() and self.value() not in names:
            names.append(str(self.value()))
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[JobRun]) -> QuerySet[JobRun]:
        return queryset.filter(job__name=self.value()) if self.value() else queryset


class EnabledFilter(admin.SimpleListFilter):
    """By whether the schedule runs the job."""

    title = "enabled"
    parameter_name = "enabled"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("yes", "Yes"), ("no", "No")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(is_enabled=self.value() == "yes") if self.value() in {"yes", "no"} else queryset


class LastStatusFilter(admin.SimpleListFilter):
    """By how the last run ended."""

    title = "last status"
    parameter_name = "last_status"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(each, each) for each in ("success", "failed", "timeout", "error", "none")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "none":
            return queryset.filter(last_status=None)
        return queryset.filter(last_status=self.value()) if self.value() else queryset
