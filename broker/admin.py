"""Registrations, the audit and the App's state in the admin. Nobody sees a token here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from broker import app, known, registrations, services, subjects
from broker.audit import Caller
from broker.models import AllowedService, GitHubState, LegacyRegistration, TaskRegistration, TokenAudit
from lobwife.base.errors import LobwifeError
from lobwife.base.read_only_admin import ReadOnlyAdmin
from lobwife.base.shown import when
from tasks.models import Task, read_repos


class RegistrationAdmin(ReadOnlyAdmin):
    """What both kinds of registrations show, and the two actions, each after a confirmation."""

    actions = ("end", "register_again")
    list_per_page = 50
    subject_of: Callable[[Any], str]  # from the key of a row

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Ending and renewing are for those who may change registrations."""
        return request.user.has_perm(f"broker.change_{self.opts.model_name}")

    @admin.display(description="repositories")
    def repositories(self, obj: Any) -> str:
        text = obj.repos if isinstance(obj, LegacyRegistration) else obj.broker_repos
        return ", ".join(read_repos(text) or ()) or "unreadable"

    @admin.display(description="state")
    def standing(self, obj: Any) -> str:
        return registrations.as_listed(obj).refusal(obj.task_id) or "active"

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
    subject_of = staticmethod(subjects.of_task)
    list_display = ("task_id", "name", "repositories", "standing", "age", "token_count")
    list_filter = ("broker_status", "status")
    search_fields = ("=id", "name", "slug", "assigned_to", "broker_repos")
    search_help_text = "Number, name, slug, assignee or repository"
    fields = ("task_id", "name", "status", "repositories", "standing", "age", "token_count")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return super().get_queryset(request).filter(broker_repos__isnull=False)


@admin.register(LegacyRegistration)
class LegacyRegistrationAdmin(RegistrationAdmin):
    subject_of = staticmethod(subjects.of_legacy)
    list_display = ("task_id", "repositories", "lobster_type", "standing", "age", "token_count")
    list_filter = ("status",)
    search_fields = ("task_id", "repos")
    search_help_text = "Id or repository"
    fields = ("task_id", "repositories", "lobster_type", "standing", "age", "token_count")
    readonly_fields = fields


@admin.register(TokenAudit)
class TokenAuditAdmin(ReadOnlyAdmin):
    """Who asked for what, and how it ended."""

    list_display = ("when", "task_id", "what", "repositories", "identity", "ended")
    list_filter = ("action", "outcome")
    search_fields = ("=task_id", "identity", "address", "=token_sha256", "repos", "reason")
    search_help_text = "Id, identity, address, repository, reason, or base64(SHA-256(token))"
    show_full_result_count = False
    list_per_page = 50

    @admin.display(description="repositories")
    def repositories(self, obj: TokenAudit) -> str | None:
        return ", ".join(read_repos(obj.repos) or ()) or None

    @admin.display(description="action", ordering="action")
    def what(self, obj: TokenAudit) -> str:
        return obj.get_action_display().lower()

    @admin.display(description="outcome", ordering="outcome")
    def ended(self, obj: TokenAudit) -> str | None:
        return ": ".join(filter(None, (obj.get_outcome_display() if obj.outcome else None, obj.reason))) or None

    @admin.display(description="when (UTC)", ordering="id")
    def when(self, obj: TokenAudit) -> str:
        return obj.created_at[:19].replace("T", " ")


@admin.register(GitHubState)
class GitHubStateAdmin(ReadOnlyAdmin):
    """The App: configured or why not, whose, how GitHub is."""

    list_display = ("__str__", "configured", "owner", "last_mint_at", "rate_left", "last_error")
    fields = (
        "configured",
        "owner",
        "installation_id",
        "last_mint_at",
        "rate_left",
        "rate_reset_at",
        "blocked_until",
        "last_error",
        "last_error_at",
        "clock_skew",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        known.state()  # the row is there from the first look on
        return super().get_queryset(request)

    @admin.display(description="configured")
    def configured(self, obj: GitHubState) -> str:
        return app.trouble() or "yes"


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
