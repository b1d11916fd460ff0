"""The daemon's part: each subscription follows the feed with a cursor of its own, and holds up no other.

An event is sent before the cursor moves past it: a crash between sends it again, with the same id, and skips none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import orjson
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from core import processes
from core.timestamps import parse, utc_now
from events import services as feed
from events.services import CursorGone, StoredEvent
from events.types import expand
from tasks.models import Task
from webhooks import sending, services
from webhooks.models import Delivery, State, Subscription

_THREADS = 8
_TURN_SECONDS = 5.0  # then others get a turn
_WAITS = 5, 86_400  # seconds: after the first failure, and at most
_PAUSE_AFTER = timedelta(days=3)
_GONE = 410
_READ_AT_ONCE = 50
# A cursor past events that nobody wants is written now and then, so that retention finds it moved.
_UNWANTED_EVENTS, _UNWANTED_SECONDS = 500, 600.0
_MOST_DELIVERIES = 100_000
_BATCH = 500
log = logging.getLogger(__name__)


class Follower:
    """Gives each subscription that has something to send a thread, a few at a time.

    Each thread calls `begin_thread` first: it has nothing committed any more once another daemon leads.
    """

    def __init__(self, begin_thread: Callable[[], None] = lambda: None) -> None:
        self._begin_thread = begin_thread
        self._busy: set[int] = set()
        self._guard = threading.Lock()
        self._readers: dict[int, Reader] = {}

    def tick(self) -> bool | float:
        """Start what is due; return whether to look again at once, or soon."""
        now = utc_now()
        active = list(Subscription.objects.filter(is_enabled=True, paused_at__isnull=True))
        newest = feed.newest_id() if active else 0
        for gone in self._readers.keys() - {subscription.pk for subscription in active}:
            del self._readers[gone]
        readers = [(self._readers.setdefault(each.pk, Reader(each.pk)), each) for each in active]
        # Who waits for longest begins: there may be fewer threads than subscriptions that have something to send.
        for reader, subscription in sorted(readers, key=lambda pair: pair[0].turned_at):
            if reader.has_work(subscription, newest, now):
                self._start(reader)
        waits = [subscription.next_attempt_at for subscription in active if subscription.next_attempt_at]
        soonest = min(((moment - now).total_seconds() for moment in waits), default=0.0)
        return max(0.2, min(soonest, 4.0)) if waits else False

    def wait(self) -> None:
        """Wait until nothing is being sent."""
        while self._busy:
            time.sleep(0.005)

    def _start(self, reader: Reader) -> None:
        with self._guard:
            if reader.pk in self._busy or len(self._busy) >= _THREADS:
                return
            self._busy.add(reader.pk)
        # No pool of the library's: its threads are waited for when the process ends.
        threading.Thread(target=self._run, args=(reader,), name=f"webhook {reader.pk}", daemon=True).start()

    def _run(self, reader: Reader) -> None:
        try:
            self._begin_thread()
            reader.turn()
        except Exception:  # one subscription must not end the others; the log has it
            log.exception("webhook %s failed; it is tried again", reader.pk)
            time.sleep(1)
        finally:
            connection.close()
            with self._guard:
                self._busy.discard(reader.pk)


class Reader:
    """The follower of one subscription."""

    def __init__(self, pk: int) -> None:
        self.pk = pk
        self.turned_at = 0.0
        self._read_to = 0  # nothing up to there is wanted
        self._moved_at = time.monotonic()

    def has_work(self, subscription: Subscription, newest: int, now: datetime) -> bool:
        again = Delivery.objects.filter(subscription=subscription, state=State.AGAIN).exists()
        # One that waits for longer than any does is from before the clock was set back.
        at = subscription.next_attempt_at
        waits = at is not None and now < at <= now + timedelta(seconds=_WAITS[1])
        position = max(subscription.cursor, self._read_to)
        return again or (newest != position and not waits)

    def turn(self) -> None:
        """Send what there is, for some seconds at most, or until a delivery fails."""
        self.turned_at = time.monotonic()
        until = self.turned_at + _TURN_SECONDS
        subscription = Subscription.objects.filter(pk=self.pk, is_enabled=True, paused_at__isnull=True).first()
        if subscription is None:
            return
        secret = services.open_secret(subscription)
        if secret is None:
            note = "Its secret can't be read with this secret key: make a new one, then resume."
            with transaction.atomic():
                services.pause(subscription, note, utc_now())
            return
        for delivery in Delivery.objects.filter(subscription=subscription, state=State.AGAIN).order_by("id")[
            :_READ_AT_ONCE
        ]:
            _send_again(subscription, delivery, secret)
        while time.monotonic() < until and self._step(subscription, secret):
            pass

    def _step(self, subscription: Subscription, secret: str) -> bool:
        """Send the next events; return whether to go on."""
        now = utc_now()
        if subscription.next_attempt_at and now < subscription.next_attempt_at <= now + timedelta(seconds=_WAITS[1]):
            return False
        types = None if "*" in subscription.types else expand(subscription.types)
        start = max(subscription.cursor, self._read_to)
        try:
            page = feed.read_after(start, types=types, task=subscription.task_id, limit=_READ_AT_ONCE)
        except CursorGone as gone:
            _start_anew(subscription, gone.next)
            self._read_to = 0
            return True
        for event in page.events:
            if _is_wanted(subscription, event) and not _deliver(subscription, event, secret):
                return False
            self._read_to = event.id
        self._read_to = page.next
        if page.next - subscription.cursor >= _UNWANTED_EVENTS or time.monotonic() - self._moved_at > _UNWANTED_SECONDS:
            _move_cursor(subscription, page.next)
            self._moved_at = time.monotonic()
        return page.next > start


def _deliver(subscription: Subscription, event: StoredEvent, secret: str) -> bool:
    """Send an event; return whether the next may be sent."""
    # A subscription that was disabled or changed meanwhile is read anew in its next turn.
    if not Subscription.objects.filter(pk=subscription.pk, is_enabled=True, paused_at__isnull=True).exists():
        return False
    body = orjson.dumps(event.as_dict()).decode()
    message_id = _message_id(subscription, event)
    answer = sending.call(subscription.url, secret=secret, message_id=message_id, body=body)
    now = utc_now()
    values = {"type": event.type, "subject": event.subject, "message_id": message_id, "body": body}
    with transaction.atomic():
        if not Subscription.objects.filter(pk=subscription.pk).exists():  # deleted meanwhile
            return False
        delivery, _ = Delivery.objects.get_or_create(
            subscription=subscription, event_id=event.id, defaults={**values, "state": State.FAILING}
        )
        _record(delivery, answer, State.FAILING if answer.error else State.SENT, now)
        _judge(subscription, event, answer, now)
    return not answer.error


def _judge(subscription: Subscription, event: StoredEvent, answer: sending.Answer, now: datetime) -> None:
    """Move the cursor past what was sent; back off from a receiver that fails, and pause one that failed for long."""
    row = Subscription.objects.filter(pk=subscription.pk)
    if not answer.error:
        subscription.cursor, subscription.failures, subscription.failing_since = event.id, 0, None
        subscription.next_attempt_at = None
        row.update(cursor=event.id, failures=0, failing_since=None, next_attempt_at=None, note="")
        return
    since = subscription.failing_since or now
    again = now + timedelta(seconds=processes.backoff(subscription.failures, *_WAITS))
    note = f"Event {event.id} could not be delivered: {answer.error}."
    row.update(failures=subscription.failures + 1, failing_since=since, next_attempt_at=again, note=note)
    log.warning("webhook %s: %s", subscription.name, note)
    if answer.status == _GONE:
        services.pause(subscription, "The receiver answered 410: it is gone.", now)
    elif now - since >= _PAUSE_AFTER:
        sentence = f"{note} It failed since {since:%Y-%m-%d %H:%M} UTC: mend the receiver, then resume."
        services.pause(subscription, sentence, now)


def _send_again(subscription: Subscription, delivery: Delivery, secret: str) -> None:
    """Send an event once more; its place in the order is past, so nothing depends on the answer."""
    answer = sending.call(subscription.url, secret=secret, message_id=delivery.message_id, body=delivery.body)
    with transaction.atomic():
        _record(delivery, answer, State.SENT, utc_now())


def _record(delivery: Delivery, answer: sending.Answer, state: State, now: datetime) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(
        state=state,
        attempts=delivery.attempts + 1,
        status=answer.status,
        answer=answer.text,
        error=answer.error,
        seconds=answer.seconds,
        attempted_at=now,
    )


def _start_anew(subscription: Subscription, cursor: int) -> None:
    note = f"Events after {subscription.cursor} were removed before they were sent, or the database was put back."
    log.warning("webhook %s: %s", subscription.name, note)
    subscription.cursor, subscription.failures, subscription.failing_since = cursor, 0, None
    subscription.next_attempt_at = None
    with transaction.atomic():
        subscription.note = note
        subscription.save(update_fields=["cursor", "note", *services.FAILURE_FIELDS])


def _move_cursor(subscription: Subscription, cursor: int) -> None:
    subscription.cursor = cursor
    with transaction.atomic():
        Subscription.objects.filter(pk=subscription.pk).update(cursor=cursor)


def _is_wanted(subscription: Subscription, event: StoredEvent) -> bool:
    if not (subscription.job or subscription.repository):
        return True
    data = orjson.loads(event.data)
    if subscription.job and data.get("job") != subscription.job:
        return False
    return not subscription.repository or subscription.repository.lower() in _repositories(event, data.get("repos"))


def _repositories(event: StoredEvent, named: object) -> set[str]:
    """Return the repositories that an event names, else those of its task."""
    if not isinstance(named, list):
        task = Task.objects.filter(pk=event.task_id).only("repos").first() if event.task_id else None
        named = (task.repo_list if task else None) or []
    return {str(name).lower() for name in named}


def _message_id(subscription: Subscription, event: StoredEvent) -> str:
    """Return the id that receivers know an event by: a put back database gives another event the same number."""
    at = parse(event.at)
    return f"evt_{subscription.pk}_{event.id}_{int(at.timestamp() * 1000) if at else 0:x}"


def prune() -> int:
    """Remove deliveries past the limits, oldest first; return how many. What is still to be sent stays.

    An event that failed is over once its subscription went on without it: it is wanted no more, or was removed.
    """
    with transaction.atomic():
        passed = Delivery.objects.filter(state=State.FAILING, event_id__lte=F("subscription__cursor"))
        passed.update(state=State.SENT)
    oldest = utc_now() - timedelta(days=settings.WEBHOOK_KEEP_DAYS)
    newest = Delivery.objects.order_by("-id").values_list("pk", flat=True).first() or 0
    over = Delivery.objects.filter(state=State.SENT)
    removed = 0
    for rows in (over.filter(created_at__lt=oldest), over.filter(pk__lte=newest - _MOST_DELIVERIES)):
        while ids := list(rows.values_list("pk", flat=True)[:_BATCH]):
            with transaction.atomic():
                removed += Delivery.objects.filter(pk__in=ids).delete()[0]
    return removed
