"""What the older service leaves behind: its database of either version, its JSON files, and the SQL that it runs."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from typing import Any

TABLES = {
    "schema_version": """CREATE TABLE schema_version (
        version INTEGER NOT NULL, applied_at TEXT NOT NULL DEFAULT (datetime('now')))""",
    "tasks": """CREATE TABLE tasks (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, slug TEXT, type TEXT NOT NULL DEFAULT 'swe',
        status TEXT NOT NULL DEFAULT 'queued', priority TEXT NOT NULL DEFAULT 'normal', model TEXT, assigned_to TEXT,
        repos TEXT, discord_thread_id TEXT, estimate_minutes INTEGER, requires_qa INTEGER NOT NULL DEFAULT 0,
        workflow TEXT, created_at TEXT NOT NULL DEFAULT (datetime('now')),
        updated_at TEXT NOT NULL DEFAULT (datetime('now')), queued_at TEXT NOT NULL DEFAULT (datetime('now')),
        assigned_at TEXT, completed_at TEXT)""",
    "task_events": """CREATE TABLE task_events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, task_id INTEGER NOT NULL REFERENCES tasks(id), event_type TEXT NOT NULL,
        detail TEXT, actor TEXT, created_at TEXT NOT NULL DEFAULT (datetime('now')))""",
    "job_state": """CREATE TABLE job_state (
        name TEXT PRIMARY KEY, last_run TEXT, last_status TEXT, last_duration REAL, last_output TEXT,
        run_count INTEGER NOT NULL DEFAULT 0, fail_count INTEGER NOT NULL DEFAULT 0,
        enabled INTEGER NOT NULL DEFAULT 1)""",
    "broker_tasks": """CREATE TABLE broker_tasks (
        task_id TEXT PRIMARY KEY, repos TEXT NOT NULL, lobster_type TEXT NOT NULL DEFAULT 'unknown',
        registered_at TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'active', token_count INTEGER NOT NULL DEFAULT 0)""",
    "token_audit": """CREATE TABLE token_audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL, repos TEXT, action TEXT NOT NULL,
        created_at TEXT NOT NULL)""",
}
INDEXES = (
    "CREATE INDEX IF NOT EXISTS idx_tasks_status ON tasks(status)",
    "CREATE INDEX IF NOT EXISTS idx_tasks_type ON tasks(type)",
    "CREATE INDEX IF NOT EXISTS idx_task_events_task_id ON task_events(task_id)",
    "CREATE INDEX IF NOT EXISTS idx_token_audit_task_id ON token_audit(task_id)",
)
VERSION_2 = (
    "ALTER TABLE tasks ADD COLUMN broker_repos TEXT",
    "ALTER TABLE tasks ADD COLUMN broker_status TEXT",
    "ALTER TABLE tasks ADD COLUMN token_count INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE tasks ADD COLUMN broker_registered_at TEXT",
)
# The highest id that was ever given out is above the highest that is there.
ROWS = (
    """INSERT INTO tasks (name, slug, repos, estimate_minutes, requires_qa, created_at, assigned_at) VALUES
        ('plain', 'plain', '["org/repo"]', 30, 1, '2026-02-16 12:00:00', '2026-02-16T12:00:00Z'),
        ('odd', '', 'org/repo, other', '30m', 'maybe', 'yesterday', 'soon'),
        ('iso', NULL, '{"a": 1}', 1.5, 0, '2026-02-16T10:00:00.123456+00:00', '2026-02-16T12:00:00.250000+00:00'),
        ('z', NULL, '', '', -1, '2026-02-16T10:00:00Z', ''),
        ('', 'blank', '[1, null]', 9223372036854775807, 2, '', NULL),
        ('nul' || char(0) || 'and ' || char(10, 9, 128512), NULL, '[', NULL, 0, '2026-13-45 99:99:99', '99999-01-01'),
        ('gone', NULL, NULL, NULL, 0, '2026-02-16 12:00:00', NULL)""",
    "UPDATE tasks SET status = 'paused', type = 'x' || char(9), priority = '', updated_at = 'never' WHERE id = 2",
    "UPDATE tasks SET workflow = replace(hex(zeroblob(300000)), '00', 'wörk') WHERE id = 3",
    "INSERT INTO task_events (task_id, event_type, detail, actor) SELECT id, 'created', NULL, NULL FROM tasks",
    """INSERT INTO task_events (task_id, event_type, detail, actor, created_at) VALUES
        (1, '', '{"not": "text"}', 'агент', 'last week'),
        (999, 'orphan', 'its task is not there', '', '2026-02-16T1')""",
    "DELETE FROM task_events WHERE task_id = 7",
    "DELETE FROM tasks WHERE id = 7",
    """INSERT INTO job_state VALUES
        ('task-manager', '2026-02-16T10:00:00.123456+00:00', 'success', 1.5, 'done', 7, 1, 0),
        ('no-such-job', 'once', 'weird', 'long', NULL, 'many', -1, 5),
        ('flush-logs', NULL, NULL, NULL, NULL, 0, 0, 1)""",
    """INSERT INTO broker_tasks VALUES
        ('legacy/1+2', '["org/repo"]', 'swe', '2026-02-16T10:00:00.123456+00:00', 'active', 3),
        ('odd', 'org/repo', '', 'some time', 'what', 'x')""",
    """INSERT INTO token_audit (task_id, repos, action, created_at) VALUES
        ('legacy/1+2', '["org/repo"]', 'task_registered', '2026-02-16T10:00:00.123456+00:00'),
        ('', NULL, 'x', 'when'), ('last', 'not json', 'token_issued', '2026-02-16 12:00:00')""",
    "DELETE FROM token_audit WHERE task_id = 'last'",
)
ROWS_2 = (
    """UPDATE tasks SET broker_repos = '["org/repo"]', broker_status = 'active', token_count = 4,
        broker_registered_at = '2026-02-16T10:00:00.123456+00:00' WHERE id = 1""",
    "UPDATE tasks SET broker_repos = 'org/repo', broker_status = '', token_count = 'x' WHERE id = 2",
)
JOBS_JSON = {
    "task-manager": {"last_run": "2025-01-01T00:00:00+00:00", "run_count": 99, "enabled": True},
    "status-reporter": {
        "last_run": "2026-02-16T10:00:00.123456+00:00",
        "last_status": "failed",
        "last_duration": 2.5,
        "last_output": "ünïcode\n",
        "run_count": 5,
        "fail_count": 2,
        "enabled": False,
    },
    "long-gone": {"last_run": None, "last_duration": "long", "run_count": 1e400, "last_output": ["\ud800"]},
}
TASKS_JSON = {
    "legacy/1+2": {"repos": ["org/loses"], "registered_at": "2025-01-01T00:00:00+00:00"},
    "from-json": {
        "repos": ["org/a", "org/b"],
        "lobster_type": "qa",
        "registered_at": "2026-02-16T10:00:00.123456+00:00",
        "status": "expired",
        "token_count": 2,
    },
}
AUDIT_JSON = [
    {"timestamp": "2026-02-15T10:00:00+00:00", "task_id": "a", "repos": ["org/a"], "action": "token_issued"},
    {"timestamp": "2026-02-15T10:00:00+00:00", "task_id": "a", "repos": ["org/a"], "action": "token_issued"},
    {"timestamp": "2026-02-15T11:00:00+00:00", "task_id": "b", "repos": None, "action": "task_registered"},
]


def make_database(
    folder: pathlib.Path, version: int, *, without: Iterable[str] = (), columns_of_2: int = 4, rows: bool = True
) -> pathlib.Path:
    """A `lobmob.db` with much of its content still in the WAL, as a killed process leaves it.

    A version 2 file was version 1 once. `without` names tables that an interrupted start did not get to.
    """
    without = set(without)
    with tempfile.TemporaryDirectory() as building, contextlib.closing(open_raw(f"{building}/lobmob.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        for name, sql in TABLES.items():
            if name not in without:
                database.execute(sql)
        if not without:
            for sql in INDEXES:
                database.execute(sql)
        if version >= 1:
            database.execute("INSERT INTO schema_version (version) VALUES (1)")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        if version >= 2:
            for sql in VERSION_2[:columns_of_2]:
                database.execute(sql)
            if columns_of_2 == len(VERSION_2):
                database.execute("INSERT INTO schema_version (version) VALUES (2)")
        for sql in ROWS if rows else ():
            if not any(name in sql for name in without):
                database.execute(sql)
        for sql in ROWS_2 if rows and version == 2 and columns_of_2 == len(VERSION_2) else ():
            database.execute(sql)
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{building}/lobmob.db{suffix}", folder / f"lobmob.db{suffix}")
    return folder / "lobmob.db"


def make_json(folder: pathlib.Path, *names: str) -> None:
    """The JSON files of the oldest installations; all three, or those named."""
    contents = {"jobs.json": JOBS_JSON, "tasks.json": TASKS_JSON, "token-audit.json": AUDIT_JSON}
    for name in names or contents:
        (folder / name).write_text(json.dumps(contents[name]))


def open_raw(path: pathlib.Path | str) -> sqlite3.Connection:
    """A connection in autocommit without foreign keys, as the sqlite3 shell has it."""
    return sqlite3.connect(path, isolation_level=None)


def work(database: sqlite3.Connection) -> int:
    """Run the statements that the older service runs in a day of work; returns the id of the task that it made."""
    database.execute("PRAGMA foreign_keys = ON")
    task = database.execute(
        "INSERT INTO tasks (name, slug, type, status, priority, model, assigned_to, repos, discord_thread_id,"
        " estimate_minutes, requires_qa, workflow) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ("old", "old", "swe", "queued", "normal", None, None, '["org/repo"]', None, 30, 0, None),
    ).lastrowid
    database.execute(
        "INSERT INTO task_events (task_id, event_type, detail, actor) VALUES (?, ?, ?, ?)",
        (task, "created", "Task created with status=queued", "old"),
    )
    database.execute(
        "UPDATE tasks SET status = ?, repos = ?, broker_repos = ?, broker_status = 'active',"
        " broker_registered_at = ?, token_count = token_count + 1, updated_at = datetime('now') WHERE id = ?",
        ("active", "not json", '["org/repo"]', "2026-02-16T10:00:00.123456+00:00", task),
    )
    for status in ("active", "expired"):
        database.execute(
            "INSERT OR REPLACE INTO broker_tasks (task_id, repos, lobster_type, registered_at, status, token_count)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            ("legacy", '["org/repo"]', "swe", "2026-02-16T10:00:00.123456+00:00", status, 0),
        )
    database.execute("UPDATE broker_tasks SET token_count = token_count + 1 WHERE task_id = ?", ("legacy",))
    database.execute("DELETE FROM broker_tasks WHERE task_id = ?", ("odd",))
    database.execute(
        "INSERT INTO token_audit (task_id, repos, action, created_at) VALUES (?, ?, ?, ?)",
        ("legacy", '["org/repo"]', "token_issued", "2026-02-16T10:00:00.123456+00:00"),
    )
    for run in (1, 2):
        database.execute(
            "INSERT INTO job_state (name, last_run, last_status, last_duration, last_output, run_count, fail_count,"
            " enabled) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(name) DO UPDATE SET"
            " last_run = excluded.last_run, last_status = excluded.last_status, run_count = excluded.run_count",
            ("review-prs", "2026-02-16T10:00:00+00:00", "success", 0.5, "out", run, 0, 1),
        )
    assert task is not None
    return task


def dump(path: pathlib.Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the six tables with each value's storage class, in the columns that the older service knows."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            if pathlib.Path(f"{path}{suffix}").exists():
                shutil.copyfile(f"{path}{suffix}", f"{folder}/copy.db{suffix}")
        with contextlib.closing(open_raw(f"{folder}/copy.db")) as database:
            return {table: _rows(database, table) for table in [*TABLES, "sqlite_sequence"]}


def _rows(database: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    known = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    columns = [name for name in known if not (table == "task_events" and name == "status")]
    if not columns:
        return []
    values = ", ".join(f"{name}, typeof({name})" for name in columns)
    where = "WHERE name IN ('tasks', 'task_events', 'token_audit')" if table == "sqlite_sequence" else ""
    return database.execute(f"SELECT {values} FROM {table} {where} ORDER BY 1").fetchall()


def snapshot(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file of the state directory but the lock and key that any start makes, and the index that readers share."""
    made_anyway = {"migrate.lock", "secret-key", "lobmob.db-shm"}
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.name not in made_anyway}
