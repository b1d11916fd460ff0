"""What was acknowledged, beside what the database has once everything has settled."""

from __future__ import annotations

import collections
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tests.support.kills.fleet import Fleet
from tests.support.kills.jobs import JOBS, output_of
from tests.support.kills.load import Load

_OVER = ("success", "failed", "timeout", "error", "aborted", "lost", "skipped")
_EXPECTED = ("success", "aborted", "lost", "skipped")
_FAILURES = ("failed", "timeout", "error", "lost")
_LEASE_ENDS = ("lease.released", "lease.expired", "lease.taken_away", "lease.cancelled")
_MOST_NAMED = 5


class Entry(NamedTuple):
    """A line of the account: two figures, and what does not add up."""

    what: str
    acknowledged: int
    present: int
    wrong: Collection[str]


def account(fleet: Fleet, load: Load, feed: dict[int, str], delivered: list[int]) -> list[Entry]:
    """Compare; `feed` has the digest of each event by id, as web answers it, `delivered` what a webhook was sent."""
    return [
        *_tasks(fleet, load),
        *_leases(fleet, load),
        *_runs(fleet, load),
        *_feed(fleet, load, feed, delivered),
        Entry("answers and clients", load.calls, load.calls - load.failures, load.errors),
    ]


def table(entries: Iterable[Entry]) -> str:
    lines = [f"{'':44} {'acknowledged':>12} {'found':>9} {'wrong':>7}"]
    for what, acknowledged, present, wrong in entries:
        lines.append(f"{what:44} {acknowledged:12} {present:9} {len(wrong):7}")
        lines += [f"    {each}" for each in list(wrong)[:_MOST_NAMED]]
    return "\n".join(lines)


def _tasks(fleet: Fleet, load: Load) -> Iterable[Entry]:
    rows = fleet.query("SELECT id, name, model FROM tasks")
    by_name: dict[str, list[int]] = defaultdict(list)
    for number, name, _ in rows:
        by_name[name].append(number)
    wrong = [f"{name} is T{by_name[name]}, not T{number}" for name, number in load.created.items()]
    wrong = [
        text for text, (name, number) in zip(wrong, load.created.items(), strict=True) if by_name[name] != [number]
    ]
    wrong += [
        f"{name} is there {len(numbers)} times, and nobody was told"
        for name, numbers in by_name.items()
        if name not in load.created and not (name in load.tried_once and len(numbers) == 1)
    ]
    yield Entry("tasks created", len(load.created), len(rows), wrong)
    models = {number: model for number, _, model in rows}
    noted: dict[int, list[str]] = defaultdict(list)
    for number, data in fleet.query("SELECT task_id, data FROM events_event WHERE type = 'task.updated' ORDER BY id"):
        if (changes := _object(data).get("changes")) and "model" in changes:
            noted[number].append(changes["model"][1])
    wrong = []
    for number, values in load.changes.items():
        if models.get(number) != (values[-1] if values else None):
            wrong.append(f"T{number} has {models.get(number)}, not {values[-1:]}")
        if noted[number] != values:
            wrong.append(f"the feed has other changes of T{number}: {set(noted[number]) ^ set(values)}")
    acknowledged = sum(map(len, load.changes.values()))
    yield Entry("changes of tasks", acknowledged, sum(len(noted[number]) for number in load.changes), wrong)


