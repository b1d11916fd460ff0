"""Registrations, the audit and the App's state in the admin. Nobody sees a token here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from broker import registration_keys, registrations, services
from broker.admin_lists import NAME_SHOWN, NONE, Worded, clock, first
from broker.audit import Caller
from broker.github import app
from broker.models import AllowedService, GitHubState, LegacyRegistration, TaskRegistration, TokenAudit
from core.display import badge, when
from core.errors import LobwifeError
from core.read_only_admin import ReadOnlyAdmin
from core.timestamps import shown_in_seconds, utc_now
from tasks.ids import include_typed_id
from tasks.models import OVER, Task, read_repos


class RegistrationAdmin(ReadOnlyAdmin):
    """What both kinds of registrations show, and the two actions, each after a confirmation."""

    actions = ("end", "register_again")
    list_per_page = 50
    subject_of: Callable[[Any], str]  # from the key of a row

    class Media:
        css: ClassVar = {"all": ["broker/admin.css"]}

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Ending and renewing are for those who may change registrations."""
        return request.user.has_perm(f"broker.change_{self.opts.model_name}")

    @admin.display(description="repositories")
    def repositories(self, obj: Any) -> str:
        return ", ".join(registrations.as_listed(obj).repos) or "unreadable"

    @admin.display(description="repositories")
    def first_repositories(self, obj: Any) -> str:
        return first(registrations.as_listed(obj).repos) or "unreadable"

    @admin.display(description="state")
    def standing(self, obj: Any) -> str:
        return registrations.as_listed(obj).refusal(obj.task_id) or "active"

    @admin.display(description="state")
    def state(self, obj: Any) -> SafeString:
        listed = registrations.as_listed(obj)
        over = listed.task_status if listed.status_now == registrations.ACTIVE and listed.task_status in OVER else None
        return badge(over or listed.status_now or "none")

    @admin.display(description="tokens", ordering="token_count")
    def tokens(self, obj: Any) -> int:
        return int(obj.token_count)

    @admin.display(description="registered")
    def age(self, obj: Any) -> str:
        return when(obj.registered_at if isinstance(obj, LegacyRegistration) else obj.broker_registered_at)

    @admin.action(description="End: no more tokens, those that are out are revoked", permissions=["end"])
    def end(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        return self._confirmed(
            request,
            queryset,
            action="end",
            question="End these registrations? Tokens that are out are revoked at GitHub.",
            yes="Yes, end them",
            apply=lambda subject, caller: services.end_registration(
                subject=subject, reason="ended by an operator", caller=caller
            ),
        )

    @admin.action(description="Register again with the same repositories", permissions=["end"])
    def register_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        return self._confirmed(
            request,
            queryset,
            action="register_again",
            question="Register these again, for the repositories that they have?",
            yes="Yes, register them again",
            apply=lambda subject, caller: services.register_again(subject=subject, caller=caller),
        )

    def _confirmed(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],
        *,
        action: str,
        question: str,
        yes: str,
        apply: Callable[[str, Caller], None],
    ) -> TemplateResponse | None:
        """Ask first; then do it to each, and say how many it was."""
        if request.POST.get("confirmed") != "yes":
            context = {
                **self.admin_site.each_context(request),
                "title": "Are you sure?",
                "opts": self.opts,
                "objects": queryset,
                "question": question,
                "yes": yes,
                "action": action,
                "checkbox": ACTION_CHECKBOX_NAME,
            }
            return TemplateResponse(request, "broker/confirm.html", context)
        caller = Caller(request.user.get_username(), request.META.get("REMOTE_ADDR", ""))
        done = 0
        for each in queryset:
            try:
                apply(self.subject_of(each.pk), caller)
                done += 1
            except LobwifeError as error:
                self.message_user(request, f"{each}: {error}", messages.ERROR)
        if done:
            self.message_user(request, f"Done for {done}.", messages.SUCCESS)
        return None


@admin.register(TaskRegistration)
class TaskRegistrationAdmin(RegistrationAdmin):
    subject_of = staticmethod(registration_keys.of_task)
    list_display = ("number", "short_name", "first_repositories", "state", "age", "tokens")
    list_filter = ("broker_status", "status")
    search_fields = ("name", "slug", "assigned_to", "broker_repos")
    search_help_text = "T42, name, slug, assignee or repository"
    fields = ("number", "name", "status", "repositories", "standing", "age", "tokens")
    readonly_fields = fields

    @admin.display(description="task")
    def number(self, obj: TaskRegistration) -> str:
        return obj.task_id

    @admin.display(description="name", ordering="name")
    def short_name(self, obj: TaskRegistration) -> str:
        return Truncator(obj.name).chars(NAME_SHOWN)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        return include_typed_id(search_term, "pk", queryset, found), has_duplicates

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return super().get_queryset(request).filter(broker_repos__isnull=False)


