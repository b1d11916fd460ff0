"""Webhooks in the admin: subscriptions, whose secret is shown once, and what was sent to each."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from core.conflicts import ConflictAwareForm
from core.display import ReadOnlyAdmin, badge, duration, when
from core.errors import LobwifeError, NotFound
from core.text import as_sentence
from events.admin_log import RecordedAdmin
from tasks.ids import parse_typed_id
from webhooks import services
from webhooks.models import Delivery, Subscription

_CHANGE = "webhooks.change_subscription"


class TypesField(forms.CharField):
    """A list of types of events, between blanks or on lines of their own."""

    def __init__(self, **options: Any) -> None:
        options.pop("encoder", None)
        options.pop("decoder", None)
        super().__init__(**options)

    def prepare_value(self, value: Any) -> Any:
        return " ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, list) else str(value or "").replace(",", " ").split()

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(initial) != self.to_python(data))


class SubscriptionForm(ConflictAwareForm[Subscription]):
    types = TypesField(
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}),
        help_text="Types, or beginnings such as run.* and task.*; * is all. docs/events.md lists them.",
    )
    task = forms.CharField(required=False, help_text="Events of this task alone, as T42.")

    class Meta:
        model = Subscription
        fields = ["name", "url", "types", "job", "repository", "is_enabled"]
        widgets: ClassVar = {
            name: forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"})
            for name in ("name", "url", "job", "repository")
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.task_id:
            self.initial["task"] = f"T{self.instance.task_id}"

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        self.check_conflicts()
        text = data.get("task", "")
        number = parse_typed_id(text)
        if text and number is None:
            self.add_error("task", "Write the task as T42 or 42.")
        self.instance.task_id = number
        return data

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        for name, reason in services.problems_of(self.instance).items():
            if name in self.fields and name not in self.errors:
                self.add_error(name, as_sentence(reason))


@admin.register(Subscription)
class SubscriptionAdmin(RecordedAdmin):
    """Subscriptions. The secret is shown once, after it was made."""

    form = SubscriptionForm
    fields = ("name", "url", "types", "task", "job", "repository", "is_enabled")
    list_display = ("name", "state_badge", "url", "wanted", "last")
    search_fields = ("name", "url")
    empty_text = (
        "A webhook sends events to an address of yours as they happen, signed with a secret: a run that failed, a task"
        " that is done. Add one, and see each delivery under Deliveries."
    )
    change_form_template = "admin/webhooks/subscription_form.html"

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                f"<int:pk>/{verb}/",
                self.admin_site.admin_view(require_POST(view)),
                name=f"webhooks_subscription_{verb}",
            )
            for verb, view in (("secret", self.secret_view), ("resume", self.resume_view))
        ]
        return [*own, *super().get_urls()]

    def get_readonly_fields(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        return ("name",) if obj else ()

    def save_model(self, request: HttpRequest, obj: Subscription, form: Any, change: bool) -> None:
        if change:
            services.save(obj)
            return
        fields = {name: getattr(obj, name) for name in services.FIELDS}
        made, obj.secret = services.create(name=obj.name, fields=fields)  # type: ignore[attr-defined]
        obj.pk = made.pk

    def response_add(
        self, request: HttpRequest, obj: Subscription, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._show_secret(request, obj, obj.secret)  # type: ignore[attr-defined]

    def secret_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Make a new secret and show it, this once."""
        subscription = _changeable(request, pk)
        secret = services.new_secret(name=subscription.name, actor=request.user.get_username())
        return self._show_secret(request, subscription, secret)

    def resume_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        subscription = _changeable(request, pk)
        services.resume(name=subscription.name, actor=request.user.get_username())
        messages.success(request, f"{subscription.name} is sent to again, from the event that it stopped at.")
        return redirect("admin:webhooks_subscription_change", pk)

    def _show_secret(self, request: HttpRequest, subscription: Subscription, secret: str) -> HttpResponse:
        """Show the secret in the answer itself: a message would store it in the session."""
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": f"Webhook {subscription.name}"}
        context |= {"subscription": subscription, "secret": secret}
        response = TemplateResponse(request, "admin/webhooks/secret_created.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.display(description="state")
    def state_badge(self, subscription: Subscription) -> SafeString:
        note = f" {subscription.note}" if subscription.state in {"paused", "failing"} else ""
        again = subscription.next_attempt_at if subscription.state == "failing" else None
        words = format_html(" Again {}.", when(again)) if again else ""
        return format_html('{} <span class="quiet">{}{}</span>', badge(subscription.state), note, words)

    @admin.display(description="events")
    def wanted(self, subscription: Subscription) -> str:
        filters = (
            f"T{subscription.task_id}" if subscription.task_id else "",
            subscription.job,
            subscription.repository,
        )
        return " · ".join([", ".join(subscription.types), *filter(None, filters)])

    @admin.display(description="last delivery")
    def last(self, subscription: Subscription) -> SafeString | str:
        newest = subscription.deliveries.order_by("-id").first()
        url = f"{reverse('admin:webhooks_delivery_changelist')}?subscription__id__exact={subscription.pk}"
        return format_html('<a href="{}">{}</a>', url, when(newest.attempted_at)) if newest else "–"


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """Every delivery with its answer."""

    empty_text = "What is sent to webhooks appears here, with each answer."
    list_display = ("when_sent", "what", "subscription", "outcome", "answered", "took", "attempts")
    list_display_links = ("what",)
    list_filter = ("state", "subscription")
    search_fields = ("type", "subject", "message_id")
    list_select_related = ("subscription",)
    fields = (
        *(
            "subscription",
            "type",
            "subject",
            "event_id",
            "message_id",
            "state",
            "attempts",
            "error",
            "status",
            "answer",
        ),
        *("took", "created_at", "attempted_at", "body"),
    )
    readonly_fields = ("took",)
    show_full_result_count = False
    change_form_template = "admin/webhooks/delivery_form.html"

    def get_urls(self) -> list[URLPattern]:
        again = self.admin_site.admin_view(require_POST(self.again_view))
        return [path("<int:pk>/again/", again, name="webhooks_delivery_again"), *super().get_urls()]

    def again_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send it once more."""
        if not request.user.has_perm(_CHANGE):
            raise PermissionDenied
        try:
            services.send_again(delivery_id=pk)
        except NotFound as error:
            raise Http404(str(error)) from None
        except LobwifeError as error:
            messages.error(request, as_sentence(str(error)))
        else:
            messages.success(request, "It is sent again now: see below for its answer.")
        return redirect("admin:webhooks_delivery_change", pk)

    @admin.display(description="sent", ordering="attempted_at")
    def when_sent(self, delivery: Delivery) -> SafeString | str:
        return when(delivery.attempted_at)

    @admin.display(description="event", ordering="event_id")
    def what(self, delivery: Delivery) -> str:
        return str(delivery)

    @admin.display(description="state", ordering="state")
    def outcome(self, delivery: Delivery) -> SafeString:
        word = "failed" if delivery.error else delivery.state
        return format_html('{} <span class="quiet">{}</span>', badge(word), delivery.error)

    @admin.display(description="answer", ordering="status")
    def answered(self, delivery: Delivery) -> str:
        return str(delivery.status or "–")

    @admin.display(description="duration", ordering="seconds")
    def took(self, delivery: Delivery) -> str:
        return duration(delivery.seconds)


def _changeable(request: HttpRequest, pk: int) -> Subscription:
    if not request.user.has_perm(_CHANGE):
        raise PermissionDenied
    subscription = Subscription.objects.filter(pk=pk).first()
    if subscription is None:
        raise Http404
    return subscription
