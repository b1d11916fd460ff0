"""The vault in the admin: its state, problems and syncs, and two buttons."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.display import ReadOnlyAdmin, duration
from core.errors import LobwifeError
from vaultsync import queries, services
from vaultsync.models import NoteProblem, SyncRequest, SyncRun, VaultState
from vaultsync.notes.layout import task_of_path

_MOST_PROBLEMS, _MOST_RUNS = 100, 20


@admin.register(VaultState)
class VaultAdmin(ReadOnlyAdmin):
    """One page instead of a list: there is one vault."""

    def get_urls(self) -> list[URLPattern]:
        ask = self.admin_site.admin_view(self.request_view)
        return [path("request/", ask, name="vaultsync_request"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Vault",
            "opts": self.opts,
            "state": VaultState.objects.first(),
            "status": queries.sync_status(),
            "problems": [(each, task_of_path(each.path)) for each in NoteProblem.objects.all()[:_MOST_PROBLEMS]],
            "problem_count": NoteProblem.objects.count(),
            "runs": SyncRun.objects.all()[:_MOST_RUNS],
            "requests": SyncRequest.objects.all(),
            "may_ask": request.user.has_perm("vaultsync.add_syncrequest"),
        }
        return TemplateResponse(request, "admin/vaultsync/vault.html", context)

    def request_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for a sync; a POST, for those who may add requests."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm("vaultsync.add_syncrequest"):
            raise PermissionDenied
        try:
            services.request_sync(actor=request.user.get_username(), full="full" in request.POST)
            messages.success(request, "Sync requested.")
        except LobwifeError as error:
            messages.error(request, f"Not possible: {error}.")
        return HttpResponseRedirect(reverse("admin:vaultsync_vaultstate_changelist"))


@admin.register(SyncRun)
class SyncRunAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "reason", "scope", "files", "to_remote", "took", "error")
    empty_text = "The daemon writes changed tasks into the vault within seconds; each time becomes a row."
    list_filter = ("full", "pushed", "started_at")
    fields = ("started_at", "reason", "scope", "files", "commit", "to_remote", "took", "error")

    @admin.display(description="compared", ordering="full")
    def scope(self, run: SyncRun) -> str:
        return "every note" if run.full else "what changed"

    @admin.display(description="pushed", ordering="pushed")
    def to_remote(self, run: SyncRun) -> str:
        return "yes" if run.pushed else "no"

    @admin.display(description="took", ordering="seconds")
    def took(self, run: SyncRun) -> str:
        return duration(run.seconds)


@admin.register(NoteProblem)
class NoteProblemAdmin(ReadOnlyAdmin):
    """Reports can be deleted, which is to dismiss them; one that still holds comes back."""

    list_display = ("path", "of_task", "kind", "what", "since")
    empty_text = "Notes that can't be synced, and edits that the sync put back, appear here until they are in order."
    list_filter = ("kind", "since")
    search_fields = ("path", "sentence")

    @admin.display(description="what")
    def what(self, problem: NoteProblem) -> str:
        return problem.sentence

    @admin.display(description="task")
    def of_task(self, problem: NoteProblem) -> SafeString | str:
        number = task_of_path(problem.path)
        if number is None:
            return "–"
        return format_html('<a href="{}">T{}</a>', reverse("admin:tasks_task_change", args=[number]), number)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("vaultsync.delete_noteproblem")
