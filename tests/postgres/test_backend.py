"""The backend: one transaction at a time, deadlines, errors, commits that are listened for, a server that restarts."""

from __future__ import annotations

import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import gevent
import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.db.models import Sum
from django.db.utils import IntegrityError

from core.database.backend import data_version, in_words, in_words_for_the_console, is_about_a_lock, listener
from core.database.statements import read_one
from core.postgres.gevent_connection import GeventConnection
from core.postgres.notification import Listener
from core.timestamps import utc_now
from core.write_deadline import writing_until
from jobs.models import Job
from tasks.leases.queries import beat, insert_lease
from tasks.models import Task
from tests.support.postgres import Cluster, url_of_run

pytestmark = pytest.mark.django_db(transaction=True)


class Other:
    """A transaction of another connection, which ends when it is told so."""

    def __init__(self) -> None:
        self._begun, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Other:
        self._thread.start()
        assert self._begun.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(10)

    def _run(self) -> None:
        try:
            with transaction.atomic():
                self._begun.set()
                self._end.wait(30)
        finally:
            connection.close()


def test_a_transaction_waits_for_another_until_its_deadline() -> None:
    with Other():
        began = time.monotonic()
        with (
            pytest.raises(OperationalError) as raised,
            writing_until(time.monotonic() + 0.3),
            transaction.atomic(),
        ):
            raise AssertionError("it began")
        assert 0.2 <= time.monotonic() - began < 5
        assert is_about_a_lock(raised.value)
        assert in_words(raised.value) == "the database is locked by another writer; try again in a few seconds"
        assert Task.objects.count() == 0  # the connection can be used, and readers wait for nobody
    with transaction.atomic():
        Task.objects.create(name="x")
    assert Task.objects.count() == 1


def test_a_transaction_reads_what_is_true_after_its_wait_whatever_the_server_s_default_is() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_isolation = 'repeatable read'")
        try:
            with transaction.atomic():
                cursor.execute("SHOW transaction_isolation")
                assert cursor.fetchone() == ("read committed",)
        finally:
            cursor.execute("RESET default_transaction_isolation")


def test_a_heartbeat_waits_for_no_other_writer() -> None:
    task = Task.objects.create(name="t", status="active")
    now = utc_now()
    until = now + timedelta(seconds=60)
    with transaction.atomic():
        lease = insert_lease(task.pk, holder="h", runner="", assigned_to="h", seconds=60, now=now, expires_at=until)
    with Other(), writing_until(time.monotonic() + 0.3):
        assert beat(lease.id, now=now, expires_at=now + timedelta(seconds=90))
        assert not beat(lease.id, now=now + timedelta(seconds=91), expires_at=now + timedelta(seconds=180))


def test_a_statement_that_failed_and_was_caught_is_not_taken_for_a_commit() -> None:
    def fail_and_go_on() -> None:
        with transaction.atomic():
            Task.objects.create(name="lost")
            with pytest.raises(DatabaseError), connection.cursor() as cursor:
                cursor.execute("SELECT 1/0")

    with pytest.raises(OperationalError, match="rolled back"):
        fail_and_go_on()
    assert not Task.objects.exists()


def test_a_transaction_that_stood_still_is_ended_by_the_server_and_says_that_it_can_be_tried_again() -> None:
    def stand_still() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 50")
            pid = connection.connection.info.backend_pid
            with psycopg.connect(url_of_run(), autocommit=True) as other:
                alive = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
                _wait_for(lambda: other.execute(alive, [pid]).fetchone() is None)
            Task.objects.create(name="late")

    with pytest.raises(OperationalError) as raised:
        stand_still()
    assert "try again in a few seconds" in in_words(raised.value)
    assert not Task.objects.exists()


def test_a_connection_that_is_lost_as_a_transaction_gives_up_waiting_hides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lose(_: object) -> None:
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    with Other():
        with monkeypatch.context() as patched:
            patched.setattr(psycopg.Connection, "rollback", lose)
            with pytest.raises(OperationalError) as raised, writing_until(time.monotonic() + 0.2), transaction.atomic():
                raise AssertionError("it began")
        assert is_about_a_lock(raised.value)
        connection.close()


def test_a_savepoint_of_its_own_keeps_the_transaction() -> None:
    with transaction.atomic():
        task = Task.objects.create(name="kept")
        with pytest.raises(IntegrityError), transaction.atomic():
            Task.objects.create(pk=task.pk, name="twice")
    assert Task.objects.count() == 1