def _leases(fleet: Fleet, load: Load) -> Iterable[Entry]:
    columns = 'task_id, fence, taken_at, ended_at, "end", outcome'
    rows = fleet.query(f"SELECT {columns} FROM tasks_tasklease ORDER BY task_id, fence")
    leases = {(task, fence): row for task, fence, *row in rows}
    wrong = [f"fence {fence} of T{task} is not there" for task, fence in load.claims if (task, fence) not in leases]
    for (task, fence), (taken_at, ended_at, *_) in leases.items():
        if ended_at is None:
            wrong.append(f"fence {fence} of T{task} has not ended")
        if fence > 1:
            before = leases.get((task, fence - 1))
            if before is None or before[1] is None or before[1] > taken_at:
                wrong.append(f"fence {fence} of T{task} was taken at {taken_at}, the one before was {before}")
    yield Entry("claims", len(load.claims), len(leases), wrong)
    claimed: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for (task, fence), at in load.claims.items():
        claimed[task].append((fence, at))
    wrong = [
        f"fence {beat.fence} of T{beat.task} was good after fence {fence} was handed out"
        for beat in load.beats
        for fence, at in claimed[beat.task]
        if fence > beat.fence and at < beat.sent_at
    ]
    yield Entry("heartbeats: one valid fence at a time", len(load.beats), len(load.beats) - len(wrong), wrong)
    released = {key: row for key, row in leases.items() if row[2] == "released"}
    wrong = [
        f"T{key[0]} was released as {outcome}: {leases.get(key)}"
        for key, outcome in load.releases.items()
        if key not in released or released[key][3] != outcome
    ]
    yield Entry("releases", len(load.releases), len(released), wrong)


def _runs(fleet: Fleet, load: Load) -> Iterable[Entry]:
    names = ("id", "job", "state", "trigger", "attempt", "retry_of", "queued_at", "started_at", "ended_at")
    rows = fleet.query(
        "SELECT r.id, j.name, r.state, r.trigger, r.attempt, r.retry_of_id, r.queued_at, r.started_at, r.ended_at,"
        " r.abort_requested_at, r.scheduled_for, r.note"
        " FROM jobs_jobrun r JOIN jobs_job j ON j.id = r.job_id ORDER BY r.id"
    )
    runs = {row[0]: dict(zip((*names, "aborted", "scheduled_for", "note"), row, strict=True)) for row in rows}
    asked = [run for run in runs.values() if run["trigger"] == "rest"]
    wrong = [
        f"run {run} of {job} is not there" for run, job in load.runs.items() if runs.get(run, {}).get("job") != job
    ]
    wrong += [
        f"run {run['id']} of {run['job']} was acknowledged to nobody" for run in asked if run["id"] not in load.runs
    ]
    yield Entry("runs asked for", len(load.runs), len(asked), wrong)
    states = Counter(run["state"] for run in runs.values())
    wrong = [_named(run) for run in runs.values() if run["state"] not in _EXPECTED]
    wrong += [
        f"procrastinate still has {job}" for job in fleet.query("SELECT id, status, args FROM procrastinate_jobs")
    ]
    named = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield Entry(f"runs settled: {named}", len(runs), sum(states[state] for state in _OVER), wrong)
    yield _executions(fleet, runs)
    yield _outputs(fleet, runs)
    yield _retries(runs)
    yield _counters(fleet, runs)
    yield _firings(runs)


def _executions(fleet: Fleet, runs: dict[int, Any]) -> Entry:
    """Each run's script begins once at most, and has come to its end where the run succeeded."""
    lines = fleet.marks.read_text().split("\n") if fleet.marks.exists() else []
    begun = Counter(int(line.split()[1]) for line in lines if line.startswith("begin "))
    ended = Counter(int(line.split()[1]) for line in lines if line.startswith("end "))
    wrong = [f"{_named(runs.get(run))} began {count} times" for run, count in begun.items() if count > 1]
    for run in runs.values():
        number = run["id"]
        if run["state"] == "success" and (begun[number], ended[number]) != (1, 1):
            wrong.append(f"{_named(run)} began {begun[number]} times and ended {ended[number]} times")
        if begun[number] and not run["started_at"]:
            wrong.append(f"{_named(run)} was executed and says that it was not started")
    return Entry(
        "scripts begun, of runs started", sum(1 for run in runs.values() if run["started_at"]), len(begun), wrong
    )


