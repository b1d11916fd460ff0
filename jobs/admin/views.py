"""Views of the buttons for jobs and runs: POST only, each with its permission."""

from __future__ import annotations

import shlex
import zoneinfo
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db import close_old_connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST, require_safe

from core.display import previous_page
from core.errors import Invalid, LobwifeError, NotFound
from core.timestamps import utc_now
from jobs import queries, services
from jobs.admin import run_page
from jobs.admin.run_page import CHANGE_RUN, VIEW_RUN
from jobs.alerts import services as alert_services
from jobs.execution import output, runs
from jobs.models import Alert, AlertKind, Job, JobRun, Trigger
from jobs.scheduling import cron

_FIRINGS_SHOWN = 10
CHANGE_JOB = "jobs.change_job"


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
        path("<int:pk>/snooze/", _button(site, CHANGE_JOB, snooze), name="jobs_job_snooze"),
        path("preview/", site.admin_view(require_safe(preview)), name="jobs_job_preview"),
        path("pause/", _button(site, CHANGE_JOB, set_paused, paused=True), {"pk": 0}, name="jobs_job_pause"),
        path("resume/", _button(site, CHANGE_JOB, set_paused, paused=False), {"pk": 0}, name="jobs_job_resume"),
    ]


def run_urls(site: admin.AdminSite) -> list[URLPattern]:
    """Abort, retry, and the whole output as text."""
    return [
        path("<int:pk>/abort/", _button(site, CHANGE_RUN, abort_run), name="jobs_jobrun_abort"),
        path("<int:pk>/retry/", _button(site, CHANGE_RUN, retry_run), name="jobs_jobrun_retry"),
        path("<int:pk>/live/", site.admin_view(run_page.live), name="jobs_jobrun_live"),
        path("<int:pk>/error/", site.admin_view(require_safe(run_page.error_line)), name="jobs_jobrun_error"),
        path("<int:pk>/compare/", site.admin_view(partial(run_page.compare, site=site)), name="jobs_jobrun_compare"),
        path("<int:pk>/output/", site.admin_view(whole_output), name="jobs_jobrun_output"),
    ]


def alert_urls(site: admin.AdminSite) -> list[URLPattern]:
    """Send a test to a destination; snooze a kind; acknowledge an alert, or send it now."""
    return [
        path("test/", _button(site, CHANGE_JOB, send_test), {"pk": 0}, name="jobs_alert_test"),
        path("snooze/", _button(site, CHANGE_JOB, snooze_kind), {"pk": 0}, name="jobs_alert_snooze"),
        path("<int:pk>/acknowledge/", _button(site, CHANGE_JOB, acknowledge), name="jobs_alert_acknowledge"),
        path("<int:pk>/again/", _button(site, CHANGE_JOB, send_again), name="jobs_alert_again"),
    ]


def send_test(request: HttpRequest, pk: int) -> tuple[str, str]:
    alert = alert_services.send_test(fingerprint=request.POST.get("destination", ""), actor=actor_of(request))
    hint = "" if queries.daemon_is_alive() else " It waits for the daemon, which is down."
    return f"A test to {alert.destination} is on its way: see below whether it was sent.{hint}", _alerts_page()


def acknowledge(request: HttpRequest, pk: int) -> tuple[str, str]:
    alert = _alert(pk)
    alert_services.acknowledge([alert], actor=actor_of(request))
    return f"“{alert.title}” is acknowledged.", _previous_page(request)


def send_again(request: HttpRequest, pk: int) -> tuple[str, str]:
    alert = _alert(pk)
    if not alert_services.try_again([alert]):
        raise Invalid(f"alert {pk} does not wait to be sent")
    return f"“{alert.title}” is tried again now.", _previous_page(request)


def snooze(request: HttpRequest, pk: int) -> tuple[str, str]:
    job, hours = services.get_job(_name_of(pk)), _hours(request)
    until = alert_services.snooze(job=job, hours=hours, actor=actor_of(request))
    sentence = f"Alerts of {job.name} are snoozed for {hours} h." if until else f"Alerts of {job.name} are sent again."
    return sentence, _previous_page(request)


def snooze_kind(request: HttpRequest, pk: int) -> tuple[str, str]:
    kind, hours = request.POST.get("kind", ""), _hours(request)
    until = alert_services.snooze_kind(kind=kind, hours=hours, actor=actor_of(request))
    label = AlertKind(kind).label
    return (f"“{label}” is snoozed for {hours} h." if until else f"“{label}” is sent again."), _alerts_page()


def _hours(request: HttpRequest) -> int:
    hours = request.POST.get("hours", "")
    if not (hours.isascii() and hours.isdigit() and len(hours) < 4):
        raise Invalid("hours must be a whole number")
    return int(hours)


def _alert(pk: int) -> Alert:
    alert = Alert.objects.filter(pk=pk).first()
    if alert is None:
        raise NotFound(f"there is no alert {pk}")
    return alert


def _alerts_page() -> str:
    return reverse("admin:jobs_alert_changelist")


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
    """Run it again, with the arguments that were typed where there is a field for them."""
    typed = request.POST.get("arguments")
    run = runs.retry_run(
        run_id=pk,
        requested_by=actor_of(request),
        trigger=Trigger.OPERATOR,
        arguments=None if typed is None else _words(typed),
    )
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
    zone = zoneinfo.ZoneInfo(timezone)
    rows = (
        (
            f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M}",
            moment.isoformat(),
            "UTC" if timezone == "UTC" else f"{moment:%H:%M} UTC",
        )
        for moment in moments
    )
    items = format_html_join(
        "",
        '<li>{} <time class="quiet" datetime="{}" data-local="">{}</time></li>',
        rows,
    )
    return format_html('<p>{}</p><ol aria-label="Next, in {}">{}</ol>', words, timezone, items)


def whole_output(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Return all that was kept, as plain text."""
    if not request.user.has_perm(VIEW_RUN):
        raise PermissionDenied
    if not JobRun.objects.filter(pk=pk).exists():
        raise Http404

    def pieces() -> Iterator[bytes]:
        for piece in output.whole(pk):
            close_old_connections()  # others use it while the client reads
            yield piece

    response = StreamingHttpResponse(pieces(), content_type="text/plain; charset=utf-8")
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
    return _words(text) or None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
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
    return previous_page(request, reverse("admin:jobs_job_changelist"))