def test_a_missing_table_is_an_operational_error_with_advice() -> None:
    with pytest.raises(OperationalError) as raised:
        connection.cursor().execute("SELECT 1 FROM nowhere")
    assert "manage.py migrate" in in_words(raised.value)
    assert "LOBWIFE_DATABASE_URL" in in_words_for_the_console(raised.value)


def test_texts_are_compared_by_their_bytes_and_searched_in_any_case() -> None:
    for name in ("a", "B", "_", "Ä"):
        Task.objects.create(name=name)
    assert list(Task.objects.order_by("name").values_list("name", flat=True)) == ["B", "_", "a", "Ä"]
    assert Task.objects.get(name__icontains="b").name == "B"
    assert Task.objects.get(name__icontains="ä").name == "Ä"


def test_whole_numbers_have_64_bits_and_their_sum_is_one() -> None:
    Task.objects.create(name="x", estimate_minutes=2**40)
    Task.objects.create(name="y", estimate_minutes=2**40)
    total = Task.objects.aggregate(sum=Sum("estimate_minutes"))["sum"]
    assert (total, type(total)) == (2**41, int)


def test_the_character_nul_is_replaced() -> None:
    row = Task.objects.create(name="a\0b")
    assert Task.objects.get(name="a\0b").pk == row.pk
    assert Task.objects.filter(name__icontains="\0").values_list("name", flat=True)[0] == "a\ufffdb"
    job = Job.objects.create(name="x", script="x.sh", schedule="@daily", environment={"A": "a\0"})
    job.refresh_from_db()
    assert job.environment == {"A": "a\ufffd"}


def test_a_commit_wakes_listeners_and_changes_the_version() -> None:
    commits = listener()
    try:
        commits.drain()
        version = data_version()
        # Transactions of other databases of the server change it too.
        assert any(data_version() == data_version() for _ in range(100))
        with transaction.atomic():
            Task.objects.create(name="x")
        assert select.select([commits.fileno()], [], [], 5)[0]
        commits.drain()
        assert not select.select([commits.fileno()], [], [], 0)[0]
        assert data_version() != version
    finally:
        commits.close()


def test_what_rest_runs_most_is_planned_once_by_the_server() -> None:
    for number in range(3):
        assert read_one("SELECT %s + 1 AS planned_once", (number,)) == (number + 1,)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%planned_once%'")
        assert cursor.fetchone() == (1,)


def test_a_greenlet_that_waits_for_the_server_lets_others_go_on() -> None:
    order: list[str] = []

    def execute(sql: str, name: str) -> None:
        with GeventConnection.connect(**connection._plain_parameters()) as other:
            other.execute(sql)
        order.append(name)

    sleeper = gevent.spawn(execute, "SELECT pg_sleep(0.5)", "sleeper")
    gevent.joinall([sleeper, gevent.spawn(execute, "SELECT 1", "other")], timeout=10, raise_error=True)
    assert order == ["other", "sleeper"]


def test_a_lock_of_a_name_is_held_by_one() -> None:
    order: list[str] = []

    def wait() -> None:
        try:
            with connections["default"].one_at_a_time("migrate"):
                order.append("second")
        finally:
            connection.close()

    with connections["default"].one_at_a_time("migrate"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        _wait_for(lambda: _waiting_for_locks() == 1)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server of the module's own, which may be stopped."""
    made = Cluster()
    yield made
    made.remove()


def test_a_listener_connects_again_after_the_server_was_killed(cluster: Cluster) -> None:
    commits = Listener(psycopg.conninfo.conninfo_to_dict(cluster.url()))
    try:
        cluster.stop(signal.SIGQUIT)

        def is_idle() -> bool:
            commits.drain()
            return not select.select([commits.fileno()], [], [], 0.05)[0]

        _wait_for(is_idle)
        cluster.start()

        def is_notified() -> bool:
            commits.drain()
            with psycopg.connect(cluster.url(), autocommit=True) as other:
                other.execute("NOTIFY lobwife_commits")
            return bool(select.select([commits.fileno()], [], [], 0.1)[0])

        _wait_for(is_notified)
    finally:
        commits.close()


def _waiting_for_locks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return int(cursor.fetchone()[0])


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
