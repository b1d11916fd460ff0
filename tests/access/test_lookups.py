"""Lists of the admin take the parameters of their filters, and no other lookups."""

from __future__ import annotations

from itertools import cycle
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import models
from django.test import Client
from django.urls import reverse

from access.models import AccessPolicy
from broker.models import GitHubState
from core.display import StrictAdmin
from jobs.models import AlertSchedule, AlertSetting, Job
from tasks.services import create_task
from vaultsync.models import VaultState

BACKEND = "access.authentication.RoleBackend"
LOOKUPS = ("regex", "startswith")
ODD = ("x'", "9" * 40, "\0")


@pytest.fixture
def operator(seeded: None) -> Client:
    create_task(fields={"name": "a" * 34 + "!"}, actor=None)
    client = Client()
    client.force_login(User.objects.create_superuser("root"), BACKEND)
    return client


def lists() -> list[tuple[type[models.Model], str]]:
    return [
        (model, reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
        for model in admin.site._registry
    ]


def test_every_admin_stands_on_the_base_class() -> None:
    assert [site for site in admin.site._registry.values() if not isinstance(site, StrictAdmin)] == []


def test_no_list_takes_a_lookup_that_is_no_filter(operator: Client) -> None:
    pages_without_a_list = {GitHubState, VaultState, AccessPolicy, AlertSchedule, AlertSetting}
    for model, path in lists():
        if model in pages_without_a_list:
            continue
        for field, lookup in zip(model._meta.concrete_fields, cycle(LOOKUPS), strict=False):
            answer = operator.get(f"{path}?{field.name}__{lookup}=1")
            assert (answer.status_code, answer.headers.get("Location")) == (302, f"{path}?e=1"), (field.name, lookup)
        assert operator.get(f"{path}?name__regex={quote('^(a+)+$')}").status_code == 302, path
    answer = operator.get(f"{path}?nonsense=1", follow=True)
    assert "it shows everything" in answer.text
    assert operator.get(f"{path}?nonsense=1&e=1").status_code == 400


def test_odd_values_are_refused_or_ignored(operator: Client) -> None:
    odd = cycle(ODD)
    for model, path in lists():
        names = ["q", "o", "p", "_to_field"]
        for item in admin.site._registry[model].list_filter:
            if isinstance(item, type):
                names.append(item.parameter_name)
            else:
                field = item if isinstance(item, str) else item[0]
                names += [f"{field}__exact", f"{field}__isnull", f"{field}__gte"]
        for name, value in zip(names, odd, strict=False):
            status = operator.get(path, {name: value}).status_code
            assert status < 500, (path, name, value, status)


def test_hidden_columns_are_no_oracle(operator: Client) -> None:
    job = Job.objects.first()
    assert job is not None
    Job.objects.filter(pk=job.pk).update(ping_url="https://hc.example/Secret")
    for query in ("ping_url__startswith=https", "environment__contains=x", "alert_urls__regex=.", "ping_url=x"):
        assert operator.get(f"/admin/jobs/job/?{query}").status_code == 302, query
    assert operator.get("/admin/lobwife/apikey/?digest__startswith=a").status_code == 302


def test_a_search_for_very_many_words_is_a_search_for_the_first_of_them(operator: Client) -> None:
    for model, path in lists():
        if admin.site._registry[model].search_fields:
            assert operator.get(path, {"q": "a " * 2_000}).status_code == 200, path
    page = operator.get("/admin/tasks/task/", {"q": "a " * 100 + "word-that-no-task-has"})
    assert page.context["cl"].result_count == 1, "what comes after 200 characters counts for nothing"
