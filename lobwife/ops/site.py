"""The admin site that operators work in: its index is the dashboard."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path

from lobwife.ops import dashboard


class OperationsSite(AdminSite):
    """Django's admin with a dashboard for an index and parts of pages that refresh in place."""

    site_header = "lobwife"
    site_title = "lobwife"
    index_title = "Dashboard"
    enable_nav_sidebar = True

    def get_urls(self) -> list[URLPattern | URLResolver]:
        live = path("live/dashboard/", self.admin_view(self.live_dashboard), name="live_dashboard")
        return [live, *super().get_urls()]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The dashboard; it also loads, and says so, when the database or the daemon is in trouble."""
        context = {
            **self.each_context(request),
            "title": self.index_title,
            **dashboard.context(),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/index.html", context)

    def live_dashboard(self, request: HttpRequest) -> HttpResponse:
        """The part of the dashboard that refreshes in place."""
        return TemplateResponse(request, "ops/dashboard.html", dashboard.context())


class OperationsConfig(AdminConfig):
    default_site = "lobwife.ops.site.OperationsSite"
