"""A realistic fleet with two weeks of history, to look at the pages with.

Nothing of it is queued or running: a daemon that starts over it would take that for its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction

from access.keys import create_key
from broker.audit import SYSTEM
from broker.models import Action, Outcome, TokenAudit
from core.callers import Role
from core.errors import Conflict
from core.timestamps import iso_text, parse, seconds_text, utc_now
from jobs import services
from jobs.execution import output, output_files, output_shipping, reasons, runs
from jobs.models import FAILURES, Alert, AlertKind, Delivery, Job, JobRun, JobState, State, Trigger
from jobs.scheduling import cron
from tasks.costs.models import TOKENS, Budget, Cost, DailySpend, Period, Price, Scope
from tasks.models import Question, Status, Task, TaskEvent, read_repos
from tasks.notes import first_text, save_request
from tasks.results.models import LinkKind, TaskLink, TaskResult
from vaultsync.models import Kind, NoteProblem, SyncRun

_SEED = 20260216
_DAYS = 14
_TASKS = 120
_RECENT = 14
RUNS_A_JOB = 60
_WITH_OUTPUT = 12
_VERBS = ("Fix", "Add", "Refactor", "Document", "Speed up", "Remove", "Test", "Review")
_THINGS = (
    "the parser of vault notes",
    "retries in the deploy script",
    "flaky login tests",
    "the image pipeline",
    "rate limits of the crawler",
    "the cost report",
    "dark mode of the docs",
    "dead code in the gateway",
    "the release checklist",
    "memory use of the indexer",
)
_REPOS = ("acme/gateway", "acme/web", "acme/infra", "acme/docs")
_MODELS = ("large", "large", "small", None)
_EVENTS = (
    ("note", "Read the code around it; the cause is a retry without a limit."),
    ("progress", "Tests pass on the branch, 4 files changed."),
    ("pr_opened", "https://github.com/acme/web/pull/{}"),
    ("note", "Waiting for the checks of the pull request."),
)
_NOTE = """\
It fails about once a day, and nobody knows why.

## What to do
- Find the cause, and write a test that fails because of it.
- Mend it in a branch of its own, and open a pull request.
- Say in the pull request what changed for its users.

