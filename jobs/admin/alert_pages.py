"""Alerts in the admin: the page of all, the settings of each kind, quiet hours and the daily digest."""

from __future__ import annotations

import zoneinfo
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.display import ReadOnlyAdmin, badge, when
from core.errors import Invalid
from core.text import as_sentence
from core.timestamps import utc_now
from events.admin_log import RecordedAdmin
from jobs import secret_fields
from jobs.admin import views
from jobs.alerts import kinds, services
from jobs.alerts.destinations import all_destinations
from jobs.models import Alert, AlertKind, AlertSchedule, AlertSetting, Delivery, Job, RaisedAlert

_WATCHED_LISTED = 100
_RAISED_LISTED = 50


class HandledFilter(admin.SimpleListFilter):
    """Filter by whether somebody has taken care of an alert."""

    title = "acknowledged"
    parameter_name = "acknowledged"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("no", "Not yet"), ("yes", "Acknowledged")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        if self.value() not in {"yes", "no"}:
            return queryset
        return queryset.filter(acknowledged_at__isnull=self.value() == "no")


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """Where alerts go, what they are about, and which were sent, or not and why."""

    empty_text = "When a job fails, works again, is late or takes too long, the message appears here."

    list_display = ("when_made", "what", "kind", "destination", "outcome", "acknowledged")
    list_display_links = ("what",)
    list_filter = ("state", "kind", "severity", HandledFilter, "created_at")
    search_fields = ("title", "job_name", "body")
    list_select_related = ("run",)
    actions = ("acknowledge", "send_again")
    fields = (
        *("title", "body", "kind", "severity", "run_link", "destination", "state", "attempts", "error"),
        *("created_at", "sent_at", "acknowledged_by", "acknowledged_at"),
    )
    readonly_fields = ("run_link",)
    show_full_result_count = False
    change_list_template = "admin/jobs/alert_list.html"

    class Media:
        css: ClassVar = {"all": ["jobs/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        return [*views.alert_urls(self.admin_site), *super().get_urls()]

    def has_handle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(views.CHANGE_JOB)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        watched, schedule, now = Job.objects.order_by("name"), AlertSchedule.load(), utc_now()
        context = {
            **(extra_context or {}),
            "destinations": all_destinations(),
            "may_handle": self.has_handle_permission(request),
            "unsent": Alert.objects.filter(state=Delivery.PENDING, attempts__gt=0).count(),
            "watched": watched[:_WATCHED_LISTED],
            "more_watched": max(0, watched.count() - _WATCHED_LISTED),
            "raised": RaisedAlert.objects.filter(resolved_at__isnull=True)[:_RAISED_LISTED],
            "kinds": list(kinds.load().values()),
            "schedule": schedule,
            "is_quiet": schedule.is_quiet(now),
            "public_url": settings.PUBLIC_URL,
            "now": now,
        }
        return super().changelist_view(request, context)

    @admin.action(description="Acknowledge", permissions=["handle"])
    def acknowledge(self, request: HttpRequest, alerts: QuerySet[Alert]) -> None:
        count = services.acknowledge(alerts, actor=views.actor_of(request))
        messages.success(request, f"{count} acknowledged.")

    @admin.action(description="Send now what waits", permissions=["handle"])
    def send_again(self, request: HttpRequest, alerts: QuerySet[Alert]) -> None:
        messages.success(request, f"{services.try_again(alerts)} will be tried again now.")

    @admin.display(description="when", ordering="id")
    def when_made(self, alert: Alert) -> SafeString | str:
        return when(alert.created_at)

    @admin.display(description="alert", ordering="title")
    def what(self, alert: Alert) -> str:
        return alert.title

    @admin.display(description="sent?", ordering="state")
    def outcome(self, alert: Alert) -> SafeString | str:
        if alert.state == Delivery.SENT:
            return format_html("{} {}", badge("sent"), when(alert.sent_at))
        tries = f", tried {alert.attempts} time{'s' if alert.attempts > 1 else ''}" if alert.attempts else ""
        again = format_html(", again {}", when(alert.next_attempt_at)) if alert.state == Delivery.PENDING else ""
        words = format_html('<div class="quiet">{}{}{}</div>', alert.error or "due now", tries, again)
        return format_html("{} {}", badge("not sent" if alert.attempts else alert.state), words)

    @admin.display(description="acknowledged", ordering="acknowledged_at")
    def acknowledged(self, alert: Alert) -> SafeString | str:
        return (
            format_html("{} {}", alert.acknowledged_by, when(alert.acknowledged_at)) if alert.acknowledged_at else "–"
        )

    @admin.display(description="run")
    def run_link(self, alert: Alert) -> SafeString | str:
        if alert.run is None:
            return "–"
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:jobs_jobrun_change", args=[alert.run.pk]), f"run {alert.run.pk}"
        )


class AlertSettingForm(forms.ModelForm[AlertSetting]):
    """Recipients are secrets: they are shown masked, and a line left as it is keeps what is stored."""

    class Meta:
        model = AlertSetting
        fields = ["is_on", "severity", "threshold", "urls"]
        widgets: ClassVar = {"urls": forms.Textarea(attrs={"rows": 3, "spellcheck": "false"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stored = self.instance.urls
        self.initial["urls"] = secret_fields.masked("alert_urls", self.stored)
        kind = kinds.KINDS[AlertKind(self.instance.kind)]
        if kind.threshold is None:
            self.fields.pop("threshold", None)
        elif "threshold" in self.fields:
            self.fields["threshold"].label = f"Threshold ({kind.unit})"
            self.fields["threshold"].help_text = f"Empty: {kind.threshold}."
        if "severity" in self.fields:
            self.fields["severity"].help_text = f"Empty: {kind.severity}. Quiet hours keep back all but critical."

    def clean_urls(self) -> str:
        text = secret_fields.unmasked(self.cleaned_data["urls"], self.stored)
        try:
            secret_fields.check_destinations(text)
        except Invalid as error:
            raise ValidationError(as_sentence(str(error))) from None
        return text


class DecidesAlerts(RecordedAdmin):
    """Decisions about alerts: for who may change jobs; nothing is added or deleted."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(views.CHANGE_JOB)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("jobs.view_alert") or self.has_change_permission(request, obj)

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        return redirect("admin:jobs_alert_changelist")


@admin.register(AlertSetting)
class AlertSettingAdmin(DecidesAlerts):
    """The settings of one kind; their list is the page of alerts."""

    form = AlertSettingForm
    fields = ("when", "remedy", "is_on", "severity", "threshold", "urls")
    readonly_fields = ("when", "remedy")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> AlertSetting | None:
        if object_id not in AlertKind.values:
            return None
        row = AlertSetting.objects.filter(kind=object_id).first() or AlertSetting(kind=object_id)
        if not self.has_change_permission(request, row):
            row.urls = secret_fields.masked("alert_urls", row.urls)
        return row

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        has_none = obj is not None and kinds.KINDS[AlertKind(obj.kind)].threshold is None
        return [name for name in self.fields or () if not (has_none and name == "threshold")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return redirect(f"{reverse('admin:jobs_alert_changelist')}#kinds-of-alerts")

    @admin.display(description="Raised when")
    def when(self, row: AlertSetting) -> str:
        return kinds.CurrentKind(kinds.KINDS[AlertKind(row.kind)], row).when

    @admin.display(description="What to do")
    def remedy(self, row: AlertSetting) -> str:
        return kinds.KINDS[AlertKind(row.kind)].remedy


class AlertScheduleForm(forms.ModelForm[AlertSchedule]):
    class Meta:
        model = AlertSchedule
        fields = ["timezone", "quiet_from", "quiet_until", "digest_at"]
        widgets: ClassVar = {
            "timezone": forms.TextInput(attrs={"class": "vTextField"}),
            **{name: forms.TimeInput(attrs={"type": "time"}) for name in ("quiet_from", "quiet_until", "digest_at")},
        }

    def clean_timezone(self) -> str:
        name: str = self.cleaned_data["timezone"]
        if name not in zoneinfo.available_timezones():
            raise ValidationError("There is no such timezone. One is Europe/Berlin.")
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if (data.get("quiet_from") is None) != (data.get("quiet_until") is None):
            self.add_error("quiet_until", "Set both ends of the quiet hours, or neither.")
        return data


@admin.register(AlertSchedule)
class AlertScheduleAdmin(DecidesAlerts):
    """The one row: its list is its page."""

    form = AlertScheduleForm
    fields = ("timezone", ("quiet_from", "quiet_until"), "digest_at")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> AlertSchedule | None:
        return AlertSchedule.load() if object_id == str(AlertSchedule.PK) else None

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return redirect("admin:jobs_alertschedule_change", AlertSchedule.PK)
