"""What outlives a restore: ids that were given out, firings that were dealt with, what was closed to callers."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field, replace

_LOST = "the database was put back to a moment at which this run was not over: what became of it is not known"


@dataclass(frozen=True)
class Given:
    """The highest id of each table that counts; how far each job's schedule is dealt with; which API keys were
    revoked, and whether callers need one; people's passwords, and what they are.
    """

    highest: dict[str, int]
    settled: list[tuple[str, str, str | None]]
    revoked: list[tuple[str, str, str]]
    is_closed: bool = False
    people: list[tuple[str, str, bool, bool, bool]] = field(default_factory=list)

    def joined(self, other: Given) -> Given:
        """The higher of both, table by table."""
        tables = {*self.highest, *other.highest}
        highest = {name: max(self.highest.get(name, 0), other.highest.get(name, 0)) for name in tables}
        return Given(
            highest,
            self.settled + other.settled,
            self.revoked + other.revoked,
            self.is_closed or other.is_closed,
            self.people + other.people,
        )

    def widened(self, by: int) -> Given:
        return replace(self, highest={name: number + by for name, number in self.highest.items()})


def read(opened: sqlite3.Connection) -> Given:
    """What a database knows; raises sqlite3.Error when it can't be read."""
    counting = opened.execute(
        "SELECT name FROM sqlite_master JOIN pragma_table_list USING (name)"
        " WHERE sqlite_master.type = 'table' AND schema = 'main' AND NOT wr AND upper(sql) LIKE '%AUTOINCREMENT%'"
    ).fetchall()
    sequences = dict(opened.execute("SELECT name, CAST(seq AS INTEGER) FROM sqlite_sequence")) if counting else {}
    highest: dict[str, int] = {}
    for (name,) in counting:
        quoted = name.replace('"', '""')
        (present,) = opened.execute(f'SELECT max(rowid) FROM "{quoted}"').fetchone()  # noqa: S608 - a table's own name
        highest[name] = max(sequences.get(name) or 0, present or 0)
    settled: list[tuple[str, str, str | None]] = []
    if "jobs_job" in highest:
        settled = opened.execute(
            "SELECT name, settled_through, next_firing FROM jobs_job WHERE settled_through IS NOT NULL"
        ).fetchall()
    revoked: list[tuple[str, str, str]] = []
    if "lobwife_apikey" in highest:
        revoked = opened.execute(
            "SELECT prefix, revoked_at, revoked_by FROM lobwife_apikey WHERE revoked_at IS NOT NULL"
        ).fetchall()
    is_closed = False
    if "lobwife_accesspolicy" in highest:
        modes = opened.execute("SELECT coalesce(nullif(decided, ''), initial) FROM lobwife_accesspolicy").fetchall()
        is_closed = ("required",) in modes
    people: list[tuple[str, str, bool, bool, bool]] = []
    if "auth_user" in highest:
        people = opened.execute(
            "SELECT username, password, is_active, is_staff, is_superuser FROM auth_user"
        ).fetchall()
    return Given(highest, settled, revoked, is_closed, people)


def carry_over(copy: sqlite3.Connection, given: Given) -> None:
    """Write it into an up-to-date copy, in one transaction.

    Runs that were not over are closed: they would run a second time. Everybody signs in again: a session of then may
    be one that was ended since.
    """
    copy.execute("BEGIN IMMEDIATE")
    highest = given.joined(read(copy)).highest
    for name, number in highest.items():
        copy.execute("DELETE FROM sqlite_sequence WHERE name = ?", [name])
        copy.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [name, number])
    for name, settled_through, next_firing in given.settled:
        copy.execute(
            "UPDATE jobs_job SET settled_through = ?1, next_firing = ?2"
            " WHERE name = ?3 AND (settled_through IS NULL OR settled_through < ?1)",
            [settled_through, next_firing, name],
        )
    copy.execute(
        "UPDATE jobs_jobrun SET state = 'lost', note = ?, ended_at = strftime('%Y-%m-%d %H:%M:%f', 'now')"
        " WHERE state IN ('queued', 'running')",
        [_LOST],
    )
    for prefix, revoked_at, revoked_by in given.revoked:
        copy.execute(
            "UPDATE lobwife_apikey SET revoked_at = ?, revoked_by = ? WHERE prefix = ? AND revoked_at IS NULL",
            [revoked_at, revoked_by, prefix],
        )
    if given.is_closed:
        copy.execute(
            "UPDATE lobwife_accesspolicy SET decided = 'required', decided_by = 'a restore' WHERE decided = 'open'"
            " OR (decided = '' AND initial = 'open')"
        )
    for username, *now in given.people:
        copy.execute(
            "UPDATE auth_user SET password = ?, is_active = min(is_active, ?), is_staff = min(is_staff, ?),"
            " is_superuser = min(is_superuser, ?) WHERE username = ?",
            [*now, username],
        )
    copy.execute("DELETE FROM django_session")
    copy.execute("COMMIT")
