"""The admin site that operators work in: its index is the dashboard."""

from __future__ import annotations

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
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path

from access import resend
from core.errors import LobwifeError
from core.processes import in_native_thread
from core.sqlite.copies import folder, keep_copy
from core.timestamps import iso_text, parse, utc_now
from jobs.models import Job
from ops import activity, costs, dashboard, invisible_characters, job_summary, search
from ops.checks import state
from ops.invisible_characters import View

_SOURCES = ("jobs.view_job", "tasks.view_task", "broker.view_tokenaudit")
_ORDER = ("jobs", "tasks", "broker", "vaultsync", "lobwife", "auth", "axes")


class OperationsSite(AdminSite):
    """Django's admin with a dashboard for an index and parts of pages that refresh in place."""

    site_header = "lobwife"
    site_title = "lobwife"
    index_title = "Dashboard"
    enable_nav_sidebar = True
    empty_value_display = "–"  # as in core.display

    def get_urls(self) -> list[URLPattern | URLResolver]:
        own = [
            path("live/dashboard/", self.admin_view(self.live_dashboard), name="live_dashboard"),
            path("live/job/<int:pk>/", self.admin_view(self.live_job), name="live_job"),
            path("activity/", self.admin_view(self.activity), name="activity"),
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
                return resend.signed_out(request)
            return page(request, *args, **kwargs)

        return cast(View, update_wrapper(keep_input, page))

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """List what operators work with first, accounts and their like last."""
        listed = super().get_app_list(request, app_label)
        return sorted(
            listed, key=lambda app: _ORDER.index(app["app_label"]) if app["app_label"] in _ORDER else len(_ORDER)
        )

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "environment": settings.ENVIRONMENT, "api_url": settings.LOBWIFE_URL}

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The dashboard; it also loads, and says so, when the database or the daemon is in trouble."""
        _require_view(request)
        context = {
            **self.each_context(request),
            "title": self.index_title,
            **dashboard.context(),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/index.html", context)

    def live_dashboard(self, request: HttpRequest) -> HttpResponse:
        """The part of the dashboard that refreshes in place."""
        _require_view(request)
        return TemplateResponse(request, "ops/dashboard.html", dashboard.context())

    def live_job(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of a job's page that refreshes in place."""
        if not request.user.has_perm("jobs.view_job"):
            raise PermissionDenied
        return TemplateResponse(
            request, "ops/job_live.html", job_summary.context(get_object_or_404(Job, pk=pk), request.user)
        )

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
        context = {**self.each_context(request), "title": "Copies", "copies": state.copies(), "folder": folder()}
        return TemplateResponse(request, "ops/copies.html", context)

    def search(self, request: HttpRequest) -> HttpResponse:
        """Tasks, jobs and runs that fit; a single one is gone to at once."""
        _require_view(request)
        query = request.GET.get("q", "")
        matches = search.search(query)
        if len(matches) == 1:
            return HttpResponseRedirect(matches[0].url)
        context = {**self.each_context(request), "title": "Search", "search_query": query, "matches": matches}
        return TemplateResponse(request, "ops/search.html", context)

    def activity(self, request: HttpRequest) -> HttpResponse:
        """Show what people and programs did, newest first; the first page refreshes in place."""
        _require_view(request)
        until_then = parse(request.GET.get("before"))
        before = until_then or utc_now() + timedelta(seconds=1)
        chosen = {"kind": request.GET.get("kind", ""), "who": request.GET.get("who", "").strip()}
        entries = activity.entries(before=before, **chosen)
        until = iso_text(entries[-1].at.replace(microsecond=0)) if len(entries) >= activity.PAGE else ""
        older = urlencode({**chosen, "before": until}) if until else ""
        is_newest = until_then is None and not any(chosen.values())
        context = {**self.each_context(request), "title": "Activity", "entries": entries, "kinds": activity.KINDS}
        context |= {**chosen, "older": older, "is_newest": is_newest}
        return TemplateResponse(request, "ops/activity.html", context)


def _require_view(request: HttpRequest) -> None:
    """Raise PermissionDenied for staff that may not view what the dashboard, activity and search are made of."""
    if not request.user.has_perms(_SOURCES):
        raise PermissionDenied


def job_page(request: HttpRequest, name: str) -> HttpResponse:
    """The page of a job by its name; who is not signed in does so first."""
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path(), "admin:login")
    return redirect("admin:jobs_job_change", get_object_or_404(Job, name=name).pk)