## Not part of this
Anything that only *looks* better afterwards."""
_OPEN_QUESTIONS: tuple[tuple[str, list[str]], ...] = (
    ("May I delete the table sessions_old? Nothing has read it for 90 days, and it has 2.1 GB.", ["Approve", "Reject"]),
    (
        "The parser takes two forms of dates, and the tests only have one. Which is right?",
        ["2026-02-16", "16.02.2026", "Both"],
    ),
    ("Whom shall I ask about the limits of the crawler? The file OWNERS names nobody.", []),
)
_ANSWERED_QUESTIONS: tuple[tuple[str, list[str], str], ...] = (
    ("May I raise the version of the client by a major number?", ["Approve", "Reject"], "Approve"),
    ("Which branch is the base of this fix?", ["main", "release-4"], "release-4"),
    ("The test fails on main too. Shall I mend it here?", [], "No, there is a task for that: leave it red."),
)
_PERMISSIONS = json.dumps({"contents": "write", "pull_requests": "write", "metadata": "read"})


@dataclass(frozen=True)
class _Story:
    """How a job goes: how often it fails, how long it takes, what it prints."""

    fails: float
    seconds: float
    good: str
    bad: str
    error: str


_JOBS = (
    ("nightly-import", "15 3 * * *", "hello.py", "Yesterday's orders into the warehouse", "--day yesterday"),
    ("prune-branches", "40 */4 * * *", "hello.py", "Remove merged branches", ""),
    ("check-backups", "5 6 * * *", "hello.py", "Restore the newest copy and count its rows", "--full"),
)
_STORIES = {
    "review-prs": _Story(
        0.03,
        4,
        "::group::Collect\nchecked 14 pull requests in 4 repositories\n::endgroup::\n::group::Review\n"
        "\033[32mok\033[0m 13 are in order\n\033[33mwaiting\033[0m 1 for a review: https://github.com/acme/web/pull/{n}\n"
        "::endgroup::\ndone\n",
        "::group::Collect\nchecked 9 pull requests\n::endgroup::\n::group::Review\n",
        "HTTP 502 from api.github.com while reading acme/gateway",
    ),
    "task-manager": _Story(
        0.02,
        2,
        "12 tasks are active, 3 queued\nT{n} assigned to lobster-swe-t{n}\n"
        "\033[38;5;208m1 lobster has been silent for 20 min\033[0m\n",
        "12 tasks are active, 3 queued\n",
        "connection to the cluster was refused",
    ),
    "nightly-import": _Story(
        0.25,
        95,
        "::group::Download\nGET https://exports.example.com/orders.csv\n18422 rows, 3.1 MB\n::endgroup::\n"
        "::group::Load\n\033[2m000..5000\033[0m ok\n\033[2m5000..10000\033[0m ok\n"
        "\033[2m10000..18422\033[0m ok\n::endgroup::\n"
        "\033[1;32mloaded 18422 rows\033[0m\n",
        "::group::Download\nGET https://exports.example.com/orders.csv\n::endgroup::\n::group::Load\n"
        'Traceback (most recent call last):\n  File "import.py", line 88, in load\n    with open(path) as file:\n',
        "FileNotFoundError: cannot open /data/yesterday.csv",
    ),
}
_USUAL = _Story(
    0.02, 3, "looked at {n} things\nall of them are in order\n", "looked at {n} things\n", "no space left on device"
)


def make_fleet(*, now: datetime | None = None, runs_a_job: int = RUNS_A_JOB) -> dict[str, int]:
    """Fill an empty database; raises Conflict when it has tasks. Returns how many of each were made."""
    if Task.objects.exists():
        raise Conflict("the demo refuses to run on a database that has tasks: set LOBWIFE_STATE_DIR to an empty folder")
    now = now or utc_now()
    chance = random.Random(_SEED)  # noqa: S311 a picture, not a secret
    for name, expression, script, description, arguments in _JOBS:
        fields: dict[str, Any] = {"name": name, "schedule": expression, "script": script, "description": description}
        fields |= {"arguments": arguments.split(), "late_after_seconds": 600, "long_after_seconds": 900}
        services.define_job(fields=fields, actor="demo")
    events: list[TaskEvent] = []
    audit: list[TokenAudit] = []
    with transaction.atomic():
        for number in range(_TASKS):
            events += _make_task(chance, now - _age_of(number), now, audit)
        events += _make_questions(now)
        TaskEvent.objects.bulk_create(sorted(events, key=lambda event: event.created_at))
        _make_results(chance)
        audit += _refusals(chance, now)
        TokenAudit.objects.bulk_create(sorted(audit, key=lambda entry: entry.created_at))
        made = [run for job in Job.objects.all() for run in _runs_of(chance, job, now, runs_a_job)]
        JobRun.objects.bulk_create(sorted(made, key=lambda run: run.queued_at), ignore_conflicts=True)
        for job in Job.objects.all():
            _give_output(chance, job)
            _sum_up(job)
        _make_alerts(now)
        _make_vault_history(now)
    _make_keys()
    return {
        "jobs": Job.objects.count(),
        "runs": JobRun.objects.count(),
        "tasks": Task.objects.count(),
        "audit entries": TokenAudit.objects.count(),
    }


# --- tasks and tokens
def _age_of(number: int) -> timedelta:
    """Return an age: evenly over the days, but for the newest, which are of the last hours."""
    if number < _TASKS - _RECENT:
        return timedelta(days=_DAYS) * (1 - number / (_TASKS - _RECENT)) + timedelta(hours=8)
    return timedelta(minutes=3 + 6 * (_TASKS - number))


def _make_task(chance: random.Random, created: datetime, now: datetime, audit: list[TokenAudit]) -> list[TaskEvent]:
    name = f"{chance.choice(_VERBS)} {chance.choice(_THINGS)}"
    age = now - created
    if age > timedelta(hours=8):
        status = chance.choices((Status.COMPLETED, Status.FAILED, Status.CANCELLED), (85, 10, 5))[0]
    else:
        status = chance.choices((Status.QUEUED, Status.ACTIVE, Status.BLOCKED), (5, 6, 1))[0]
    assigned = created + min(age / 4, timedelta(minutes=chance.randint(2, 40)))
    ended = assigned + timedelta(minutes=chance.randint(8, 200))
    worked = status not in (Status.QUEUED, Status.BLOCKED)
    repos = chance.sample(_REPOS, chance.choice((1, 1, 1, 2)))
    task = Task.objects.create(
        name=name,
        slug=name.lower().replace(" ", "-"),
        type=chance.choice(("swe", "swe", "research", "qa")),
        status=status,
        priority=chance.choices(("critical", "high", "normal", "low"), (1, 3, 10, 3))[0],
        model=chance.choice(_MODELS),
        repos=json.dumps(repos),
        estimate_minutes=chance.choice((15, 30, 45, 60, None)),
        created_at=seconds_text(created),
        updated_at=seconds_text(min(ended if worked else created, now)),
        queued_at=seconds_text(created),
        assigned_at=iso_text(assigned) if worked else None,
        completed_at=iso_text(ended) if status == Status.COMPLETED else None,
    )
    history = [_event(task, "created", "Task created with status=queued", "lobboss", created, Status.QUEUED)]
    if not worked:
        return history
    worker = f"lobster-{task.type}-t{task.pk}"
    tokens = _tokens_of(chance, task, repos, worker, assigned, min(ended, now))
    audit += tokens
    is_over = status != Status.ACTIVE
    Task.objects.filter(pk=task.pk).update(
        assigned_to=worker,
        broker_repos=json.dumps(repos),
        broker_status="ended" if is_over else "active",
        broker_registered_at=seconds_text(assigned),
        token_count=sum(entry.action == Action.TOKEN for entry in tokens),
    )
    taken = {"status": ["queued", "active"], "assigned_to": [None, worker], "assigned_at": [None, iso_text(assigned)]}
    history.append(_event(task, "updated", "Updated: status, assigned_to", "lobboss", assigned, Status.ACTIVE, taken))
    steps = _EVENTS[: chance.randint(1, len(_EVENTS))]
    for number, (kind, text) in enumerate(steps, 1):
        at = assigned + (ended - assigned) * number / (len(steps) + 1)
        if at < now:
            history.append(_event(task, kind, text.format(100 + task.pk), worker, at, Status.ACTIVE))
    if is_over:
        change = {"status": ["active", str(status)]}
        history.append(_event(task, "updated", "Updated: status, completed_at", worker, ended, status, change))
    return history


def _event(
    task: Task,
    kind: str,
    detail: str,
    actor: str,
    at: datetime,
    status: str,
    changes: dict[str, Any] | None = None,
) -> TaskEvent:
    return TaskEvent(
        task=task,
        event_type=kind,
        detail=detail,
        actor=actor,
        caller=f"key:{actor}" if actor == "lobboss" else f"system:serviceaccount:lobmob:{actor}",
        created_at=seconds_text(at),
        status=status,
        changes=json.dumps(changes) if changes else None,
    )


def _make_questions(now: datetime) -> list[TaskEvent]:
    """Have the newest tasks that are worked on ask, and some that are completed have asked; return the events."""
    active = list(Task.objects.filter(status=Status.ACTIVE).order_by("-pk")[: len(_OPEN_QUESTIONS)])
    completed = list(Task.objects.filter(status=Status.COMPLETED).order_by("-pk")[: len(_ANSWERED_QUESTIONS)])
    asked: list[tuple[Task, str, list[str], str | None]] = [
        (task, text, choices, None) for task, (text, choices) in zip(active, _OPEN_QUESTIONS, strict=False)
    ]
    asked += [(task, *each) for task, each in zip(completed, _ANSWERED_QUESTIONS, strict=False)]
    asked.sort(key=lambda each: each[0].pk)  # the numbers of questions are in the order of time
    events = []
    for task, text, choices, answer in asked:
        asker = f"{task.assigned_to} (system:serviceaccount:lobmob:{task.assigned_to})"
        begin = parse(task.assigned_at) or now
        at = begin + ((parse(task.completed_at) or now) - begin) / 2
        later = at + timedelta(minutes=4)
        of = {"asked_by": asker, "asking_identity": asker, "asked_at": at}
        if answer is not None:
            of |= {"answer": answer, "answered_by": "anna", "answered_at": later, "delivered_at": later}
        question = Question.objects.create(task_id=task.pk, text=text, choices=choices, **of)
        detail = f"Question {question.pk}: {text}"
        events.append(_event(task, "question_asked", detail, str(task.assigned_to), at, Status.ACTIVE))
        if answer is not None:
            detail = f"Answer to question {question.pk}: {answer}"
            events.append(_event(task, "question_answered", detail, "anna", later, Status.ACTIVE))
            events[-1].caller = "anna"
    return events


def _make_results(chance: random.Random) -> None:
    """Give each task its note, and those that were worked on a link, a result and what they cost."""
    links, results, costs = [], [], []
    for task in Task.objects.order_by("pk"):
        save_request(task.pk, first_text(task.name, _NOTE), [], "key:lobboss")
        begin = parse(task.assigned_at)
        if begin is None or not task.assigned_to:
            continue
        at = parse(task.completed_at) or begin + timedelta(minutes=5)
        repo = (read_repos(task.repos) or [""])[0]
        common = {"task_id": task.pk, "recorded_at": at, "recorded_by": task.assigned_to}
        for report in range(chance.randint(1, 3)):
            tokens = {"input_tokens": chance.randint(4_000, 60_000), "output_tokens": chance.randint(2_000, 15_000)}
            tokens["cache_read_tokens"] = tokens["input_tokens"] * chance.randint(5, 40)
            dollars = Decimal(sum(tokens.values())) / 2_000_000 + Decimal(tokens["output_tokens"]) / 66_000
            of = {"type": task.type, "repo": repo, "model": task.model or "large", "source": f"report-{report}"}
            amount = {"cost_usd": dollars.quantize(Decimal("0.0001")), "price": Price.CALLER}
            costs.append(Cost(**common, **of, **tokens, **amount))
        if task.status == Status.COMPLETED:
            url = f"https://github.com/{repo}/pull/{100 + task.pk}"
            links.append(TaskLink(task_id=task.pk, kind=LinkKind.PULL, url=url, added_at=at, added_by=task.assigned_to))
            data = {"files_changed": chance.randint(1, 12), "tests": "passed"}
            results.append(
                TaskResult(
                    pk=task.pk, summary=f"{task.name}: merged", data=data, written_at=at, written_by=task.assigned_to
                )
            )
    TaskLink.objects.bulk_create(links)
    TaskResult.objects.bulk_create(results)
    Cost.objects.bulk_create(sorted(costs, key=lambda cost: cost.recorded_at))
    _sum_up_costs(costs)
    Budget.objects.create(scope=Scope.ALL, period=Period.MONTH, limit_usd=Decimal(400))
    Budget.objects.create(scope=Scope.TYPE, name="research", period=Period.DAY, limit_usd=Decimal(25))


def _sum_up_costs(costs: Iterable[Cost]) -> None:
    days: dict[tuple[Any, ...], DailySpend] = {}
    for cost in costs:
        key = (cost.recorded_at.date(), cost.type, cost.repo, cost.model)
        day = days.setdefault(key, DailySpend(day=key[0], type=cost.type, repo=cost.repo, model=cost.model))
        day.reports += 1
        for name in (*TOKENS, "cost_usd"):
            setattr(day, name, getattr(day, name) + getattr(cost, name))
    DailySpend.objects.bulk_create(days.values())


def _tokens_of(
    chance: random.Random, task: Task, repos: list[str], worker: str, begin: datetime, end: datetime
) -> list[TokenAudit]:
    """Return the entries of a task's registration, of a token each half an hour, and of their end."""
    about = {"task_id": task.task_id, "task_number": task.pk, "repos": json.dumps(repos)}
    caller = {"identity": f"system:serviceaccount:lobmob:{worker}", "address": f"10.42.{task.pk % 7}.{10 + task.pk}"}
    entries = [
        TokenAudit(
            **about,
            action=Action.REGISTERED,
            outcome=Outcome.DONE,
            identity="key:lobboss",
            address="10.42.0.4",
            created_at=iso_text(begin),
        )
    ]
    at = begin + timedelta(minutes=1)
    while at < end and len(entries) < 8:
        digest = base64.b64encode(hashlib.sha256(f"{task.pk}-{len(entries)}".encode()).digest()).decode()
        is_new = len(entries) == 1 or chance.random() < 0.5
        entries.append(
            TokenAudit(
                **about,
                **caller,
                action=Action.TOKEN,
                outcome=Outcome.ISSUED if is_new else Outcome.CACHED,
                permissions=_PERMISSIONS,
                expires_at=iso_text(at + timedelta(hours=1)),
                token_sha256=digest,
                created_at=iso_text(at),
            )
        )
        at += timedelta(minutes=chance.randint(12, 55))
    if task.status != Status.ACTIVE:
        entries.append(
            TokenAudit(
                **about,
                action=Action.TOKEN_REVOKED,
                outcome=Outcome.REVOKED,
                identity=SYSTEM.identity,
                reason=f"{task.task_id} is {task.status}",
                token_sha256=entries[-1].token_sha256,
                created_at=iso_text(end),
            )
        )
    return entries


