"""Webhooks as a YAML file, which may be the one of the jobs: written, and read back all or none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml
from django.db import transaction
from pydantic import BaseModel, ConfigDict, StrictBool, StrictStr

from core.definitions import read_definitions
from core.errors import Invalid
from events import change_log
from tasks.ids import parse_typed_id
from webhooks import services
from webhooks.models import Subscription


class Defined(BaseModel):
    """One webhook in a file. What is left out has its default; the secret stays as it is."""

    model_config = ConfigDict(extra="forbid")

    url: StrictStr
    types: list[StrictStr] = ["*"]
    task: StrictStr | None = None
    job: StrictStr = ""
    repository: StrictStr = ""
    enabled: StrictBool = True


@dataclass
class Plan:
    """The changes that an import would make; nothing is written yet."""

    made: list[Subscription] = field(default_factory=list)
    changed: list[Subscription] = field(default_factory=list)
    same: int = 0


def exported() -> str:
    """Return all webhooks as YAML, without secrets."""
    webhooks = {subscription.name: fields_of(subscription) for subscription in Subscription.objects.all()}
    text: str = yaml.safe_dump({"webhooks": webhooks}, sort_keys=False, allow_unicode=True, width=100)
    return text


def fields_of(subscription: Subscription) -> dict[str, Any]:
    """Return a definition as a file has it: what differs from the defaults."""
    values = {
        "url": subscription.url,
        "types": subscription.types,
        "task": f"T{subscription.task_id}" if subscription.task_id else None,
        "job": subscription.job,
        "repository": subscription.repository,
        "enabled": subscription.is_enabled,
    }
    return {name: value for name, value in values.items() if value != Defined(url="").model_dump()[name]}


def plan_import(text: str) -> Plan:
    """Check a whole file; raises Invalid with a sentence that names the webhook and the field."""
    plan = Plan()
    now = {subscription.name: subscription for subscription in Subscription.objects.all()}
    for name, defined in read_definitions(text, key="webhooks", schema=Defined).items():
        old = now.get(name)
        before = fields_of(old) if old else None
        subscription = old or Subscription(name=name)
        _apply(subscription, defined)
        for wrong, reason in services.problems_of(subscription).items():
            raise Invalid(f"webhook {name}: {wrong}: {reason}")
        if before == fields_of(subscription):
            plan.same += 1
        else:
            (plan.changed if old else plan.made).append(subscription)
    return plan


def carry_out(plan: Plan, *, actor: str) -> dict[str, str]:
    """Do what was planned, all or none; return the secrets of the new ones by name, which is not possible later."""
    with transaction.atomic():
        for subscription in plan.changed:
            services.save(subscription)
        made = [services.create(name=new.name, fields=_columns(new)) for new in plan.made]
        change_log.record([subscription for subscription, _ in made], "imported", actor=actor)
        change_log.record(plan.changed, "changed with an import", actor=actor)
        return {subscription.name: secret for subscription, secret in made}


def _columns(subscription: Subscription) -> dict[str, Any]:
    return {name: getattr(subscription, name) for name in services.FIELDS}


def _apply(subscription: Subscription, defined: Defined) -> None:
    task_id = parse_typed_id(defined.task) if defined.task else None
    if defined.task and task_id is None:
        raise Invalid(f"webhook {subscription.name}: task is {defined.task!r}: write it as T42")
    values = {"task_id": task_id, "is_enabled": defined.enabled}
    values |= {name: getattr(defined, name) for name in ("url", "types", "job", "repository")}
    for name, value in values.items():
        setattr(subscription, name, value)
