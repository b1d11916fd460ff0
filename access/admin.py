"""Admin of API access: keys, the policy, callers without credentials."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import axes.admin  # noqa: F401 it registers its models, as the next does
import django.contrib.auth.admin  # noqa: F401
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.db.models import ManyToManyField, Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.views.decorators.http import require_POST

from access import keys, policy
from access.models import AccessPolicy, ApiKey, Mode, UncredentialedCaller
from core.callers import Role
from core.display import badge, when
from core.errors import LobwifeError
from core.timestamps import utc_now
from events.admin_log import RecordedAdmin
from tasks.ids import parse_typed_id

_CALLERS_SHOWN = 50


class PermissionsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    """Permissions by what they allow: `Change task`, where Django writes `Tasks | task | Can change task`."""

    def label_from_instance(self, permission: Permission) -> str:
        return capfirst(permission.name.removeprefix("Can "))


class _Checkboxes:
    """Groups and permissions as checkboxes: Django's lists need a second key, its picker a script."""

    def formfield_for_manytomany(
        self, db_field: ManyToManyField[Any, Any], request: HttpRequest, **options: Any
    ) -> Any:
        options["widget"] = forms.CheckboxSelectMultiple(attrs={"class": "choices"})
        if db_field.remote_field.model is Permission:
            options["form_class"] = PermissionsField
        return super().formfield_for_manytomany(db_field, request, **options)  # type: ignore[misc]


# The lists of other packages take no more lookups than ours.
_OF_OTHERS: dict[Any, dict[str, Any]] = {
    User: {
        "list_display": ("username", "email", "is_active", "is_superuser", "last_login"),
        "readonly_fields": ("last_login", "date_joined"),
    },
    Group: {},
    AccessAttempt: {
        "empty_text": "Wrong passwords appear here, by name and address; after ten no more are tried for a while."
    },
}
for model, attributes in _OF_OTHERS.items():
    admin_class = type(admin.site.get_model_admin(model))
    admin.site.unregister(model)
    admin.site.register(model, type(admin_class.__name__, (_Checkboxes, RecordedAdmin, admin_class), attributes))