def _refusals(chance: random.Random, now: datetime) -> list[TokenAudit]:
    """Return requests that were refused: of agents for tokens of others, and of keys that may not."""
    entries = []
    for hours in (3, 20, 51, 130):
        task, other = chance.randint(1, _TASKS), chance.randint(1, _TASKS)
        entries.append(
            TokenAudit(
                task_id=f"T{other}",
                task_number=other,
                action=Action.ACCESS_REFUSED,
                outcome=Outcome.REFUSED,
                identity=f"key:lobster-swe-t{task}",
                address="10.42.3.77",
                reason=f"POST /api/token: Task T{other} not found",
                created_at=iso_text(now - timedelta(hours=hours)),
            )
        )
    return entries


def _make_keys() -> None:
    """Make keys of each role; nobody is shown them."""
    create_key(name="lobboss", role=Role.SERVICE, actor="demo")
    create_key(name="grafana", role=Role.VIEWER, actor="demo")
    newest = Task.objects.order_by("-pk").values_list("pk", flat=True)[0]
    create_key(name=f"lobster-swe-t{newest}", role=Role.AGENT, actor="demo", task_number=newest)


# --- jobs and runs
def _runs_of(chance: random.Random, job: Job, now: datetime, most: int) -> Iterable[JobRun]:
    story = _STORIES.get(job.name, _USUAL)
    slots = cron.last_between(job.schedule, job.timezone, now - timedelta(days=_DAYS), now, most)
    for place, slot in enumerate(slots):
        is_late = chance.random() < 0.01
        queued = slot + timedelta(milliseconds=chance.randint(20, 200))
        started = queued + timedelta(minutes=chance.randint(11, 19)) if is_late else queued
        state = State.SUCCESS
        if chance.random() < story.fails or (job.name == "nightly-import" and place >= len(slots) - 2):
            state = chance.choices((State.FAILED, State.TIMEOUT), (9, 1))[0]
        elif chance.random() < 0.004:
            state = State.ABORTED
        seconds = story.seconds * chance.lognormvariate(0, 0.35) * (1 + 0.5 * place / max(1, len(slots)))
        seconds = float(job.timeout_seconds) if state == State.TIMEOUT else seconds
        if started + timedelta(seconds=seconds) >= now:
            return
        run = _run(job, slot, queued, started, seconds, state)
        yield run
        if state == State.FAILED and chance.random() < 0.6 and slots[-1] != slot:
            yield _retry(run, story.seconds)


