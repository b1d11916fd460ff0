"""Registrations, the audit and the App's state in the admin. No page shows a token."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import quote

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet, TextField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst

from broker import registrations, repository_access, services
from broker.github import app
from broker.models import AllowedService, GitHubState, LegacyRegistration, TaskRegistration, TokenAudit
from core.callers import operator_of
from core.display import ReadOnlyAdmin, badge, duration, when
from core.timestamps import utc_now, whole_seconds
from events.admin_log import RecordedAdmin
from tasks.admin.bulk import apply_to_each
from tasks.ids import include_typed_id
from tasks.models import OVER, Task, read_repos

NONE = "–"
_LONGEST_NAME = 80
_FIRST_REPOSITORIES = 5
_HOW_TO_CONFIGURE = (
    "Agents get no tokens until GH_APP_ID, GH_APP_INSTALL_ID and GH_APP_PEM are set and lobwife is restarted:"
    " docs/broker.md shows each step."
)


class LowercaseChoicesFilter(admin.ChoicesFieldListFilter):
    """A filter whose choices are written as in a sentence, not as titles."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice in super().choices(changelist):
            yield {**choice, "display": capfirst(str(choice["display"]).lower())}


class AuditDayFilter(admin.SimpleListFilter):
    """The entries of the last days; times are text of which the day comes first."""

    title, parameter_name = "when", "days"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("0", "today"), ("1", "since yesterday"), ("7", "last 7 days"), ("30", "last 30 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[TokenAudit]) -> QuerySet[TokenAudit]:
        value = self.value()
        if value not in {"0", "1", "7", "30"}:
            return queryset
        return queryset.filter(created_at__gte=f"{utc_now() - timedelta(days=int(value)):%Y-%m-%d}")


def _time(field: str, description: str) -> Callable[[Any, GitHubState], str]:
    """Return a column that shows a time relative to now."""

    @admin.display(description=description)
    def column(self: Any, obj: GitHubState) -> str:
        return when(getattr(obj, field))

    return column


class RegistrationAdmin(ReadOnlyAdmin):
    """Columns and actions of both kinds of registrations; actions ask for a confirmation."""

    live_events = "token.*,registration.*"
    actions = ("end", "register_again")
    list_per_page = 50
    key_of: Callable[[Any], str]  # from the primary key of a row

    class Media:
        css: ClassVar = {"all": ["broker/admin.css"]}

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Allow ending and renewing to those who may change registrations."""
        return request.user.has_perm(f"broker.change_{self.opts.model_name}")

    @admin.display(description="repositories")
    def repositories(self, obj: Any) -> str:
        return ", ".join(registrations.from_row(obj).repos) or "unreadable"

    @admin.display(description="repositories")
    def first_repositories(self, obj: Any) -> str:
        return _first(registrations.from_row(obj).repos) or "unreadable"

    @admin.display(description="state")
    def status_text(self, obj: Any) -> str:
        return registrations.from_row(obj).refusal(obj.task_id) or "active"

    @admin.display(description="state")
    def state(self, obj: Any) -> SafeString:
        registration = registrations.from_row(obj)
        is_over = registration.task_status in OVER
        return badge((registration.task_status if is_over else registration.current_status) or "none")

    @admin.display(description="tokens", ordering="token_count")
    def tokens(self, obj: Any) -> int:
        return int(obj.token_count)

    @admin.display(description="registered")
    def age(self, obj: Any) -> str:
        return when(obj.registered_at if isinstance(obj, LegacyRegistration) else obj.broker_registered_at)

    @admin.action(description="End: no more tokens, those that are out are revoked", permissions=["end"])
    def end(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        return apply_to_each(
            self,
            request,
            queryset,
            label="End",
            question="End these registrations? Tokens that are out are revoked at GitHub.",
            yes="Yes, end them",
            apply=lambda row: services.end_registration(
                key=self.key_of(row.pk), reason="ended by an operator", caller=operator_of(request)
            ),
        )

    @admin.action(description="Register again with the same repositories", permissions=["end"])
    def register_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        return apply_to_each(
            self,
            request,
            queryset,
            label="Register again",
            question="Register these again, for the repositories that they have?",
            yes="Yes, register them again",
            apply=lambda row: services.register_again(key=self.key_of(row.pk), caller=operator_of(request)),
        )


@admin.register(TaskRegistration)
class TaskRegistrationAdmin(RegistrationAdmin):
    key_of = staticmethod(registrations.task_key)
    list_display = ("number", "short_name", "first_repositories", "state", "age", "tokens")
    empty_text = "A task may have GitHub tokens once it is registered for repositories; each such task is listed here."
    list_filter = ("broker_status", "status")
    search_fields = ("name", "slug", "assigned_to", "broker_repos")
    search_help_text = "T42, name, slug, assignee or repository"
    fields = ("task_page", "status", "repositories", "status_text", "age", "tokens", "audit_page")
    readonly_fields = fields

    @admin.display(description="task")
    def number(self, obj: TaskRegistration) -> str:
        return obj.task_id

    @admin.display(description="name", ordering="name")
    def short_name(self, obj: TaskRegistration) -> SafeString:
        return _task_link(obj.pk, Truncator(obj.name).chars(_LONGEST_NAME))

    @admin.display(description="task page")
    def task_page(self, obj: TaskRegistration) -> SafeString:
        return _task_link(obj.pk, f"{obj.task_id} {Truncator(obj.name).chars(_LONGEST_NAME)}")

    @admin.display(description="audit")
    def audit_page(self, obj: TaskRegistration) -> SafeString:
        url = reverse("admin:broker_tokenaudit_changelist")
        return format_html('<a href="{}?q={}">Every token of {}</a>', url, obj.task_id, obj.task_id)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        results, has_duplicates = super().get_search_results(request, queryset, search_term)
        return include_typed_id(search_term, "pk", queryset, results), has_duplicates

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return super().get_queryset(request).filter(broker_repos__isnull=False)


@admin.register(LegacyRegistration)
class LegacyRegistrationAdmin(RegistrationAdmin):
    key_of = staticmethod(registrations.legacy_key)
    list_display = ("named", "first_repositories", "lobster_type", "state", "age", "tokens")
    empty_text = "Registrations under an id that no task has, as the older service made them, appear here."
    list_filter = ("status",)
    search_fields = ("task_id", "repos")
    search_help_text = "Id or repository"
    fields = ("named", "repositories", "lobster_type", "status_text", "age", "tokens")
    readonly_fields = fields

    @admin.display(description="id", ordering="task_id")
    def named(self, obj: LegacyRegistration) -> str:
        return obj.task_id


@admin.register(TokenAudit)
class TokenAuditAdmin(ReadOnlyAdmin):
    """The audit, newest first."""

    list_display = ("when", "named", "action_text", "first_repositories", "who", "result")
    list_filter = (AuditDayFilter, ("action", LowercaseChoicesFilter), ("outcome", LowercaseChoicesFilter))
    change_list_template = "admin/broker/audit_list.html"
    live_events = "token.*,registration.*,access.*"
    empty_text = (
        "Each registration, token, refusal and revocation becomes a row: who asked, for what, and what came back."
    )
    search_fields = ("=task_id", "identity", "address", "=token_sha256", "repos", "reason")
    search_help_text = "T42, another id, identity, address, repository, reason, or base64(SHA-256(token))"
    show_full_result_count = False
    list_per_page = 50
    fields = (
        *("when", "named", "task_number", "action_text", "outcome", "repeats", "reason"),
        *("identity", "address", "repositories", "allowed", "expiry", "token_sha256"),
    )
    readonly_fields = fields

    class Media:
        css: ClassVar = {"all": ["broker/admin.css"]}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        results, has_duplicates = super().get_search_results(request, queryset, search_term)
        return include_typed_id(search_term, "task_number", queryset, results), has_duplicates

    def get_urls(self) -> list[URLPattern]:
        reach = self.admin_site.admin_view(self.reach_view)
        return [path("reach/", reach, name="broker_tokenaudit_reach"), *super().get_urls()]

    def reach_view(self, request: HttpRequest) -> HttpResponse:
        """Answer who could reach a repository on a day."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        repo, day = request.GET.get("repo", "").strip(), request.GET.get("day") or f"{utc_now():%Y-%m-%d}"
        answer = repository_access.on_day(repo, day) if repo else None
        context = {
            **self.admin_site.each_context(request),
            **{"title": "Who could reach a repository?", "opts": self.opts, "repo": repo, "media": self.media},
            **{"day": day, "answer": answer},
        }
        return TemplateResponse(request, "admin/broker/reach.html", context)

    @admin.display(description="for", ordering="task_id")
    def named(self, obj: TokenAudit) -> SafeString | str:
        text = Truncator(obj.task_id).chars(_LONGEST_NAME)
        return text if obj.task_number is None else _task_link(obj.task_number, text)

    @admin.display(description="identity", ordering="identity")
    def who(self, obj: TokenAudit) -> SafeString | str:
        if not obj.identity:
            return NONE
        name = Truncator(obj.who).chars(_LONGEST_NAME)
        return format_html('<a href="?q={}" title="{}">{}</a>', quote(obj.identity), obj.identity, name)

    @admin.display(description="permissions")
    def allowed(self, obj: TokenAudit) -> str:
        permissions = json.loads(obj.permissions) if obj.permissions else {}
        return ", ".join(f"{name}: {level}" for name, level in permissions.items()) or NONE

    @admin.display(description="token expires (UTC)")
    def expiry(self, obj: TokenAudit) -> str:
        return whole_seconds(obj.expires_at) or obj.expires_at or NONE

    @admin.display(description="repositories")
    def first_repositories(self, obj: TokenAudit) -> str:
        return _first(read_repos(obj.repos) or ()) or NONE

    @admin.display(description="repositories")
    def repositories(self, obj: TokenAudit) -> str:
        return ", ".join(read_repos(obj.repos) or ()) or NONE

    @admin.display(description="action", ordering="action")
    def action_text(self, obj: TokenAudit) -> str:
        return obj.get_action_display().lower()

    @admin.display(description="outcome", ordering="outcome")
    def result(self, obj: TokenAudit) -> str | None:
        outcome = obj.get_outcome_display().lower() if obj.outcome else None
        again = f"and {obj.repeats} times more within the minute" if obj.repeats else None
        return ": ".join(filter(None, (outcome, obj.reason, again))) or None

    @admin.display(description="when (UTC)", ordering="id")
    def when(self, obj: TokenAudit) -> str:
        return whole_seconds(obj.created_at) or obj.created_at


@admin.register(GitHubState)
class GitHubStateAdmin(ReadOnlyAdmin):
    """The state of the GitHub App: one page without a list, since there is one App."""

    fields = (
        *("configured", "owner", "installation", "last_token", "rate"),
        *("rate_reset", "asked_again", "last_error", "last_failed", "githubs_clock"),
    )
    readonly_fields = fields
    last_token = _time("last_mint_at", "last new token")
    rate_reset = _time("rate_reset_at", "limit is renewed")
    last_failed = _time("last_error_at", "last error was")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return redirect("admin:broker_githubstate_change", GitHubState.load().pk)

    def get_fields(self, request: HttpRequest, obj: GitHubState | None = None) -> tuple[str, ...]:
        return ("configured",) if app.problem() else self.fields  # without an App there is nothing else to say

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        GitHubState.load()  # creates the row
        return super().get_queryset(request)

    @admin.display(description="configured")
    def configured(self, obj: GitHubState) -> str:
        problem = app.problem()
        return f"{problem}. {_HOW_TO_CONFIGURE}" if problem else "yes"

    @admin.display(description="installation")
    def installation(self, obj: GitHubState) -> str:
        return settings.GH_APP_INSTALL_ID or NONE

    @admin.display(description="rate limit")
    def rate(self, obj: GitHubState) -> str:
        return NONE if obj.rate_left is None else f"{obj.rate_left} calls left"

    @admin.display(description="is asked again")
    def asked_again(self, obj: GitHubState) -> str:
        blocked = obj.blocked_until is not None and obj.blocked_until > utc_now()
        return when(obj.blocked_until) if blocked else "at the next call"

    @admin.display(description="GitHub's clock")
    def githubs_clock(self, obj: GitHubState) -> str:
        skew = obj.clock_skew
        return "as ours" if abs(skew) <= 1 else f"{duration(abs(skew))} {'ahead' if skew > 0 else 'behind'}"


@admin.register(AllowedService)
class AllowedServiceAdmin(RecordedAdmin):
    """Services besides those of the settings; removing one ends its tokens."""

    list_display = ("name", "note")
    empty_text = "A service that may have tokens for all repositories, besides those of LOBWIFE_BROKER_SERVICES."
    fields = ("name", "note")
    formfield_overrides: ClassVar = {TextField: {"widget": AdminTextInputWidget}}

    def delete_model(self, request: HttpRequest, obj: AllowedService) -> None:
        services.disallow_service(name=obj.name)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[AllowedService]) -> None:
        for service in queryset:
            services.disallow_service(name=service.name)

    def get_readonly_fields(self, request: HttpRequest, obj: AllowedService | None = None) -> tuple[str, ...]:
        return ("name",) if obj is not None else ()


def _task_link(number: int, text: str) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse("admin:tasks_task_change", args=[number]), text)


def _first(repositories: Sequence[str]) -> str:
    """Return as many names as fit a list, and how many more there are."""
    more = len(repositories) - _FIRST_REPOSITORIES
    names = ", ".join(repositories[:_FIRST_REPOSITORIES])
    return f"{names} and {more} more" if more > 0 else names
