"""Views of the buttons for jobs and runs: POST only, each with its permission."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import escape, format_html, format_html_join
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST, require_safe

from core.errors import Invalid, LobwifeError, NotFound
from core.timestamps import utc_now
from jobs import services
from jobs.admin import run_page
from jobs.execution import output, runs
from jobs.models import Job, JobRun, Trigger
from jobs.scheduling import cron

_FIRINGS_SHOWN = 10
CHANGE_JOB, CHANGE_RUN, VIEW_RUN = "jobs.change_job", "jobs.change_jobrun", "jobs.view_jobrun"


def actor_of(request: HttpRequest) -> str:
    """Return the operator's user name, for histories."""
    user: AbstractBaseUser | AnonymousUser = request.user
    return user.get_username()


def job_urls(site: admin.AdminSite) -> list[URLPattern]:
    """Run now, enable, disable; pause and resume all."""
    return [
        path("<int:pk>/run/", _button(site, CHANGE_JOB, run_job), name="jobs_job_run"),
        path("<int:pk>/enable/", _button(site, CHANGE_JOB, set_enabled, enabled=True), name="jobs_job_enable"),
        path("<int:pk>/disable/", _button(site, CHANGE_JOB, set_enabled, enabled=False), name="jobs_job_disable"),
        path("preview/", site.admin_view(require_safe(preview)), name="jobs_job_preview"),
        path("pause/", _button(site, CHANGE_JOB, set_paused, paused=True), {"pk": 0}, name="jobs_job_pause"),
        path("resume/", _button(site, CHANGE_JOB, set_paused, paused=False), {"pk": 0}, name="jobs_job_resume"),
    ]


def run_urls(site: admin.AdminSite) -> list[URLPattern]:
    """Abort, retry, and the whole output as text."""
    return [
        path("<int:pk>/abort/", _button(site, CHANGE_RUN, abort_run), name="jobs_jobrun_abort"),
        path("<int:pk>/retry/", _button(site, CHANGE_RUN, retry_run), name="jobs_jobrun_retry"),
        path("<int:pk>/live/", run_page.live_view(site), name="jobs_jobrun_live"),
        path("<int:pk>/output/", site.admin_view(whole_output), name="jobs_jobrun_output"),
    ]


def run_job(request: HttpRequest, pk: int) -> tuple[str, str]:
    run = runs.request_run(
        name=_name_of(pk),
        trigger=Trigger.OPERATOR,
        requested_by=actor_of(request),
        arguments=_arguments(request.POST.get("arguments", "")),
    )
    return f"Run {run.pk} of {run.job.name} is queued.", _page_of(run)


def set_enabled(request: HttpRequest, pk: int, *, enabled: bool) -> tuple[str, str]:
    job = services.set_enabled(name=_name_of(pk), enabled=enabled, actor=actor_of(request))
    return f"Job {job.name} is {'enabled' if enabled else 'disabled'}.", _previous_page(request)


def set_paused(request: HttpRequest, pk: int, *, paused: bool) -> tuple[str, str]:
    services.set_paused(paused=paused, actor=actor_of(request))
    sentence = "Paused. Running jobs will finish." if paused else "Starts are resumed."
    return sentence, reverse("admin:jobs_job_changelist")


def abort_run(request: HttpRequest, pk: int) -> tuple[str, str]:
    run = runs.abort_run(run_id=pk, actor=actor_of(request))
    return f"Run {pk} of {run.job.name} is {'being ended' if run.is_active else 'aborted'}.", _page_of(run)


def retry_run(request: HttpRequest, pk: int) -> tuple[str, str]:
    run = runs.retry_run(run_id=pk, requested_by=actor_of(request), trigger=Trigger.OPERATOR)
    return f"Run {run.pk} of {run.job.name} is queued.", _page_of(run)


def preview(request: HttpRequest) -> HttpResponse:
    """Return the next firings of a schedule that is being typed, or what is wrong with it."""
    if not request.user.has_perm("jobs.view_job"):
        raise PermissionDenied
    return HttpResponse(firings_shown(request.GET.get("schedule", ""), request.GET.get("timezone", "") or "UTC"))


def firings_shown(expression: str, timezone: str) -> SafeString:
    """Return the schedule in words and its next ten firings, as HTML."""
    try:
        moments = cron.firings_after(expression, timezone, utc_now(), _FIRINGS_SHOWN)
        words = cron.describe(expression)
    except Invalid as error:
        return format_html('<p class="problem">{}</p>', f"{error}.")
    items = format_html_join("", "<li>{}</li>", ((moment.strftime("%a %Y-%m-%d %H:%M"),) for moment in moments))
    return format_html("<p>{}</p><ol>{}</ol>", words, items)


def whole_output(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Return all that was kept, as plain text."""
    if not request.user.has_perm(VIEW_RUN):
        raise PermissionDenied
    if not JobRun.objects.filter(pk=pk).exists():
        raise Http404
    response = StreamingHttpResponse(output.whole(pk), content_type="text/plain; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _button(site: admin.AdminSite, permission: str, act: Callable[..., tuple[str, str]], **options: bool) -> Any:
    """Return a view that does one thing and goes back with a sentence; a refusal is a sentence too."""

    def view(request: HttpRequest, pk: int) -> HttpResponse:
        if not request.user.has_perm(permission):
            raise PermissionDenied
        level = messages.SUCCESS
        try:
            sentence, page = act(request, pk, **options)
        except NotFound as error:
            raise Http404(str(error)) from None
        except LobwifeError as error:
            level, sentence, page = messages.ERROR, str(error), _previous_page(request)
        if "HX-Request" in request.headers:  # a live page shows the sentence itself and stays where it is
            return HttpResponse(escape(sentence), headers={"HX-Trigger": "changed"})
        messages.add_message(request, level, sentence)
        return redirect(page)

    return site.admin_view(require_POST(view))


def _arguments(text: str) -> list[str] | None:
    """Split words as a shell does; nothing means the job's own. Raises Invalid."""
    try:
        return shlex.split(text) or None
    except ValueError as error:
        raise Invalid(f"the arguments can't be read: {error}") from None


def _name_of(pk: int) -> str:
    name = Job.objects.filter(pk=pk).values_list("name", flat=True).first()
    if name is None:
        raise NotFound(f"there is no job {pk}")
    return name


def _page_of(run: JobRun) -> str:
    return reverse("admin:jobs_jobrun_change", args=[run.pk])


def _previous_page(request: HttpRequest) -> str:
    """Return the page somebody came from, if it is one of ours."""
    url = request.META.get("HTTP_REFERER")
    ours = url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    return str(url) if ours else reverse("admin:jobs_job_changelist")