def _run(job: Job, slot: datetime | None, queued: datetime, started: datetime, seconds: float, state: State) -> JobRun:
    code = {State.SUCCESS: 0, State.FAILED: 1 + len(job.name) % 4}.get(state)
    return JobRun(
        job=job,
        state=state,
        trigger=Trigger.SCHEDULE,
        requested_by="the schedule",
        scheduled_for=slot,
        queued_at=queued,
        started_at=started,
        ended_at=started + timedelta(seconds=seconds),
        exit_code=code,
        duration=round(seconds, 2),
        note="aborted by olga" if state == State.ABORTED else "",
        abort_requested_by="olga" if state == State.ABORTED else "",
        definition=runs.definition_of(job),
    )


def _retry(failed: JobRun, seconds: float) -> JobRun:
    """Return a run that somebody asked for after a failure, and that went well."""
    at = failed.queued_at + timedelta(seconds=(failed.duration or 0) + 31)
    run = _run(failed.job, None, at, at, seconds, State.SUCCESS)
    run.trigger, run.requested_by, run.attempt = Trigger.OPERATOR, "olga", 2
    return run


def _give_output(chance: random.Random, job: Job) -> None:
    """Write the output of the newest runs and of the newest failures; of every failure say the reason."""
    story = _STORIES.get(job.name, _USUAL)
    newest = list(JobRun.objects.filter(job=job).order_by("-id")[:_WITH_OUTPUT])
    failed = list(JobRun.objects.filter(job=job, state__in=FAILURES).order_by("-id"))
    for run in {run.pk: run for run in [*newest, *failed[:_WITH_OUTPUT]]}.values():
        text = story.good if run.state == State.SUCCESS else f"{story.bad}\033[31m{story.error}\033[0m\n"
        text = text.replace("{n}", str(chance.randint(40, 120)))
        path = output_files.output_path(run.pk)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        lines = text.encode().splitlines(keepends=True)
        begin, offset, times = int((run.started_at or run.queued_at).timestamp()), 0, []
        for number, line in enumerate(lines):
            times.append(f"{offset} {begin + int((run.duration or 0) * number / len(lines))}\n")
            offset += len(line)
        path.with_name(f"{path.name}.times").write_text("".join(times))
        output_shipping.shipper().take_in(run.pk)
        JobRun.objects.filter(pk=run.pk).update(output_bytes=offset)
    for run in failed:
        note = f"ended after its limit of {job.timeout_seconds} s" if run.state == State.TIMEOUT else ""
        known = reasons.of_ending(run.pk, run.exit_code, note)
        JobRun.objects.filter(pk=run.pk).update(note=known if "·" in known else f"{known} · {story.error}")