@admin.register(LegacyRegistration)
class LegacyRegistrationAdmin(RegistrationAdmin):
    subject_of = staticmethod(registration_keys.of_legacy)
    list_display = ("named", "first_repositories", "lobster_type", "state", "age", "tokens")
    list_filter = ("status",)
    search_fields = ("task_id", "repos")
    search_help_text = "Id or repository"
    fields = ("named", "repositories", "lobster_type", "standing", "age", "tokens")
    readonly_fields = fields

    @admin.display(description="id", ordering="task_id")
    def named(self, obj: LegacyRegistration) -> str:
        return obj.task_id


@admin.register(TokenAudit)
class TokenAuditAdmin(ReadOnlyAdmin):
    """Who asked for what, and how it ended."""

    list_display = ("when", "named", "what", "first_repositories", "identity", "ended")
    list_filter = (("action", Worded), ("outcome", Worded))
    search_fields = ("=task_id", "identity", "address", "=token_sha256", "repos", "reason")
    search_help_text = "T42, another id, identity, address, repository, reason, or base64(SHA-256(token))"
    show_full_result_count = False
    list_per_page = 50
    fields = (
        *("when", "named", "task_number", "what", "outcome", "reason"),
        *("identity", "address", "repositories", "allowed", "ends", "token_sha256"),
    )
    readonly_fields = fields

    class Media:
        css: ClassVar = {"all": ["broker/admin.css"]}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        return include_typed_id(search_term, "task_number", queryset, found), has_duplicates

    @admin.display(description="id", ordering="task_id")
    def named(self, obj: TokenAudit) -> str:
        return Truncator(obj.task_id).chars(NAME_SHOWN)

    @admin.display(description="permissions")
    def allowed(self, obj: TokenAudit) -> str:
        permissions = json.loads(obj.permissions) if obj.permissions else {}
        return ", ".join(f"{name}: {level}" for name, level in permissions.items()) or NONE

    @admin.display(description="token ends (UTC)")
    def ends(self, obj: TokenAudit) -> str:
        return shown_in_seconds(obj.expires_at) or obj.expires_at or NONE

    @admin.display(description="repositories")
    def first_repositories(self, obj: TokenAudit) -> str:
        return first(read_repos(obj.repos) or ()) or NONE

    @admin.display(description="repositories")
    def repositories(self, obj: TokenAudit) -> str:
        return ", ".join(read_repos(obj.repos) or ()) or NONE

    @admin.display(description="action", ordering="action")
    def what(self, obj: TokenAudit) -> str:
        return obj.get_action_display().lower()

    @admin.display(description="outcome", ordering="outcome")
    def ended(self, obj: TokenAudit) -> str | None:
        return ": ".join(filter(None, (obj.get_outcome_display().lower() if obj.outcome else None, obj.reason))) or None

    @admin.display(description="when (UTC)", ordering="id")
    def when(self, obj: TokenAudit) -> str:
        return shown_in_seconds(obj.created_at) or obj.created_at


@admin.register(GitHubState)
class GitHubStateAdmin(ReadOnlyAdmin):
    """The App: configured or why not, whose, how GitHub is. One page, no list: there is one App."""

    fields = (
        *("configured", "owner", "installation", "last_token", "rate"),
        *("rate_reset", "asked_again", "last_error", "last_failed", "githubs_clock"),
    )
    readonly_fields = fields

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return redirect("admin:broker_githubstate_change", GitHubState.load().pk)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        GitHubState.load()  # the row is there from the first look on
        return super().get_queryset(request)

    @admin.display(description="configured")
    def configured(self, obj: GitHubState) -> str:
        return app.trouble() or "yes"

    @admin.display(description="installation")
    def installation(self, obj: GitHubState) -> str:
        return settings.GH_APP_INSTALL_ID or NONE

    @admin.display(description="last new token")
    def last_token(self, obj: GitHubState) -> str:
        return when(obj.last_mint_at)

    @admin.display(description="rate limit")
    def rate(self, obj: GitHubState) -> str:
        return NONE if obj.rate_left is None else f"{obj.rate_left} calls left"

    @admin.display(description="limit is renewed")
    def rate_reset(self, obj: GitHubState) -> str:
        return when(obj.rate_reset_at)

    @admin.display(description="is asked again")
    def asked_again(self, obj: GitHubState) -> str:
        blocked = obj.blocked_until is not None and obj.blocked_until > utc_now()
        return when(obj.blocked_until) if blocked else "at the next call"

    @admin.display(description="last error was")
    def last_failed(self, obj: GitHubState) -> str:
        return when(obj.last_error_at)

    @admin.display(description="GitHub's clock")
    def githubs_clock(self, obj: GitHubState) -> str:
        return clock(obj.clock_skew)


@admin.register(AllowedService)
class AllowedServiceAdmin(admin.ModelAdmin[AllowedService]):
    """Services besides those of the settings; one that is taken off loses its tokens."""

    list_display = ("name", "note")
    fields = ("name", "note")

    def delete_model(self, request: HttpRequest, obj: AllowedService) -> None:
        services.disallow_service(name=obj.name)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[AllowedService]) -> None:
        for each in queryset:
            services.disallow_service(name=each.name)

    def get_readonly_fields(self, request: HttpRequest, obj: AllowedService | None = None) -> tuple[str, ...]:
        return ("name",) if obj is not None else ()
