"""The sidebar: sections by what one comes to do, with the pages of each that the user may see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from django.urls import reverse
from django.utils.text import capfirst

# What the pages that show everything at once are made of.
SOURCES = ("jobs.view_job", "tasks.view_task", "broker.view_tokenaudit")
# A section: its label, which is also its icon's name, and its pages in order: a model, or the name of a view.
_SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Overview", ("admin:index",)),
    ("Fleet", ("admin:fleet",)),
    ("Tasks", ("tasks.Task", "tasks.TaskEvent", "admin:costs", "tasks.Cost", "tasks.Budget")),
    ("Questions", ("tasks.Question",)),
    ("Jobs", ("jobs.Job", "jobs.Secret")),
    ("Runs", ("jobs.JobRun",)),
    ("Activity", ("admin:activity",)),
    ("Charts", ("admin:charts",)),
    (
        "Alerts",
        ("jobs.Alert", "jobs.AlertSetting", "jobs.AlertSchedule", "webhooks.Subscription", "webhooks.Delivery"),
    ),
    (
        "Tokens",
        (
            *("broker.TokenAudit", "broker.TaskRegistration", "lobwife.ApiKey", "broker.LegacyRegistration"),
            *("broker.AllowedService", "broker.GitHubState"),
        ),
    ),
    ("Vault", ("vaultsync.VaultState", "vaultsync.SyncRun", "vaultsync.NoteProblem")),
    ("Settings", ("lobwife.AccessPolicy", "lobwife.UncredentialedCaller", "auth.User", "auth.Group", "admin:copies")),
)
_SECTION_OF_APP = {"tasks": "Tasks", "jobs": "Jobs", "broker": "Tokens", "vaultsync": "Vault", "webhooks": "Alerts"}
_LABELS = {
    "admin:copies": "Copies",
    "admin:costs": "Costs",
    "tasks.Cost": "Reports of costs",
    "broker.TaskRegistration": "Registrations",
    "jobs.JobRun": "Runs",
    "axes.AccessAttempt": "Failed sign-ins",
}


@dataclass(frozen=True)
class Entry:
    """A section or a page of the sidebar."""

    label: str
    url: str
    icon: str = ""
    is_current: bool = False
    pages: tuple[Entry, ...] = ()


def plural(opts: Any) -> str:
    """Return what the rows of a model are called: in the sidebar, over their list, on the way to one of them."""
    return str(_LABELS.get(opts.label) or capfirst(opts.verbose_name_plural))


def sidebar(request: HttpRequest, apps: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Return the sections; `apps` are Django's, with the models that the user may see. No model is left out."""
    models = {f"{app['app_label']}.{model['object_name']}": model for app in apps for model in app["models"]}
    listed = {key for _, keys in _SECTIONS for key in keys}
    others: dict[str, list[str]] = {}
    for key in models:
        if key not in listed:
            others.setdefault(_SECTION_OF_APP.get(key.partition(".")[0], "Settings"), []).append(key)
    sections = []
    for label, keys in _SECTIONS:
        pages = tuple(_pages(request.user, [*keys, *others.get(label, ())], models))
        if pages:
            sections.append(Entry(label, pages[0].url, label.lower(), pages=pages if len(pages) > 1 else ()))
    return _with_current(sections, request.path)


def _pages(user: User | AnonymousUser, keys: Sequence[str], models: Mapping[str, Mapping[str, Any]]) -> Iterator[Entry]:
    for key in keys:
        if key in models:
            model = models[key]
            yield Entry(plural(model["model"]._meta), model["admin_url"] or model["add_url"])
        elif key.startswith("admin:") and (user.is_superuser if key == "admin:copies" else user.has_perms(SOURCES)):
            yield Entry(_LABELS.get(key, ""), reverse(key))


def _with_current(sections: Sequence[Entry], path: str) -> list[Entry]:
    """Mark the section and the page whose address begins that of the request: the longest does."""
    index = reverse("admin:index")
    urls = [page.url for section in sections for page in (section, *section.pages)]
    fitting = [url for url in urls if path == url or (url != index and path.startswith(url))]
    current = max(fitting, key=len, default=None)
    return [
        replace(
            section,
            is_current=section.url == current or any(page.url == current for page in section.pages),
            pages=tuple(replace(page, is_current=page.url == current) for page in section.pages),
        )
        for section in sections
    ]
