"""Search everywhere: pages, actions, tasks, questions, jobs, runs, repositories, keys; by the field and the palette."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from urllib.parse import urlencode

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q
from django.urls import reverse
from django.utils.text import Truncator

from access.models import ApiKey
from jobs import services
from jobs.models import Job, JobRun
from ops.navigation import Entry
from tasks.ids import parse_typed_id
from tasks.models import Question, Task, read_repos

MOST = 20
_LONGEST_TITLE = 120
_LOOKED_AT = 200  # tasks with the words among their repositories
_QUESTION = re.compile(r"question\s*(\d{1,18})", re.ASCII | re.IGNORECASE)
_RUN = re.compile(r"(?:run\s*|#)(\d{1,18})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Match:
    """What matches, with what a person needs to tell it from others; an action is posted to its url."""

    kind: str
    title: str
    detail: str
    state: str | None
    url: str
    is_action: bool = False


def search(query: str, *, most: int = MOST) -> list[Match]:
    """Return what matches the words, the best first: an id, then names that begin so, then names that hold them."""
    query = query.strip()
    if not query:
        return []
    run = _RUN.fullmatch(query)
    if run:
        return [_run(row) for row in JobRun.objects.filter(pk=int(run[1])).select_related("job")]
    question = _QUESTION.fullmatch(query)
    if question:
        return [_question(row) for row in Question.objects.filter(pk=int(question[1]))]
    number = parse_typed_id(query)
    matches = _by_number(number, query) if number is not None else []
    if matches and not query.isdigit():
        return matches  # T42 means that one task, not also who is called lobster-t42
    matches += [_job(job) for job in Job.objects.filter(name__icontains=query)[:most]]
    condition = Q(name__icontains=query) | Q(slug__icontains=query) | Q(assigned_to__icontains=query)
    tasks = sorted(
        Task.objects.filter(condition)[:most], key=lambda task: not task.name.lower().startswith(query.lower())
    )
    matches += [match for match in map(_task, tasks) if match not in matches]
    texts = Q(text__icontains=query) | Q(answer__icontains=query)
    matches += [_question(each) for each in Question.objects.filter(texts)[:most]]
    matches += islice(_repositories(query), most)
    return matches


def keys(query: str, user: User | AnonymousUser) -> list[Match]:
    """Return the API keys of that name, for who may see keys."""
    if not query.strip() or not user.has_perm("lobwife.view_apikey"):
        return []
    rows = ApiKey.objects.filter(Q(name__icontains=query.strip()) | Q(prefix=query.strip()))[:MOST]
    return [
        Match("API key", row.name, f"role {row.role}", None, reverse("admin:lobwife_apikey_change", args=[row.pk]))
        for row in rows
    ]


def pages_and_actions(query: str, user: User | AnonymousUser, sections: Sequence[Entry]) -> list[Match]:
    """Return the pages whose name holds the words, and what can be done at once; everything without words."""
    words = query.lower().split()
    every = [*_actions(words, user), *_pages(sections)]
    return [match for match in every if all(word in f"{match.title} {match.detail}".lower() for word in words)]


def _pages(sections: Iterable[Entry]) -> Iterator[Match]:
    for section in sections:
        yield Match("page", section.label, "", None, section.url)
        for page in section.pages:
            if page.label and page.label != section.label:
                yield Match("page", page.label, section.label, None, page.url)


def _actions(words: Sequence[str], user: User | AnonymousUser) -> Iterator[Match]:
    if user.has_perm("jobs.change_job"):
        if services.pause():
            yield Match("action", "Resume all", "starts of jobs", None, reverse("admin:jobs_job_resume"), True)
        else:
            yield Match("action", "Pause all", "starts of jobs", None, reverse("admin:jobs_job_pause"), True)
        wanted = [word for word in words if word != "run"]
        if "run" in words and wanted:
            named = Job.objects.all()
            for word in wanted:
                named = named.filter(name__icontains=word)
            for job in named[:MOST]:
                yield Match(
                    "action", f"Run {job.name}", "now", None, reverse("admin:jobs_job_run", args=[job.pk]), True
                )
    for permission, label, name in (
        ("tasks.add_task", "New task", "admin:tasks_task_add"),
        ("jobs.add_job", "New job", "admin:jobs_job_add"),
        ("lobwife.add_apikey", "New API key", "admin:lobwife_apikey_add"),
    ):
        if user.has_perm(permission):
            yield Match("action", label, "make or add one", None, reverse(name))


def _by_number(number: int, query: str) -> list[Match]:
    matches = [_task(task) for task in Task.objects.filter(pk=number)]
    if query.isdigit():
        matches += [_run(run) for run in JobRun.objects.filter(pk=number).select_related("job")]
    return matches


def _repositories(query: str) -> Iterator[Match]:
    """Yield the repositories of that name that the newest tasks are about."""
    if len(query) < 2:
        return
    texts = Task.objects.filter(repos__icontains=query).order_by("-id").values_list("repos", flat=True)[:_LOOKED_AT]
    names = dict.fromkeys(name for text in texts for name in read_repos(text) or () if query.lower() in name.lower())
    for name in names:
        yield Match("repository", name, "its tasks", None, f"{reverse('admin:fleet')}?{urlencode({'repo': name})}")


def _task(task: Task) -> Match:
    detail = f"{task.type}, assigned to {task.assigned_to}" if task.assigned_to else task.type
    return Match("task", str(task), detail, task.status, reverse("admin:tasks_task_change", args=[task.pk]))


def _question(question: Question) -> Match:
    title = f"{question.pk}: {Truncator(question.text).chars(_LONGEST_TITLE)}"
    url = reverse("admin:tasks_question_change", args=[question.pk])
    return Match("question", title, f"T{question.task_id}", question.state, url)


def _job(job: Job) -> Match:
    return Match("job", job.name, job.description, None, reverse("admin:jobs_job_change", args=[job.pk]))


def _run(run: JobRun) -> Match:
    url = reverse("admin:jobs_jobrun_change", args=[run.pk])
    return Match("run", f"run {run.pk} of {run.job.name}", f"asked for by {run.trigger}", run.state, url)