for model in (AccessLog, AccessFailureLog):  # nothing is written there
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class KeyStateFilter(admin.SimpleListFilter):
    """Filter by whether a key may be used."""

    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("valid", "Valid"), ("unused", "Never used"), ("over", "Revoked or expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        is_over = Q(revoked_at__isnull=False) | Q(expires_at__lte=utc_now())
        choices = {"valid": ~is_over, "unused": Q(last_used_at__isnull=True), "over": is_over}
        return queryset.filter(choices[str(self.value())]) if self.value() in choices else queryset


ROLE_WORDS = {
    Role.AGENT: "Its one task: reads it, reports progress, gets its tokens.",
    Role.SERVICE: "Creates, changes and registers tasks; gets tokens as its service.",
    Role.OPERATOR: "Everything, jobs and tokens among it.",
    Role.VIEWER: "Reads everything, changes nothing, gets no token.",
    Role.RUNNER: "Claims tasks, beats and hands back what it claimed; each of its agents gets a key of its own.",
}
# A call that each role may make.
_EXAMPLES = {Role.AGENT: "/api/v1/tasks/T{}", Role.SERVICE: "/api/v1/tasks?status=queued"}
_ANY_EXAMPLE = "/api/v1/tasks?limit=5"
_LIFETIMES = (("", "never"), ("1", "in a day"), ("7", "in 7 days"), ("30", "in 30 days"), ("90", "in 90 days"))


class ApiKeyForm(ModelForm):  # type: ignore[type-arg]
    task = forms.CharField(required=False, help_text="For the role agent: its one task, as T42 or 42.")
    lifetime = forms.ChoiceField(choices=_LIFETIMES, required=False, label="Expires")

    class Meta:
        model = ApiKey
        fields = ("name", "role", "service")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["role"] = forms.ChoiceField(
            choices=[(role.value, f"{role.value}: {words}") for role, words in ROLE_WORDS.items()],
            widget=forms.RadioSelect,
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        task, days = cleaned.get("task", ""), cleaned.get("lifetime", "")
        number = parse_typed_id(task)
        if task and number is None:
            self.add_error("task", "Write the task as T42 or 42.")
        if not self.errors:
            cleaned["key"] = {
                **{name: cleaned[name] for name in ("name", "role", "service")},
                "task_number": number,
                "expires_at": utc_now() + timedelta(days=int(days)) if days else None,
            }
            try:
                keys.check_key(**cleaned["key"])
            except LobwifeError as error:
                self.add_error(None, str(error))
        return cleaned


@admin.register(ApiKey)
class ApiKeyAdmin(RecordedAdmin):
    """Keys are created and revoked, not changed; the key itself is shown once, after its creation."""

    form = ApiKeyForm
    fields = ("name", "role", "task", "service", "lifetime")
    list_display = ("name", "state_word", "role_words", "task_link", "used", "expires", "prefix")
    empty_text = "A key lets a program call the API, with one role. Add one for each program."
    list_filter = ("role", KeyStateFilter)
    search_fields = ("name", "prefix")
    actions = ["revoke"]

    class Media:
        css: ClassVar = {"all": ["access/admin.css"]}
        js = ("access/copy.js",)

    def get_urls(self) -> list[URLPattern]:
        revoke = self.admin_site.admin_view(require_POST(self.revoke_view))
        return [path("<int:pk>/revoke/", revoke, name="lobwife_apikey_revoke"), *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        values = form.cleaned_data["key"]
        obj.secret = keys.create_key(  # type: ignore[attr-defined]
            **{**values, "role": Role(values["role"])}, actor=request.user.get_username()
        )
        obj.pk = ApiKey.objects.get(name=obj.name).pk

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the key in the answer itself, this once: a message would store it in the session."""
        made = ApiKey.objects.get(pk=obj.pk)
        context = {**self.admin_site.each_context(request), **self._about(made), "opts": self.opts}
        context |= {"title": f"API key {made.name}", "secret": obj.secret, "media": self.media}  # type: ignore[attr-defined]
        response = TemplateResponse(request, "admin/access/key_created.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        key = self.get_object(request, object_id)
        if key is None or not self.has_view_permission(request, key):
            return super().change_view(request, object_id, form_url, extra_context)
        context = {**self.admin_site.each_context(request), **self._about(key), "opts": self.opts, "original": key}
        context |= {"title": f"API key {key.name}", "media": self.media}
        context |= {"may_revoke": self.has_revoke_permission(request) and key.revoked_at is None}
        return TemplateResponse(request, "admin/access/key_view.html", context)

    def revoke_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Revoke the one key whose page has the button."""
        if not self.has_revoke_permission(request):
            raise PermissionDenied
        try:
            self._revoke(request, get_object_or_404(ApiKey, pk=pk))
        except LobwifeError as error:
            messages.error(request, str(error))
        return redirect("admin:lobwife_apikey_change", pk)

    @staticmethod
    def _about(key: ApiKey) -> dict[str, Any]:
        role = Role(key.role)
        path = _EXAMPLES.get(role, _ANY_EXAMPLE).format(key.task_number)
        return {"key": key, "words": ROLE_WORDS[role], "example": f"{settings.LOBWIFE_URL}{path}"}

    @admin.action(description="Revoke selected API keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset.filter(revoked_at__isnull=True):
            self._revoke(request, key)

    @staticmethod
    def _revoke(request: HttpRequest, key: ApiKey) -> None:
        keys.revoke_key(name=key.name, actor=request.user.get_username())
        messages.success(request, f"{key.name} is revoked.")

    # --- permissions: a key is revoked, never deleted, so that its name stays what histories mean by it
    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("lobwife.delete_apikey")

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    # --- columns
    @admin.display(description="state")
    def state_word(self, key: ApiKey) -> SafeString:
        return badge(key.state)

    @admin.display(description="role", ordering="role")
    def role_words(self, key: ApiKey) -> SafeString:
        return format_html('{} <div class="quiet">{}</div>', key.role, ROLE_WORDS[Role(key.role)])

    @admin.display(description="task", ordering="task_number")
    def task_link(self, key: ApiKey) -> SafeString | str:
        if key.task_number is None:
            return key.service or "–"
        url = reverse("admin:tasks_task_change", args=[key.task_number])
        return format_html('<a href="{}">T{}</a>', url, key.task_number)

    @admin.display(description="last used", ordering="last_used_at")
    def used(self, key: ApiKey) -> str:
        return when(key.last_used_at)

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, key: ApiKey) -> str:
        return when(key.expires_at) if key.expires_at else "never"


@admin.register(AccessPolicy)
class AccessPolicyAdmin(RecordedAdmin):
    """The policy, beside the list of callers that `required` would keep out."""

    fields = ("decided", "in_force", "decided_by", "decided_at", "without_credentials")
    readonly_fields = ("in_force", "decided_by", "decided_at", "without_credentials")
    list_display = ("__str__", "decided_by", "decided_at")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Lead to the one policy there is."""
        row = AccessPolicy.objects.first()
        if row is None or not self.has_view_permission(request):
            return super().changelist_view(request, extra_context)
        return redirect("admin:lobwife_accesspolicy_change", row.pk)

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

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Leave it to `decide`, which records it for commands too."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AccessPolicy | None = None) -> bool:
        return False


@admin.register(UncredentialedCaller)
class UncredentialedCallerAdmin(RecordedAdmin):
    list_display = ("address", "program", "route", "first_seen", "last_seen")
    empty_text = (
        "While the API is open, who calls it without a key is listed here: all of them need one before you close it."
    )
    search_fields = ("address", "program", "route")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: UncredentialedCaller | None = None) -> bool:
        return False
