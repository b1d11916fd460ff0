"""A realistic fleet with two weeks of history, to look at the pages with."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta

from django.db import transaction

from core.errors import Conflict
from core.timestamps import iso_text, seconds_text, utc_now
from jobs import services
from jobs.execution import output, runs
from jobs.models import Job, JobRun, JobState, State, Trigger
from jobs.scheduling import cron
from tasks.models import Status, Task, TaskEvent

_SEED = 20260216
_DAYS = 14
_TASKS = 120
_RECENT = 14
_RUNS_A_JOB = 60
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
_JOBS = (
    ("nightly-digest", "15 3 * * *", "hello.py", "Summary of the day for the team"),
    ("prune-branches", "40 */4 * * *", "hello.py", "Remove merged branches"),
)


def make_fleet(*, now: datetime | None = None) -> dict[str, int]:
    """Fill an empty database; raises Conflict when it has tasks. Returns how many of each were made."""
    if Task.objects.exists():
        raise Conflict("the demo refuses to run on a database that has tasks: set LOBWIFE_STATE_DIR to an empty folder")
    now = now or utc_now()
    chance = random.Random(_SEED)  # noqa: S311 a picture, not a secret
    for name, expression, script, description in _JOBS:
        fields = {"name": name, "schedule": expression, "script": script, "description": description}
        services.define_job(fields=fields, actor="demo")
    events: list[TaskEvent] = []
    with transaction.atomic():
        for number in range(_TASKS):
            events += _make_task(chance, now - _age_of(number), now)
        TaskEvent.objects.bulk_create(sorted(events, key=lambda event: event.created_at))
        made = [run for job in Job.objects.all() for run in _runs_of(chance, job, now)]
        JobRun.objects.bulk_create(sorted(made, key=lambda run: run.queued_at), ignore_conflicts=True)
        for job in Job.objects.all():
            _sum_up(job)
    return {"jobs": Job.objects.count(), "runs": JobRun.objects.count(), "tasks": Task.objects.count()}


def _age_of(number: int) -> timedelta:
    """Return an age: evenly over the days, but for the newest, which are of the last hours."""
    if number < _TASKS - _RECENT:
        return timedelta(days=_DAYS) * (1 - number / (_TASKS - _RECENT)) + timedelta(hours=8)
    return timedelta(minutes=3 + 6 * (_TASKS - number))


def _make_task(chance: random.Random, created: datetime, now: datetime) -> list[TaskEvent]:
    name = f"{chance.choice(_VERBS)} {chance.choice(_THINGS)}"
    age = now - created
    if age > timedelta(hours=8):
        status = chance.choices((Status.COMPLETED, Status.FAILED, Status.CANCELLED), (85, 10, 5))[0]
    else:
        status = chance.choices((Status.QUEUED, Status.ACTIVE, Status.BLOCKED), (5, 6, 1))[0]
    assigned = created + min(age / 4, timedelta(minutes=chance.randint(2, 40)))
    ended = assigned + timedelta(minutes=chance.randint(8, 200))
    worked = status not in (Status.QUEUED, Status.BLOCKED)
    task = Task.objects.create(
        name=name,
        slug=name.lower().replace(" ", "-"),
        type=chance.choice(("swe", "swe", "research", "qa")),
        status=status,
        priority=chance.choices(("critical", "high", "normal", "low"), (1, 3, 10, 3))[0],
        repos=json.dumps([chance.choice(_REPOS)]),
        estimate_minutes=chance.choice((15, 30, 45, 60, None)),
        created_at=seconds_text(created),
        updated_at=seconds_text(min(ended if worked else created, now)),
        queued_at=seconds_text(created),
        assigned_to=None,
        assigned_at=iso_text(assigned) if worked else None,
        completed_at=iso_text(ended) if status == Status.COMPLETED else None,
    )
    history: list[tuple[str, str, str, datetime, str]] = [
        ("created", "Task created with status=queued", "lobboss", created, Status.QUEUED)
    ]
    if worked:
        worker = f"lobster-{task.type}-t{task.pk}"
        Task.objects.filter(pk=task.pk).update(assigned_to=worker)
        history.append(("updated", "Updated: status, assigned_to, assigned_at", "lobboss", assigned, Status.ACTIVE))
        history.append(("note", "Tests pass on the branch", worker, assigned + (ended - assigned) / 2, Status.ACTIVE))
        if status != Status.ACTIVE:
            history.append(("updated", "Updated: status, completed_at", worker, ended, status))
    return [
        TaskEvent(
            task=task,
            event_type=kind,
            detail=detail,
            actor=actor,
            created_at=seconds_text(min(moment, now)),
            status=reached,
        )
        for kind, detail, actor, moment, reached in history
    ]


def _runs_of(chance: random.Random, job: Job, now: datetime) -> list[JobRun]:
    is_shaky = job.name == "review-prs"
    made = []
    for slot in cron.last_between(job.schedule, job.timezone, now - timedelta(days=_DAYS), now, _RUNS_A_JOB):
        moment = slot + timedelta(milliseconds=chance.randint(20, 200))
        fails = chance.random() < (0.12 if is_shaky else 0.02)
        seconds = chance.lognormvariate(1.2, 0.6)
        made.append(
            JobRun(
                job=job,
                state=State.FAILED if fails else State.SUCCESS,
                trigger=Trigger.SCHEDULE,
                requested_by="the schedule",
                scheduled_for=slot,
                queued_at=moment,
                started_at=moment,
                ended_at=moment + timedelta(seconds=seconds),
                exit_code=1 if fails else 0,
                duration=round(seconds, 2),
                definition=runs.definition_of(job),
                output_bytes=0,
            )
        )
    return made


def _sum_up(job: Job) -> None:
    """Write the newest run's output, and the summary of the job."""
    newest = JobRun.objects.filter(job=job).latest("id")
    text = "checked 14 pull requests\n\033[32mok\033[0m 13 are in order\n\033[33mwaiting\033[0m 1 for a review\n"
    path = output.output_path(newest.pk)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    JobRun.objects.filter(pk=newest.pk).update(output_bytes=len(text))
    JobState.objects.update_or_create(
        name=job.name,
        defaults={
            "last_run": iso_text(newest.started_at),
            "last_status": newest.state,
            "last_duration": newest.duration,
            "last_output": text,
            "run_count": JobRun.objects.filter(job=job).count(),
            "fail_count": JobRun.objects.filter(job=job, state=State.FAILED).count(),
        },
    )