def _sum_up(job: Job) -> None:
    """Write the summary of the job, and what its alerts know."""
    newest = JobRun.objects.filter(job=job).order_by("-id").first()
    if newest is None:
        return
    JobState.objects.update_or_create(
        name=job.name,
        defaults={
            "last_run": iso_text(newest.started_at),
            "last_status": State.FAILED if newest.state == State.ABORTED else newest.state,
            "last_duration": newest.duration,
            "last_output": output.last_lines(newest.pk),
            "run_count": JobRun.objects.filter(job=job).count(),
            "fail_count": JobRun.objects.filter(job=job, state__in=FAILURES).count(),
        },
    )
    if newest.state in FAILURES:
        Job.objects.filter(pk=job.pk).update(failures_in_row=2, failing_since=newest.ended_at)


# --- alerts and the vault
def _make_alerts(now: datetime) -> None:
    """Make an alert for the newest failures of each job, sent but for the last, and the recoveries after them."""
    alerts = []
    failures = JobRun.objects.filter(state__in=FAILURES).select_related("job").order_by("-id")[:_WITH_OUTPUT]
    for run in reversed(failures):
        at = run.ended_at or run.queued_at
        body = f"Run {run.pk} ended: {run.state} ({run.note}).\nmanage.py logs {run.pk}"
        alerts.append(_alert(AlertKind.FAILING, run, f"{run.job.name} fails", body, at))
        after = JobRun.objects.filter(job=run.job, pk__gt=run.pk, state=State.SUCCESS).order_by("pk").first()
        if after:
            body = f"Run {after.pk} succeeded."
            alerts.append(_alert(AlertKind.RECOVERED, after, f"{run.job.name} works again", body, after.queued_at))
    alerts.sort(key=lambda alert: alert.created_at)
    if alerts:
        last = alerts[-1]
        last.state, last.sent_at, last.attempts = Delivery.DROPPED, None, 3
        last.error = "its destination is no longer configured"
    Alert.objects.bulk_create(alerts)


