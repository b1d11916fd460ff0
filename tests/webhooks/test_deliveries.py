"""What receivers get: signed, in order, again after a failure; and what receivers can't do to lobwife."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import time_machine
from django.conf import LazySettings
from django.db import transaction
from django.db.utils import OperationalError
from standardwebhooks import Webhook

from core.errors import Conflict
from core.timestamps import utc_now
from events import services as feed
from events.models import Event
from tasks import services as tasks
from tests.support.installation import wait_for
from tests.support.raw_receiver import raw_receiver, read_request
from tests.support.receiver import Receiver, receiver
from webhooks import follower, sending, services
from webhooks.follower import Follower, Reader
from webhooks.models import Delivery, State, Subscription

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def place() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def subscribe(port: int, name: str = "ci", **fields: object) -> tuple[Subscription, str]:
    return services.create(name=name, fields={"url": f"http://127.0.0.1:{port}/hook", **fields})


def happen(*objects: str, type: str = "admin.changed") -> None:
    """Append an event of each of these to the feed."""
    with transaction.atomic():
        for name in objects:
            data = {"model": None, "object_id": None, "object": name, "action": "changed", "message": ""}
            feed.append(type, name, data, actor="olga")


def turn(subscription: Subscription) -> None:
    Reader(subscription.pk).turn()


def subjects(place: Receiver) -> list[str]:
    return [json.loads(body)["subject"] for body in place.bodies]


def ids(place: Receiver) -> list[str]:
    return [headers["webhook-id"] for headers in place.headers]


def stored(subscription: Subscription) -> Subscription:
    return Subscription.objects.get(pk=subscription.pk)


@pytest.mark.django_db
def test_events_arrive_in_order_and_signed_as_the_package_verifies(place: Receiver) -> None:
    happen("before the webhook was made")
    subscription, secret = subscribe(place.port)
    happen("a", "b", "c")
    turn(subscription)
    assert subjects(place) == ["a", "b", "c"]
    for body, headers in zip(place.bodies, place.headers, strict=True):
        event = Webhook(secret).verify(body, headers)
        assert event == feed.read_after(event["id"] - 1, limit=1).events[0].as_dict() | {"data": event["data"]}
    assert stored(subscription).cursor == feed.newest_id()
    assert secret not in stored(subscription).encrypted
    turn(subscription)
    assert len(place.bodies) == 3
    delivery = Delivery.objects.first()
    assert delivery is not None
    assert (delivery.state, delivery.status, delivery.attempts, delivery.error) == (State.SENT, 200, 1, "")


@pytest.mark.django_db
def test_filters_by_type_task_job_and_repository(place: Receiver) -> None:
    ours = tasks.create_task(fields={"name": "ours", "repos": ["Org/App"]}, actor="t")
    tasks.create_task(fields={"name": "theirs", "repos": ["org/other"]}, actor="t")
    wanted = {
        "by-type": {"types": ["task.upd*"]},
        "by-task": {"task_id": ours.pk},
        "by-job": {"job": "nightly"},
        "by-repository": {"repository": "org/app"},
    }
    webhooks = {name: subscribe(place.port, name, **fields)[0] for name, fields in wanted.items()}
    for task_id in (ours.pk, ours.pk + 1):
        tasks.update_task(task_id=task_id, changes={"priority": "high"}, actor="t")
    run = dict.fromkeys(feed.TYPES["run.ended"].fields) | {"run_id": 1}
    with transaction.atomic():
        feed.append("run.ended", "run 1", run | {"job": "nightly"})
        feed.append("run.ended", "run 2", run | {"job": "hourly"})
    happened: dict[str, list[str]] = {}
    for name, subscription in webhooks.items():
        place.bodies.clear()
        turn(subscription)
        happened[name] = [f"{json.loads(body)['type']} {json.loads(body)['subject']}" for body in place.bodies]
    assert happened == {
        "by-type": [f"task.updated T{ours.pk}", f"task.updated T{ours.pk + 1}"],
        "by-task": [f"task.updated T{ours.pk}"],
        "by-job": ["run.ended run 1"],
        "by-repository": [f"task.updated T{ours.pk}"],
    }


@pytest.mark.django_db
def test_a_receiver_that_fails_is_tried_again_with_growing_pauses_and_paused_after_three_days(
    place: Receiver,
) -> None:
    place.status = 500
    with time_machine.travel(utc_now(), tick=False) as clock:
        subscription, _ = subscribe(place.port)
        happen("a", "b")
        pauses = []
        while stored(subscription).paused_at is None:
            turn(subscription)
            turn(subscription)  # not due: nothing is sent
            pause = stored(subscription).next_attempt_at - utc_now()
            pauses.append(pause.total_seconds())
            clock.shift(pause)
        assert pauses[:4] == [5, 10, 20, 40]
        assert max(pauses) <= 86_400
        assert len(place.bodies) == len(pauses), "one attempt for each pause"
        paused = stored(subscription)
        assert "it answered 500. It failed since" in paused.note
        assert paused.paused_at - paused.failing_since >= timedelta(days=3)
        assert set(subjects(place)) == {"a"}, "the next one waits"
        assert len(set(ids(place))) == 1
        place.status = 200
        turn(subscription)
        assert len(place.bodies) == len(pauses)
        services.resume(name="ci", actor="olga")
        turn(subscription)
    assert subjects(place)[-3:] == ["a", "b", "ci"], "the last says that it was resumed"
    assert ids(place)[-3] == ids(place)[0]
    assert [delivery.attempts for delivery in Delivery.objects.order_by("pk")] == [len(pauses) + 1, 1, 1]


@pytest.mark.django_db
def test_a_receiver_that_is_gone_is_paused_at_once(place: Receiver) -> None:
    place.status = 410
    subscription, _ = subscribe(place.port)
    happen("a")
    turn(subscription)
    assert stored(subscription).note == "The receiver answered 410: it is gone."


@pytest.mark.django_db
def test_a_redirect_is_not_followed(place: Receiver) -> None:
    with receiver() as elsewhere:
        place.status, place.location = 301, f"http://127.0.0.1:{elsewhere.port}/"
        subscription, _ = subscribe(place.port)
        happen("a")
        turn(subscription)
        assert elsewhere.bodies == []
    assert Delivery.objects.get().error == "it answered 301: redirects are not followed"


def endless(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(OK + b"Content-Length: 10737418240\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def drop_by_drop(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(OK + b"Content-Length: 1000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def never_read(connection: socket.socket) -> None:
    time.sleep(60)


def read_and_hang(connection: socket.socket) -> None:
    read_request(connection)
    time.sleep(60)


def endless_head(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(OK)
    while True:
        connection.sendall(b"X-More: " + b"x" * 8000 + b"\r\n")


def no_http(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"hello\r\n\r\n")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("behave", "error", "answer"),
    [
        (endless, "", "x" * 1024),  # 10 GB: its status says that it was taken
        (drop_by_drop, "no answer within 1 s", ""),
        (never_read, "no answer within 1 s", ""),
        (read_and_hang, "no answer within 1 s", ""),
        (endless_head, "it can't be reached (RemoteProtocolError)", ""),
        (no_http, "it can't be reached (RemoteProtocolError)", ""),
    ],
)
def test_an_answer_is_read_to_a_bound_and_within_a_deadline(
    monkeypatch: pytest.MonkeyPatch, behave: Callable[[socket.socket], None], error: str, answer: str
) -> None:
    monkeypatch.setattr(sending, "SECONDS", 1.0 if "within" in error else 30.0)
    with raw_receiver(behave) as port:
        subscription, _ = subscribe(port)
        happen("a")
        began = time.monotonic()
        turn(subscription)
        assert time.monotonic() - began < 5
    delivery = Delivery.objects.get()
    assert (delivery.error, delivery.answer) == (error, answer)
    assert delivery.state == (State.FAILING if error else State.SENT)


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_hangs_holds_up_no_other(monkeypatch: pytest.MonkeyPatch, place: Receiver) -> None:
    monkeypatch.setattr(sending, "SECONDS", 60.0)
    with raw_receiver(read_and_hang) as port:
        slow = [subscribe(port, f"slow-{number}")[0] for number in range(3)]
        subscribe(place.port, "quick")
        happen("a", "b")
        following = Follower()
        following.tick()
        wait_for(lambda: len(place.bodies) == 2, what="the quick one has both while the others hang")
        assert subjects(place) == ["a", "b"]
        assert not Delivery.objects.exclude(subscription__name="quick").exists()
    following.wait()  # the hanging ones are cut off
    assert [stored(subscription).failures for subscription in slow] == [1, 1, 1]


@pytest.mark.django_db(transaction=True)
def test_with_fewer_threads_than_webhooks_each_gets_its_turn(monkeypatch: pytest.MonkeyPatch, place: Receiver) -> None:
    monkeypatch.setattr(follower, "_THREADS", 1)
    for name in ("a", "b"):
        subscribe(place.port, name, types=["admin.changed"])
    tick_is_over = threading.Event()
    following = Follower(tick_is_over.wait)  # a thread that ended within the tick would leave room for another
    for word in ("first", "second"):
        happen(word)
        tick_is_over.clear()
        following.tick()
        tick_is_over.set()
        following.wait()
    sent = Delivery.objects.order_by("pk").values_list("subscription__name", "subject")
    assert list(sent) == [("a", "first"), ("b", "first"), ("b", "second")]


@pytest.mark.django_db(transaction=True)
def test_a_thread_that_may_not_begin_sends_nothing(place: Receiver) -> None:
    def refuse() -> None:
        raise OperationalError("another daemon leads since")

    subscribe(place.port)
    happen("a")
    following = Follower(refuse)
    following.tick()
    following.wait()
    assert subjects(place) == []


@pytest.mark.django_db
def test_an_event_that_was_sent_before_a_crash_is_sent_again_with_the_same_id(
    monkeypatch: pytest.MonkeyPatch, place: Receiver
) -> None:
    subscription, _ = subscribe(place.port)
    happen("a")

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(follower, "_judge", crash)
        with pytest.raises(KeyboardInterrupt):
            turn(subscription)
    turn(subscription)
    assert subjects(place) == ["a", "a"]
    assert len(set(ids(place))) == 1


@pytest.mark.django_db
def test_a_delivery_is_sent_again_with_the_same_id_and_body(place: Receiver) -> None:
    subscription, _ = subscribe(place.port)
    happen("a", "b")
    turn(subscription)
    first = Delivery.objects.order_by("pk")[0]
    services.send_again(delivery_id=first.pk)
    place.status = 500
    turn(subscription)
    assert subjects(place) == ["a", "b", "a"]
    assert (place.bodies[0], ids(place)[0]) == (place.bodies[2], ids(place)[2])
    first.refresh_from_db()
    assert (first.state, first.attempts, first.status) == (State.SENT, 2, 500)
    assert stored(subscription).failures == 0


@pytest.mark.django_db
def test_events_that_were_removed_before_they_were_sent_are_said(place: Receiver) -> None:
    subscription, _ = subscribe(place.port)
    happen("a", "b", "c")
    Event.objects.exclude(pk=feed.newest_id()).delete()
    turn(subscription)
    assert subjects(place) == ["c"]
    Subscription.objects.update(cursor=feed.newest_id() + 1000)  # as after the database was put back
    happen("d")
    turn(subscription)
    assert "or the database was put back" in stored(subscription).note
    happen("e")
    turn(subscription)
    assert subjects(place) == ["c", "e"]


@pytest.mark.django_db
def test_a_delivery_that_its_webhook_went_on_without_is_over(place: Receiver, settings: LazySettings) -> None:
    subscription, _ = subscribe(place.port)
    place.status = 500
    happen("removed", "kept")
    turn(subscription)
    delivery = Delivery.objects.get()
    with pytest.raises(Conflict, match="by itself"):
        services.send_again(delivery_id=delivery.pk)
    Event.objects.exclude(pk=feed.newest_id()).delete()
    Subscription.objects.update(next_attempt_at=utc_now())
    place.status = 200
    turn(subscription)
    assert subjects(place) == ["removed", "kept"]
    subscription = stored(subscription)
    assert (subscription.failures, subscription.failing_since, subscription.next_attempt_at) == (0, None, None)
    services.send_again(delivery_id=delivery.pk)
    turn(subscription)
    assert subjects(place)[-1] == "removed"
    Delivery.objects.filter(pk=delivery.pk).update(state=State.FAILING, created_at=utc_now() - timedelta(days=999))
    assert follower.prune() == 1


@pytest.mark.django_db
def test_old_deliveries_are_removed(place: Receiver, settings: LazySettings) -> None:
    subscription, _ = subscribe(place.port)
    happen("a", "b")
    turn(subscription)
    oldest = Delivery.objects.order_by("pk")[0]
    Delivery.objects.filter(pk=oldest.pk).update(created_at=utc_now() - timedelta(days=settings.WEBHOOK_KEEP_DAYS + 1))
    assert follower.prune() == 1
    assert [delivery.subject for delivery in Delivery.objects.all()] == ["b"]
