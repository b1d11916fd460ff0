"""The admin site that operators work in: its index is the overview."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from functools import update_wrapper
from typing import Any, cast
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path
from django.utils.html import escape
from django.views.decorators.http import require_POST

from access import expired_forms
from core.callers import operator_of
from core.database.backend import is_postgres
from core.display import by_day
from core.errors import Invalid, LobwifeError, NotFound
from core.processes import in_native_thread
from core.sqlite.copies import folder, keep_copy
from core.timestamps import iso_text, parse, utc_now
from jobs import time_range
from jobs.alerts import kinds
from jobs.models import Job
from ops import (
    activity,
    charts_page,
    costs,
    feed,
    fleet,
    invisible_characters,
    last_visit,
    navigation,
    overview,
    page_frame,
    problems,
    search,
)
from ops.checks import state
from ops.invisible_characters import View
from tasks import overdue
from tasks.models import Status, Task

_PALETTE_MOST = 6
_ACTIVITY_PARAMETERS = ("kind", "who", "failures", "range", "since", "until")
_FEED_PARAMETERS = ("type", "subject", "who", "range", "since", "until")
_SNOOZE_HOURS = 8
_ORDER = ("jobs", "tasks", "broker", "vaultsync", "webhooks", "lobwife", "auth", "axes")


class OperationsSite(AdminSite):
    """Django's admin with an overview for an index and parts of pages that refresh in place."""

    site_header = "lobwife"
    site_title = "lobwife"
    index_title = "Overview"
    site_url = None  # there is no other site to view
    enable_nav_sidebar = True
    empty_value_display = "–"  # as in core.display

    def get_urls(self) -> list[URLPattern | URLResolver]:
        own = [
            path("live/dashboard/", self.admin_view(self.live_dashboard), name="live_dashboard"),
            path("live/jobs/", self.admin_view(self.live_jobs), name="live_jobs"),
            path("charts/", self.admin_view(self.charts), name="charts"),
            path("fleet/", self.admin_view(self.fleet), name="fleet"),
            path("fleet/<int:pk>/move/", self.admin_view(require_POST(self.fleet_move)), name="fleet_move"),
            path("problems/acknowledge/", self.admin_view(require_POST(self.acknowledge)), name="acknowledge"),
            path("problems/reopen/", self.admin_view(require_POST(self.reopen)), name="reopen"),
            path("live/frame/", self.admin_view(self.live_frame), name="live_frame"),
            path("palette/", self.admin_view(self.palette), name="palette"),
            path("activity/", self.admin_view(self.activity), name="activity"),
            path("activity/events/", self.admin_view(self.feed), name="feed"),
            path("costs/", self.admin_view(self.costs), name="costs"),
            path("copies/", self.admin_view(self.copies), name="copies"),
            path("search/", self.admin_view(self.search), name="search"),
        ]
        return [*own, *super().get_urls()]

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        """As Django's, for every page of the admin; none of them hides a character of what others wrote.

        Who is signed out keeps what they typed: a redirect to the sign-in would lose it.
        """
        page = super().admin_view(invisible_characters.reveal_in_pages(view), cacheable)

        def keep_input(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            keeps_the_page = "HX-Request" in request.headers or request.POST
            if keeps_the_page and not request.user.is_authenticated:
                return expired_forms.signed_out(request)
            return page(request, *args, **kwargs)

        return cast(View, update_wrapper(keep_input, page))

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """List what operators work with first, accounts and their like last."""
        listed = super().get_app_list(request, app_label)
        return sorted(
            listed, key=lambda app: _ORDER.index(app["app_label"]) if app["app_label"] in _ORDER else len(_ORDER)
        )

    def overdue_limits(self) -> overdue.Limits:
        """Return after how many minutes a task is overdue, for the admin of tasks."""
        return kinds.overdue_limits()

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context = super().each_context(request)
        context |= {"environment": settings.ENVIRONMENT, "api_url": settings.LOBWIFE_URL}
        if context["has_permission"]:
            context |= {"nav": navigation.sidebar(request, context["available_apps"]), "frame": page_frame.load()}
        return context

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The overview; it also loads, and says so, when the database or the daemon is in trouble."""
        _require_view(request)
        values = overview.context()  # before the frame, which shows the count of problems
        moment = last_visit.begin_of_absence(request)
        context = {
            **self.each_context(request),
            "title": self.index_title,
            "is_overview": True,  # it has the banner's problems among its own
            **values,
            "digest": overview.since(moment) if moment and values["jobs"] is not None else None,
            **(extra_context or {}),
        }
        response = TemplateResponse(request, "admin/index.html", context)
        last_visit.remember(request, response)
        return response

    def live_dashboard(self, request: HttpRequest) -> HttpResponse:
        """The part of the overview that refreshes every few seconds: problems and figures."""
        _require_view(request)
        context = {**overview.live(utc_now()), "frame": page_frame.load()}
        return TemplateResponse(request, "ops/overview.html", context)

    def live_jobs(self, request: HttpRequest) -> HttpResponse:
        """The jobs on their time axis; nothing when a browser has seen all there is."""
        _require_view(request)
        now = utc_now()
        if request.GET.get("seen") == overview.JobFacts.load().digest(now):
            return HttpResponse(status=204)
        return TemplateResponse(request, "ops/overview_jobs.html", overview.jobs(now))

    def fleet(self, request: HttpRequest) -> HttpResponse:
        """Who works on what; what is filtered and how it is shown stays in the address."""
        _require_view(request)
        filters = fleet.Filters.read(request.GET)
        view = "board" if request.GET.get("view") == "board" else "agents"
        context = {**self.each_context(request), "title": "Fleet", "filters": filters, "view": view}
        context |= {"choices": fleet.choices(), "may_change": request.user.has_perm("tasks.change_task")}
        if view == "board":
            context["columns"] = fleet.board(filters)
        else:
            lanes = fleet.lanes(filters)
            counts = {
                status: filters.apply(Task.objects.filter(status=status)).count()
                for status in (Status.ACTIVE, Status.QUEUED)
            }
            context |= {"lanes": lanes[: fleet.LANES_SHOWN], "stuck": sum(lane.is_stuck for lane in lanes)}
            context |= {"active": counts[Status.ACTIVE], "queued": counts[Status.QUEUED]}
            context["more"] = counts[Status.ACTIVE] - len(context["lanes"])
        return TemplateResponse(request, "ops/fleet.html", context)

    def charts(self, request: HttpRequest) -> HttpResponse:
        """How things went over a range."""
        _require_view(request)
        choice = charts_page.choose(request.GET.get("range", ""), request.GET.get("job", "").strip())
        context = {**self.each_context(request), "title": "Charts", **charts_page.context(choice, utc_now())}
        return TemplateResponse(request, "ops/charts.html", context)

    def fleet_move(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Do what a button of the fleet says with a task."""
        if not request.user.has_perm("tasks.change_task"):
            raise PermissionDenied
        verb = request.POST.get("verb") or request.GET.get("verb", "")
        try:
            sentence = fleet.move(task_id=pk, verb=verb, caller=operator_of(request))
        except NotFound as error:
            raise Http404(str(error)) from None
        except LobwifeError as error:
            return _answer(request, str(error), messages.ERROR, "admin:fleet")
        return _answer(request, sentence, page="admin:fleet")

    def acknowledge(self, request: HttpRequest) -> HttpResponse:
        """Acknowledge a problem, or snooze it for some hours."""
        by, snoozed = _decider(request), request.POST.get("snooze", "")
        key = snoozed or request.POST.get("acknowledge", "")
        finding = problems.acknowledge(key=key, by=by, hours=_SNOOZE_HOURS if snoozed else None)
        if finding is None:
            return _answer(request, "That problem is over.")
        return _answer(request, f"Snoozed for {_SNOOZE_HOURS} hours." if snoozed else "Acknowledged.")

    def reopen(self, request: HttpRequest) -> HttpResponse:
        """Count a problem again that was acknowledged."""
        _decider(request)
        problems.reopen(key=request.POST.get("key", ""))
        return _answer(request, "It counts again.")

    def live_frame(self, request: HttpRequest) -> HttpResponse:
        """The banner of every page, and the number of problems."""
        return TemplateResponse(
            request,
            "ops/frame_live.html",
            {"frame": page_frame.load(fresh=True), "is_overview": "overview" in request.GET},
        )

    def palette(self, request: HttpRequest) -> HttpResponse:
        """What the palette lists for the words typed so far: everywhere one can go, and what can be done at once."""
        query = request.GET.get("q", "").strip()
        matches = self._matches(request, query, most=_PALETTE_MOST)
        return TemplateResponse(request, "ops/palette.html", {"matches": matches, "query": query})

    def _matches(self, request: HttpRequest, query: str, most: int = search.MOST) -> list[search.Match]:
        sections = navigation.sidebar(request, self.get_app_list(request))
        matches = search.pages_and_actions(query, request.user, sections)
        if request.user.has_perms(navigation.SOURCES):
            matches += search.search(query, most=most)
        return matches + search.keys(query, request.user)

    def costs(self, request: HttpRequest) -> HttpResponse:
        """Show what was spent, by day, type, model and repository, and the budgets."""
        if not request.user.has_perms(("tasks.view_cost", "tasks.view_budget")):
            raise PermissionDenied
        context = {**self.each_context(request), "title": "Costs", **costs.context(request.GET.get("days", ""))}
        return TemplateResponse(request, "ops/costs.html", context)

    def copies(self, request: HttpRequest) -> HttpResponse:
        """List the copies of the database, for superusers; POST makes one."""
        if not (isinstance(request.user, User) and request.user.is_superuser):
            raise PermissionDenied
        if request.method == "POST":
            try:
                made = in_native_thread(keep_copy)  # takes seconds where the database is large
                messages.success(request, f"Kept as {made.name}.")
            except LobwifeError as error:
                messages.error(request, f"No copy was made: {error}.")
            return redirect("admin:copies")
        context = {
            **self.each_context(request),
            "title": "Copies",
            "copies": state.copies(),
            "folder": folder(),
            "is_file": not is_postgres(),
        }
        return TemplateResponse(request, "ops/copies.html", context)

    def search(self, request: HttpRequest) -> HttpResponse:
        """Tasks, jobs and runs that fit; a single one is gone to at once."""
        _require_view(request)
        query = request.GET.get("q", "")
        matches = self._matches(request, query) if query.strip() else []
        if len(matches) == 1 and not matches[0].is_action:
            return HttpResponseRedirect(matches[0].url)
        kinds = Counter(match.kind for match in matches)
        context = {**self.each_context(request), "title": "Search", "search_query": query, "matches": matches}
        context |= {"most": search.MOST, "is_cut": max(kinds.values(), default=0) >= search.MOST}
        return TemplateResponse(request, "ops/search.html", context)

    def activity(self, request: HttpRequest) -> HttpResponse:
        """Show what people and programs did, newest first; the newest page refreshes in place."""
        _require_view(request)
        now = utc_now()
        try:
            chosen_range = time_range.read(request.GET, now, default="7d")
        except Invalid as error:
            messages.error(request, str(error))
            chosen_range = time_range.read({}, now, default="7d")
        before = parse(request.GET.get("before"))
        end = before or chosen_range.until or now + timedelta(seconds=1)
        chosen = {"kind": request.GET.get("kind", ""), "who": request.GET.get("who", "").strip()}
        only_failures = bool(request.GET.get("failures"))
        entries = activity.entries(before=end, since=chosen_range.since, only_failures=only_failures, **chosen)
        kept = {name: value for name, value in request.GET.items() if name in _ACTIVITY_PARAMETERS and value}
        until = iso_text(entries[-1].at.replace(microsecond=0)) if len(entries) >= activity.PAGE else ""
        of_time = {name: value for name, value in kept.items() if name not in {"range", "since", "until"}}
        context = {
            **self.each_context(request),
            **chosen,
            "title": "Activity",
            "days": by_day(entries, lambda entry: entry.at),
            "kinds": activity.KINDS,
            "failures": only_failures,
            "range": chosen_range,
            "presets": [(name, label, urlencode({**of_time, "range": name})) for name, label in time_range.PRESETS],
            "older": urlencode({**kept, "before": until}) if until else "",
            "is_newest": before is None and not any(chosen.values()) and chosen_range.until is None,
        }
        return TemplateResponse(request, "ops/activity.html", context)

    def feed(self, request: HttpRequest) -> HttpResponse:
        """List the events of the feed, newest first; the newest page refreshes in place."""
        _require_view(request)
        now = utc_now()
        try:
            chosen_range = time_range.read(request.GET, now)
        except Invalid as error:
            messages.error(request, str(error))
            chosen_range = time_range.TimeRange()
        chosen = {name: request.GET.get(name, "").strip()[:200] for name in ("type", "subject", "who")}
        before = request.GET.get("before", "")
        cursor = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
        entries = feed.entries(feed.Asked(**chosen, since=chosen_range.since, until=chosen_range.until, before=cursor))
        kept = {name: value for name, value in request.GET.items() if name in _FEED_PARAMETERS and value}
        of_time = {name: value for name, value in kept.items() if name in chosen}
        oldest = entries[-1].event.pk if len(entries) == feed.PAGE else None
        context = {
            **self.each_context(request),
            **chosen,
            "title": "Activity",
            "is_feed": True,
            "days": by_day(entries, lambda entry: entry.event.at),
            "type_choices": feed.type_choices(),
            "range": chosen_range,
            "presets": [(name, label, urlencode({**of_time, "range": name})) for name, label in time_range.PRESETS],
            "any_time": urlencode(of_time),
            "is_filtered": bool(kept),
            "older": urlencode({**kept, "before": oldest}) if oldest else "",
            "is_newest": cursor is None and chosen_range.until is None,
        }
        return TemplateResponse(request, "ops/feed.html", context)


def _decider(request: HttpRequest) -> str:
    """Return the name of who may say what is done about a problem; raises PermissionDenied."""
    if not request.user.has_perm("ops.add_acknowledgement"):
        raise PermissionDenied
    return request.user.get_username()


def _answer(
    request: HttpRequest, sentence: str, level: int = messages.SUCCESS, page: str = "admin:index"
) -> HttpResponse:
    """Answer a button: in place, or with the page that it was on."""
    if "HX-Request" in request.headers:
        return HttpResponse(escape(sentence), headers={"HX-Trigger": "changed"})
    messages.add_message(request, level, sentence)
    return redirect(page)


def _require_view(request: HttpRequest) -> None:
    """Raise PermissionDenied for staff that may not view what the overview, activity and search are made of."""
    if not request.user.has_perms(navigation.SOURCES):
        raise PermissionDenied


def job_page(request: HttpRequest, name: str) -> HttpResponse:
    """The page of a job by its name; who is not signed in does so first."""
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path(), "admin:login")
    return redirect("admin:jobs_job_change", get_object_or_404(Job, name=name).pk)