def _outputs(fleet: Fleet, runs: dict[int, Any]) -> Entry:
    rows = fleet.query(
        'SELECT run_id, string_agg(data, \'\'::bytea ORDER BY "offset"), min("offset"), max("end")'
        " FROM jobs_outputpiece GROUP BY run_id"
    )
    outputs = {run: (bytes(data), begin, end) for run, data, begin, end in rows}
    succeeded = [run for run in runs.values() if run["state"] == "success"]
    wrong = []
    for run in runs.values():
        data, begin, end = outputs.get(run["id"], (b"", 0, 0))
        whole = output_of(run["job"], run["id"])
        is_right = data == whole if run["state"] == "success" else whole.startswith(data) or run["aborted"]
        if not is_right or (begin, end) != (0, len(data)):
            wrong.append(f"{_named(run)} has other output: {data[-60:]!r} from {begin} to {end}")
    return Entry(
        "outputs of runs that succeeded", len(succeeded), sum(run["id"] in outputs for run in succeeded), wrong
    )


def _retries(runs: dict[int, Any]) -> Entry:
    """Who fails is tried again, unless another run of the job is on its way."""
    retried = {run["retry_of"] for run in runs.values() if run["retry_of"]}
    by_job = defaultdict(list)
    for run in runs.values():
        by_job[run["job"]].append(run)
    wrong, due = [], 0
    for run in runs.values():
        # One that was aborted, though nobody asked for it, ended because its node was stopped.
        if run["state"] not in (*_FAILURES, "aborted") or run["aborted"]:
            continue
        if run["attempt"] > JOBS[run["job"]].get("retries", 0):
            continue
        is_busy = any(
            other["queued_at"] <= run["ended_at"] < other["ended_at"]
            for other in by_job[run["job"]]
            if other is not run
        )
        due += 1
        if run["id"] not in retried and not is_busy:
            wrong.append(f"{_named(run)} was not tried again")
    attempts = [run for run in runs.values() if run["trigger"] == "retry"]
    wrong += [f"{_named(run)} is one of two retries" for run in attempts if _count(attempts, run["retry_of"]) > 1]
    return Entry("retries of runs that failed", due, len(attempts), wrong)


def _count(attempts: list[Any], retry_of: int) -> int:
    return sum(run["retry_of"] == retry_of for run in attempts)


def _counters(fleet: Fleet, runs: dict[int, Any]) -> Entry:
    """What jobs say of their runs; and a job has no more at once than it may."""
    started = Counter(run["job"] for run in runs.values() if run["started_at"])
    failed = Counter(run["job"] for run in runs.values() if run["started_at"] and run["state"] in _FAILURES)
    counts = {
        name: (runs_, fails) for name, runs_, fails in fleet.query("SELECT name, run_count, fail_count FROM job_state")
    }
    wrong = [
        f"{job} says {counts.get(job)} runs and failures, it had {started[job], failed[job]}"
        for job in JOBS
        if counts.get(job, (0, 0)) != (started[job], failed[job])
    ]
    for job, fields in JOBS.items():
        most = fields.get("max_parallel", 2) if fields.get("concurrency") == "allow" else 1
        moments = [
            moment
            for run in runs.values()
            if run["job"] == job and run["started_at"]
            for moment in ((run["started_at"], 1), (run["ended_at"], -1))
        ]
        running = highest = 0
        for _, change in sorted(moments):
            running += change
            highest = max(highest, running)
        if highest > most:
            wrong.append(f"{highest} runs of {job} at once, of at most {most}")
    return Entry("starts that jobs count", sum(count for count, _ in counts.values()), sum(started.values()), wrong)


def _firings(runs: dict[int, Any]) -> Entry:
    """A job that is due each minute had a run for each of them."""
    fired = [run["scheduled_for"] for run in runs.values() if run["job"] == "minutely" and run["scheduled_for"]]
    wanted: list[datetime] = []
    if fired:
        wanted = [min(fired)]
        while wanted[-1] < max(fired):
            wanted.append(wanted[-1] + timedelta(minutes=1))
    counts = Counter(fired)
    wrong = [f"{moment} has {counts[moment]} runs" for moment in wanted if counts[moment] != 1]
    return Entry("firings of a schedule", len(wanted), len(fired), wrong)