def _alert(kind: AlertKind, run: JobRun, title: str, body: str, at: datetime) -> Alert:
    return Alert(
        kind=kind,
        is_over=kind == AlertKind.RECOVERED,
        job_name=run.job.name,
        run=run,
        title=title,
        body=body,
        destination="discord://…",
        fingerprint="demo",
        state=Delivery.SENT,
        attempts=1,
        created_at=at,
        next_attempt_at=at,
        sent_at=at + timedelta(seconds=1),
    )


def _make_vault_history(now: datetime) -> None:
    """Make two reports about notes and a day of syncs."""
    task = Task.objects.order_by("pk")[3]
    problems = (
        (Kind.CONFLICT, f"010-tasks/active/{task.task_id}.md", "a person and an agent edited it; both are kept", 5),
        (Kind.UNREADABLE, "010-tasks/active/T7-draft.md", "its frontmatter is not YAML (line 4)", 30),
    )
    for kind, path, sentence, hours in problems:
        NoteProblem.objects.create(path=path, kind=kind, sentence=sentence, since=now - timedelta(hours=hours))
    for number in range(24, 0, -1):
        begin = now - timedelta(hours=number, minutes=7)
        error = "the remote could not be reached" if number == 9 else ""
        SyncRun.objects.create(
            started_at=begin,
            seconds=0.4 + number % 3,
            reason="events",
            files=1 + number % 5,
            commit="" if error else hashlib.sha256(str(number).encode()).hexdigest()[:40],
            pushed=not error,
            error=error,
        )
