"""Writing subscriptions: define, change, pause and resume, make a new secret, send again."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from core import encryption
from core.errors import Conflict, Invalid, NotFound
from events import change_log
from events import services as feed
from events.types import expand
from webhooks import targets
from webhooks.models import Delivery, State, Subscription

FAILURE_FIELDS = ("failures", "failing_since", "next_attempt_at")
FIELDS = ("url", "types", "task_id", "job", "repository", "is_enabled")
_PURPOSE = "lobwife secrets of webhooks"
_SECRET_BYTES = 32


def create(*, name: str, fields: Mapping[str, Any]) -> tuple[Subscription, str]:
    """Make a subscription to what happens from now on; return it and its secret, which is not possible later.

    Raises Invalid, or Conflict when the name is taken.
    """
    subscription = Subscription(name=name, **fields)
    secret = _new_secret(subscription)
    check(subscription)
    try:
        with transaction.atomic():
            subscription.cursor = feed.newest_id()
            subscription.save(force_insert=True)
    except IntegrityError:
        raise Conflict(f"there is a webhook already that is named {name}") from None
    return subscription, secret


def save(subscription: Subscription) -> None:
    """Write a changed definition; what was to wait for a later attempt is tried at once. Raises Invalid."""
    check(subscription)
    with transaction.atomic():
        subscription.failures, subscription.failing_since, subscription.next_attempt_at = 0, None, None
        subscription.save(update_fields=[*FIELDS, *FAILURE_FIELDS])


def new_secret(*, name: str, actor: str) -> str:
    """Replace the secret and return the new one, which is not possible later; raises NotFound."""
    subscription = get(name)
    secret = _new_secret(subscription)
    with transaction.atomic():
        subscription.save(update_fields=["encrypted"])
        change_log.record([subscription], "given a new secret", actor=actor)
    return secret


def resume(*, name: str, actor: str) -> None:
    """Send again, from the event that it stopped at; raises NotFound."""
    subscription = get(name)
    cleared = {"paused_at": None, "note": "", "failures": 0, "failing_since": None, "next_attempt_at": None}
    with transaction.atomic():
        Subscription.objects.filter(pk=subscription.pk).update(**cleared)
        change_log.record([subscription], "resumed", actor=actor)


def pause(subscription: Subscription, note: str, now: datetime) -> None:
    """Stop sending until somebody resumes it; `note` says why. Call it within a transaction."""
    Subscription.objects.filter(pk=subscription.pk).update(paused_at=now, note=note)


def send_again(*, delivery_id: int) -> Delivery:
    """Send an event once more, out of its order; raises NotFound, Conflict."""
    delivery = Delivery.objects.select_related("subscription").filter(pk=delivery_id).first()
    if delivery is None:
        raise NotFound(f"there is no delivery {delivery_id}")
    if delivery.state == State.FAILING and delivery.event_id > delivery.subscription.cursor:
        raise Conflict("it is tried again by itself, and others wait for it: resume the webhook to try it now")
    with transaction.atomic():
        Delivery.objects.filter(pk=delivery.pk).update(state=State.AGAIN)
    return delivery


def get(name: str) -> Subscription:
    """Return a subscription by its name; raises NotFound."""
    subscription = Subscription.objects.filter(name=name).first()
    if subscription is None:
        raise NotFound(f"there is no webhook {name[:100]}")
    return subscription


def check(subscription: Subscription) -> None:
    """Raises Invalid, with the first field and the reason, for a definition that could not work."""
    for field, reason in problems_of(subscription).items():
        raise Invalid(f"{field}: {reason}")


def problems_of(subscription: Subscription) -> dict[str, str]:
    """Return the errors of a definition by field; empty when it could work."""
    problems: dict[str, str] = {}
    try:
        subscription.clean_fields(exclude=["encrypted"])
    except ValidationError as error:
        problems = {field: messages[0] for field, messages in error.message_dict.items()}
    checks: dict[str, Callable[[], object]] = {
        "url": lambda: targets.check_url(subscription.url),
        "types": lambda: _types(subscription),
    }
    for field, checked in checks.items():
        if field not in problems:
            try:
                checked()
            except Invalid as error:
                problems[field] = str(error)
    return problems


def open_secret(subscription: Subscription) -> str | None:
    """Return the secret, for signing alone; None when the secret key that encrypted it is gone."""
    return encryption.decrypt(subscription.encrypted, purpose=_PURPOSE)


def encrypt_anew() -> None:
    """Encrypt with the present secret key what an earlier one encrypted."""
    encryption.encrypt_anew(Subscription.objects.all(), purpose=_PURPOSE)


def _new_secret(subscription: Subscription) -> str:
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
    subscription.encrypted = encryption.encrypt(secret, purpose=_PURPOSE)
    return secret


def _types(subscription: Subscription) -> None:
    types = subscription.types
    if not isinstance(types, list) or not types or not all(isinstance(pattern, str) for pattern in types):
        raise Invalid("must be a list of types of events, such as run.* or task.created")
    expand(types)
