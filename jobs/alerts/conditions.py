"""Conditions of the service, alerted as transitions: raised when they begin, resolved when they are over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from jobs.alerts import kinds, rules
from jobs.models import AlertKind, RaisedAlert


@dataclass(frozen=True)
class Condition:
    """Something that is not well now; `key` names it as long as it lasts, `path` is the page about it."""

    kind: AlertKind
    key: str
    title: str
    body: str = ""
    path: str = ""
    is_acknowledged: bool = False


def follow(conditions: Iterable[Condition], now: datetime) -> None:
    """Alert what is new among all present conditions, and what is over.

    What is acknowledged, snoozed or of a kind that is off is not raised yet: it is when that ends and it still lasts.
    """
    present = {condition.key: condition for condition in conditions}
    raised = {row.key: row for row in RaisedAlert.objects.filter(resolved_at__isnull=True)}
    over = [row for key, row in raised.items() if key not in present]
    new = [condition for key, condition in present.items() if key not in raised and not condition.is_acknowledged]
    if not (over or new):
        return
    current = kinds.load()
    with transaction.atomic():
        for condition in new:
            if not current[condition.kind].silence(now):
                _raise(condition, current[condition.kind], now)
        for row in over:
            _resolve(row, current[AlertKind(row.kind)], now)


def _raise(condition: Condition, kind: kinds.CurrentKind, now: datetime) -> None:
    body = condition.body or kind.kind.remedy
    RaisedAlert.objects.create(
        kind=condition.kind, key=condition.key, title=condition.title, body=body, path=condition.path, raised_at=now
    )
    rules.alert(kind, condition.title, body, now, link=rules.address(condition.path))


def _resolve(row: RaisedAlert, kind: kinds.CurrentKind, now: datetime) -> None:
    RaisedAlert.objects.filter(pk=row.pk, resolved_at__isnull=True).update(resolved_at=now)
    body = f"It is over. It began at {row.raised_at:%Y-%m-%d %H:%M} UTC."
    rules.alert(kind, f"Over: {row.title}", body, now, link=rules.address(row.path), is_over=True)
