"""What outlives a restore: which ids were given out, and which firings were dealt with, since the copy was made."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

_LOST = "the database was put back to a moment at which this run was not over: what became of it is not known"


@dataclass(frozen=True)
class Given:
    """The highest id of each table that counts, and of each job by name how far its schedule is dealt with."""

    highest: dict[str, int]
    settled: list[tuple[str, str, str | None]]

    def joined(self, other: Given) -> Given:
        """The higher of both, table by table."""
        tables = {*self.highest, *other.highest}
        highest = {name: max(self.highest.get(name, 0), other.highest.get(name, 0)) for name in tables}
        return Given(highest, self.settled + other.settled)

    def widened(self, by: int) -> Given:
        return Given({name: number + by for name, number in self.highest.items()}, self.settled)


def read(opened: sqlite3.Connection) -> Given:
    """What a database knows; raises sqlite3.Error when it can't be read."""
    counting = opened.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND upper(sql) LIKE '%AUTOINCREMENT%'"
    ).fetchall()
    sequences = dict(opened.execute("SELECT name, CAST(seq AS INTEGER) FROM sqlite_sequence")) if counting else {}
    highest: dict[str, int] = {}
    for (name,) in counting:
        (present,) = opened.execute(f'SELECT max(rowid) FROM "{name}"').fetchone()  # noqa: S608 - a table's own name
        highest[name] = max(sequences.get(name) or 0, present or 0)
    settled: list[tuple[str, str, str | None]] = []
    if "jobs_job" in highest:
        settled = opened.execute(
            "SELECT name, settled_through, next_firing FROM jobs_job WHERE settled_through IS NOT NULL"
        ).fetchall()
    return Given(highest, settled)


def carry_over(copy: sqlite3.Connection, given: Given) -> None:
    """Write it into an up-to-date copy, in one transaction.

    Runs that were not over are closed: they would run a second time.
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
    copy.execute("COMMIT")