def _feed(fleet: Fleet, load: Load, feed: dict[int, str], delivered: list[int]) -> Iterable[Entry]:
    rows = fleet.query("SELECT id, type, subject, task_id, data FROM events_event ORDER BY id")
    wrong = [
        f"there is no event {missing}" for missing in sorted(set(range(1, len(rows) + 1)) - {row[0] for row in rows})
    ]
    wrong += [f"event {row[0]} is not read" for row in rows if row[0] not in feed]
    yield Entry("events", len(feed), len(rows), wrong)
    wrong = []
    for place, read in enumerate(load.reads):
        ids = [number for number, _ in read.events]
        expected = list(range(read.began_after + 1, len(rows) + 1))
        if ids != expected:
            doubled = [number for number, count in Counter(ids).items() if count > 1]
            wrong.append(
                f"reader {place} skipped {sorted(set(expected) - set(ids))[:9]}, had {doubled[:9]} twice,"
                f" {sorted(set(ids) - set(expected))[:9]} too many"
            )
        wrong += [
            f"reader {place} saw another event {number}" for number, seen in read.events if feed.get(number) != seen
        ]
    most = sum(len(rows) - read.began_after for read in load.reads)
    yield Entry(f"events of {len(load.reads)} readers", most, sum(len(read.events) for read in load.reads), wrong)
    yield from _feed_and_tables(fleet, rows)
    wanted = [row[0] for row in rows if row[1] in ("task.created", "run.ended")]
    wrong = [f"event {number} was not delivered" for number in set(wanted) - set(delivered)]
    firsts = list(dict.fromkeys(delivered))
    if firsts != sorted(firsts):
        wrong.append("deliveries were not in order")
    yield Entry("deliveries of a webhook, at least once", len(wanted), len(firsts), wrong)


def _feed_and_tables(fleet: Fleet, rows: list[tuple[Any, ...]]) -> Iterable[Entry]:
    by_type = collections.Counter(row[1] for row in rows)
    data = [(row[1], _object(row[4])) for row in rows]
    history = [number for (number,) in fleet.query("SELECT id FROM task_events")]
    told = Counter(values["event_id"] for _, values in data if values.get("event_id"))
    wrong = [
        f"entry {number} of a history is {told[number]} times in the feed" for number in history if told[number] != 1
    ]
    wrong += [f"there is no entry {number}, which the feed tells of" for number in set(told) - set(history)]
    yield Entry("entries of histories, in the feed", sum(told.values()), len(history), wrong)
    leases = fleet.query("SELECT task_id, fence FROM tasks_tasklease")
    claims = Counter((values["task_id"], values["fence"]) for kind, values in data if kind == "lease.claimed")
    ends = Counter((values["task_id"], values["fence"]) for kind, values in data if kind in _LEASE_ENDS)
    wrong = [
        f"lease {lease}: {claims[lease]} claims, {ends[lease]} ends"
        for lease in leases
        if (claims[lease], ends[lease]) != (1, 1)
    ]
    yield Entry("leases, in the feed", by_type["lease.claimed"], len(leases), wrong)
    runs = fleet.query("SELECT id, state, started_at FROM jobs_jobrun")
    states: dict[int, list[str]] = defaultdict(list)
    for kind, values in data:
        if kind.startswith("run."):
            states[values["run_id"]].append(values["state"])
    wrong = [
        f"run {run} is {state}; the feed has {states[run]}"
        for run, state, _ in runs
        if states[run][-1:] != [state] or sum(each in _OVER for each in states[run]) != (state in _OVER)
    ]
    yield Entry("runs, in the feed", len(states), len(runs), wrong)


def _named(run: Any) -> str:
    if run is None:
        return "a run that is not there"
    return f"run {run['id']} of {run['job']} ({run['state']}{run['note'] and ': '}{run['note']})"


def _object(data: Any) -> dict[str, Any]:
    value = json.loads(data) if isinstance(data, str) else data
    return value if isinstance(value, dict) else {}
