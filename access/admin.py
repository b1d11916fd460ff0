"""Admin of API access: keys, the policy, callers without credentials."""

from __future__ import annotations

from typing import Any

import axes.admin  # noqa: F401 it registers its models, as the next does
import django.contrib.auth.admin  # noqa: F401
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin, messages
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse

from access import keys, policy
from access.models import AccessPolicy, ApiKey, Mode, UncredentialedCaller
from core.callers import Role
from core.display import StrictAdmin
from core.errors import LobwifeError

_CALLERS_SHOWN = 50

# The lists of other packages take no more lookups than ours.
for model in (User, Group, AccessAttempt, AccessLog, AccessFailureLog):
    if admin.site.is_registered(model):
        admin_class = type(admin.site.get_model_admin(model))
        admin.site.unregister(model)
        admin.site.register(model, type(admin_class.__name__, (StrictAdmin, admin_class), {}))


class ApiKeyForm(ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                keys.check_key(**cleaned)
            except LobwifeError as error:
                self.add_error(None, str(error))
        return cleaned


@admin.register(ApiKey)
class ApiKeyAdmin(StrictAdmin):
    """Keys are created and revoked, not changed; the key itself is shown once, after its creation."""

    form = ApiKeyForm
    fields = ("name", "role", "task_number", "service", "expires_at")
    list_display = (
        "name",
        "role",
        "state",
        "prefix",
        "task_number",
        "last_used_at",
        "expires_at",
        "created_by",
    )
    list_filter = ("role",)
    search_fields = ("name", "prefix")
    actions = ["revoke"]

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        values = form.cleaned_data
        key = keys.create_key(**{**values, "role": Role(values["role"])}, actor=request.user.get_username())
        obj.pk = ApiKey.objects.get(name=obj.name).pk
        messages.warning(request, f"The key of {obj.name}, shown this once: {key}")

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        response = super().response_add(request, obj, post_url_continue)
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description="Revoke selected API keys", permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset.filter(revoked_at__isnull=True):
            keys.revoke_key(name=key.name, actor=request.user.get_username())
            messages.success(request, f"{key.name} is revoked.")

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)  # revoked keys stay in the list
        return actions

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False


@admin.register(AccessPolicy)
class AccessPolicyAdmin(StrictAdmin):
    """The policy, beside the list of callers that `required` would keep out."""

    fields = ("decided", "in_force", "decided_by", "decided_at", "without_credentials")
    readonly_fields = ("in_force", "decided_by", "decided_at", "without_credentials")
    list_display = ("__str__", "decided_by", "decided_at")

    @admin.display(description="In force now")
    def in_force(self, obj: AccessPolicy) -> str:
        return policy.current_mode()

    @admin.display(description="Who would be kept out by “required”")
    def without_credentials(self, obj: AccessPolicy) -> str:
        lines = [
            f"{caller.last_seen:%Y-%m-%d %H:%M}  {caller.address}  {caller.program}  {caller.route}"
            for caller in UncredentialedCaller.objects.all()[:_CALLERS_SHOWN]
        ]
        return "\n".join(lines) or "Nobody called without credentials while access was open."

    def save_model(self, request: HttpRequest, obj: AccessPolicy, form: Any, change: bool) -> None:
        policy.decide(mode=obj.decided or obj.initial or Mode.REQUIRED, actor=request.user.get_username())

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AccessPolicy | None = None) -> bool:
        return False


@admin.register(UncredentialedCaller)
class UncredentialedCallerAdmin(StrictAdmin):
    list_display = ("address", "program", "route", "first_seen", "last_seen")
    search_fields = ("address", "program", "route")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: UncredentialedCaller | None = None) -> bool:
        return False
