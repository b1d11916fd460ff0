"""Search everywhere: one field for tasks, jobs and runs."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q
from django.urls import reverse

from jobs.models import Job, JobRun
from tasks.ids import parse_typed_id
from tasks.models import Task

_MOST = 20


@dataclass(frozen=True)
class Match:
    """A task, job or run that matches, with what a person needs to tell it from others."""

    kind: str
    title: str
    detail: str
    state: str | None
    url: str


def search(query: str) -> list[Match]:
    """Return what matches the words, the best first: an id, then names that begin so, then names that hold them."""
    query = query.strip()
    if not query:
        return []
    number = parse_typed_id(query)
    matches = _by_number(number, query) if number is not None else []
    if matches and not query.isdigit():
        return matches  # T42 means that one task, not also who is called lobster-t42
    matches += [_job(job) for job in Job.objects.filter(name__icontains=query)[:_MOST]]
    condition = Q(name__icontains=query) | Q(slug__icontains=query) | Q(assigned_to__icontains=query)
    tasks = sorted(
        Task.objects.filter(condition)[:_MOST], key=lambda task: not task.name.lower().startswith(query.lower())
    )
    matches += [match for match in map(_task, tasks) if match not in matches]
    return matches


def _by_number(number: int, query: str) -> list[Match]:
    matches = [_task(task) for task in Task.objects.filter(pk=number)]
    if query.isdigit():
        matches += [_run(run) for run in JobRun.objects.filter(pk=number).select_related("job")]
    return matches


def _task(task: Task) -> Match:
    detail = f"{task.type}, assigned to {task.assigned_to}" if task.assigned_to else task.type
    return Match("task", str(task), detail, task.status, reverse("admin:tasks_task_change", args=[task.pk]))


def _job(job: Job) -> Match:
    return Match("job", job.name, job.description, None, reverse("admin:jobs_job_change", args=[job.pk]))


def _run(run: JobRun) -> Match:
    url = reverse("admin:jobs_jobrun_change", args=[run.pk])
    return Match("run", f"run {run.pk} of {run.job.name}", f"asked for by {run.trigger}", run.state, url)
