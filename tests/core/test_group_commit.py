"""Writers of one process that wait for the write gate are committed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from django.db.utils import IntegrityError, OperationalError

from core.errors import Unavailable
from core.sqlite import base, group_commit
from core.sqlite.base import DatabaseWrapper
from core.sqlite.gate import gate_for
from core.sqlite.messages import in_words
from tests.support.installation import wait_for

pytestmark = pytest.mark.sqlite("the write gate")


class Writers:
    """The first has begun a transaction; the others wait for the gate meanwhile."""

    def __init__(self, open_database: Callable[[int], DatabaseWrapper], threads: ThreadPoolExecutor) -> None:
        self._open, self._threads = open_database, threads
        self.statements: list[str] = []
        self.database = open_database(40)
        self.gate = gate_for(str(self.database.settings_dict["NAME"]))
        self.database.connection.set_trace_callback(self.statements.append)
        begin(self.database, "first")

    def start(self, write: Callable[[DatabaseWrapper], None]) -> Future[None]:
        database, waiting = self._open(40), len(self.gate.waiting)
        future = self._threads.submit(write, database)
        wait_for(lambda: len(self.gate.waiting) == waiting + 1, what="the writer waits")
        return future

    def words(self) -> list[str]:
        return [word for (word,) in self._open(40).connection.execute("SELECT word FROM words ORDER BY rowid")]


@pytest.fixture
def writers(open_database: Callable[[int], DatabaseWrapper], monkeypatch: pytest.MonkeyPatch) -> Iterator[Writers]:
    monkeypatch.setattr(group_commit, "_LONGEST_SECONDS", 20)
    monkeypatch.setattr(group_commit, "_PAUSE_SECONDS", 20)  # a busy machine may take longer than usual to go on
    with ThreadPoolExecutor(40) as threads:
        yield Writers(open_database, threads)


def begin(database: DatabaseWrapper, word: str) -> None:
    database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    database.connection.execute("INSERT INTO words VALUES (?)", [word])


def commit(database: DatabaseWrapper) -> None:
    try:
        database.commit()
    finally:
        database.set_autocommit(True)


def write(word: str) -> Callable[[DatabaseWrapper], None]:
    def write_it(database: DatabaseWrapper) -> None:
        begin(database, word)
        commit(database)

    return write_it


def have_commit_fail(database: DatabaseWrapper) -> None:
    """Write what refers to a row that isn't there, as COMMIT finds out."""
    database.connection.execute("CREATE TABLE kinds (kind TEXT PRIMARY KEY)")
    database.connection.execute("CREATE TABLE marks (kind REFERENCES kinds DEFERRABLE INITIALLY DEFERRED)")
    database.connection.execute("INSERT INTO marks VALUES ('unknown')")


def test_writers_that_wait_share_a_commit(writers: Writers) -> None:
    others = [writers.start(write(word)) for word in ("second", "third")]
    commit(writers.database)
    for other in others:
        other.result(10)
    assert writers.statements.count("COMMIT") == 1
    assert sorted(writers.words()) == ["first", "second", "third"]
    write("fourth")(writers.database)
    assert "fourth" in writers.words()


def test_a_commit_keeps_other_processes_out_for_sixteen_writers_at_most(writers: Writers) -> None:
    others = [writers.start(write(str(number))) for number in range(20)]
    commit(writers.database)
    for other in others:
        other.result(10)
    assert len(writers.words()) == 21
    together = writers.statements[: writers.statements.index("COMMIT")]
    assert together.count("RELEASE writer") == 16


def test_what_a_writer_undoes_is_its_own(writers: Writers) -> None:
    def undo(database: DatabaseWrapper) -> None:
        begin(database, "undone")
        database.rollback()
        database.set_autocommit(True)

    others = [writers.start(each) for each in (write("second"), undo, write("third"))]
    commit(writers.database)
    for other in others:
        other.result(10)
    assert sorted(writers.words()) == ["first", "second", "third"]


def test_a_connection_that_is_closed_in_its_part_undoes_that(writers: Writers) -> None:
    def close(database: DatabaseWrapper) -> None:
        begin(database, "undone")
        database.close()

    other = writers.start(close)
    commit(writers.database)
    other.result(10)
    assert writers.words() == ["first"]


def test_a_commit_that_fails_fails_for_all(writers: Writers) -> None:
    def mark(database: DatabaseWrapper) -> None:
        begin(database, "second")
        have_commit_fail(database)
        commit(database)

    other = writers.start(mark)
    with pytest.raises(OperationalError, match="failed together"):
        commit(writers.database)
    with pytest.raises(OperationalError, match="failed together"):
        other.result(10)
    assert writers.words() == []
    write("after")(writers.database)
    assert writers.words() == ["after"]


def test_who_waits_for_a_commit_that_is_interrupted_is_told_to_look(
    writers: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As gevent ends a greenlet."""

    def be_killed(*_: object) -> None:
        raise Killed

    other = writers.start(write("second"))
    monkeypatch.setattr(base, "_sync", be_killed)
    with pytest.raises(OperationalError) as told:
        commit(writers.database)
    assert in_words(told.value) == "this write was interrupted; look whether it was saved before you try again"
    with pytest.raises(Killed):
        other.result(10)
    monkeypatch.undo()
    assert writers.words() == []
    write("after")(writers.database)
    assert writers.words() == ["after"]


@pytest.mark.parametrize("leave", [DatabaseWrapper.rollback, DatabaseWrapper.close])
def test_when_sqlite_undoes_everything_all_are_told(writers: Writers, leave: Callable[[DatabaseWrapper], None]) -> None:
    def fail(database: DatabaseWrapper) -> None:
        begin(database, "second")
        try:
            with database.wrap_database_errors:
                database.connection.execute("INSERT OR ROLLBACK INTO words VALUES ('first')")
        except IntegrityError:
            leave(database)
            raise

    other = writers.start(fail)
    with pytest.raises(OperationalError, match="failed together"):
        commit(writers.database)
    with pytest.raises(IntegrityError):
        other.result(10)
    assert writers.words() == []
    write("after")(writers.database)
    assert writers.words() == ["after"]


def test_a_write_outside_of_a_transaction_comes_after_those_before_it(writers: Writers) -> None:
    def insert(database: DatabaseWrapper) -> None:
        with database.cursor() as cursor:
            cursor.execute("INSERT INTO words VALUES (%s)", ["second"])

    other = writers.start(insert)
    commit(writers.database)
    other.result(10)
    assert writers.words() == ["first", "second"]


def test_a_commit_waits_for_nobody_who_has_given_up(writers: Writers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_PAUSE_SECONDS", 0.005)
    writers.gate.waiting.append(None)
    commit(writers.database)
    writers.gate.waiting.pop()
    assert writers.words() == ["first"]
    assert writers.gate.acquire(0)
    writers.gate.release()


def test_hooks_of_a_commit_run_once_it_is_on_the_disk(writers: Writers) -> None:
    seen: list[list[str]] = []
    other = writers.start(write("second"))
    writers.database.run_on_commit = [(set(), lambda: seen.append(writers.words()), False)]
    commit(writers.database)
    other.result(10)
    assert seen == [["first", "second"]]


def test_what_a_writer_read_of_others_is_not_answered_when_that_is_undone(writers: Writers) -> None:
    have_commit_fail(writers.database)

    def read(database: DatabaseWrapper) -> None:
        begin(database, "undone")
        assert database.connection.execute("SELECT word FROM words WHERE word = 'first'").fetchone()
        try:
            database.rollback()
        finally:
            database.set_autocommit(True)

    other = writers.start(read)
    with pytest.raises(OperationalError, match="failed together"):
        commit(writers.database)
    with pytest.raises(Unavailable, match="not saved after all"):
        other.result(10)
    assert writers.words() == []


def test_a_writer_has_a_connection_after_its_commit_also_when_all_are_in_use(writers: Writers) -> None:
    def read_after(database: DatabaseWrapper) -> None:
        write("second")(database)
        assert database.connection is not None
        assert len(database.connection.execute("SELECT word FROM words").fetchall()) == 2

    pool = writers.database._pool
    assert pool is not None
    other = writers.start(read_after)
    while pool._places.acquire(blocking=False):
        pass
    commit(writers.database)
    other.result(10)


def test_nobody_joins_a_group_that_is_old(writers: Writers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_LONGEST_SECONDS", -1)
    others = [writers.start(write(word)) for word in ("second", "third")]
    commit(writers.database)
    for other in others:
        other.result(10)
    assert "SAVEPOINT writer" not in writers.statements
    assert sorted(writers.words()) == ["first", "second", "third"]
