"""What every page has: the sidebar, the banner, the number of problems, the palette."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from access import keys
from core.callers import Role
from core.timestamps import utc_now
from jobs import services as job_services
from jobs.models import Daemon, Job, JobRun, State
from ops import page_frame
from tasks import services
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]


def staff(name: str, *groups: str) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.set(Group.objects.filter(name__in=groups))
    client = Client()
    client.force_login(user)
    return client


def links(page: str) -> list[str]:
    side = re.search(r'<nav id="side".*?</nav>', page, re.S)
    assert side
    return re.findall(r'<a [^>]*href="([^"]+)"', side[0])


def test_every_list_of_the_admin_is_reached_from_the_sidebar(operator_client: Client) -> None:
    reached = set()
    for section in links(text(operator_client, "/admin/")):
        reached |= {section, *links(operator_client.get(section, follow=True).content.decode())}
    for model in admin.site._registry:
        assert reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") in reached, model


def test_the_sidebar_has_only_what_one_may_see() -> None:
    client = staff("viktor")
    client.get("/admin/tasks/")  # no page yet
    user = User.objects.get(username="viktor")
    user.user_permissions.set(Permission.objects.filter(codename__in=("view_task", "view_jobrun")))
    page = text(client, "/admin/tasks/task/")
    assert links(page) == ["/admin/tasks/task/", "/admin/jobs/jobrun/"]
    assert '<a class="section" href="/admin/tasks/task/" aria-current="page">' in page


def test_the_banner_says_on_every_page_what_keeps_jobs_from_starting(operator_client: Client) -> None:
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now() - timedelta(minutes=5)})
    assert "The daemon has not given a sign of life" in text(operator_client, "/admin/tasks/task/")
    Daemon.objects.update(beat_at=utc_now())
    job_services.set_paused(paused=True, actor="otto")
    page = text(operator_client, "/admin/tasks/task/")
    assert "The daemon has not given" not in page
    assert "Starts are paused by otto</strong>" in page
    assert "Resume all</button>" in page
    assert "Resume all</button>" not in text(staff("viktor", "Viewers"), "/admin/tasks/task/")
    operator_client.post("/admin/jobs/job/resume/")
    assert "Starts are paused" not in text(operator_client, "/admin/tasks/task/")


def test_the_tab_has_the_number_of_problems(operator_client: Client) -> None:
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now()})
    assert "<title>Overview | lobwife</title>" in text(operator_client, "/admin/")
    JobRun.objects.create(job=Job.objects.all()[0], state=State.FAILED, trigger="rest", queued_at=utc_now())
    assert "<title>(1) Overview | lobwife</title>" in text(operator_client, "/admin/")
    cache.clear()  # as after a minute, or in another process
    page = text(operator_client, "/admin/tasks/task/")
    assert "<title>(1) Tasks | lobwife</title>" in page
    assert re.search(r'id="icon" href="[^"]*icon-bad', page)


def test_problems_are_counted_again_where_something_happened_and_else_once_a_minute() -> None:
    with time_machine.travel(utc_now(), tick=False) as clock:
        Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now()})
        assert page_frame.load(fresh=True).count.number == 0
        JobRun.objects.create(job=Job.objects.all()[0], state=State.FAILED, trigger="rest", queued_at=utc_now())
        clock.shift(11)
        assert page_frame.load(fresh=True).count.number == 0, "there was no event"
        services.create_task(fields={"name": "Mend the roof"}, actor="x")
        assert page_frame.load(fresh=True).count.number == 1
        JobRun.objects.all().delete()
        clock.shift(61)
        Daemon.objects.update(beat_at=utc_now())
        assert page_frame.load(fresh=True).count.number == 0


def test_the_palette_goes_everywhere_and_acts(operator_client: Client) -> None:
    task = services.create_task(fields={"name": "Mend the roof", "repos": ["acme/gateway"]}, actor="x")
    job = Job.objects.all()[0]
    run = JobRun.objects.create(job=job, state=State.FAILED, trigger="rest", queued_at=utc_now())
    keys.create_key(name="reports", role=Role.VIEWER, actor="test")
    for query, target in {
        "": "/admin/fleet/",
        "token audit": "/admin/broker/tokenaudit/",
        "pause all": "/admin/jobs/job/pause/",
        f"run {job.name}": f"/admin/jobs/job/{job.pk}/run/",
        job.name: f"/admin/jobs/job/{job.pk}/change/",
        f"run {run.pk}": f"/admin/jobs/jobrun/{run.pk}/change/",
        f"#{run.pk}": f"/admin/jobs/jobrun/{run.pk}/change/",
        f"T{task.pk}": f"/admin/tasks/task/{task.pk}/change/",
        "mend": f"/admin/tasks/task/{task.pk}/change/",
        "gateway": "/admin/fleet/?repo=acme%2Fgateway",
        "reports": f"/admin/lobwife/apikey/{keys.ApiKey.objects.get().pk}/change/",
    }.items():
        assert f'"{target}"' in operator_client.get("/admin/palette/", {"q": query}).content.decode(), query
    viewer = staff("viktor", "Viewers")
    assert "/pause/" not in viewer.get("/admin/palette/?q=pause").content.decode()
    assert "/admin/jobs/job/" in viewer.get("/admin/palette/?q=jobs").content.decode()
    nobody = staff("nina").get("/admin/palette/?q=mend").content.decode()
    assert "Mend" not in nobody


def test_search_without_scripts_finds_the_same_and_acts(operator_client: Client) -> None:
    page = text(operator_client, "/admin/search/?q=pause")
    assert '<form method="post" action="/admin/jobs/job/pause/">' in page
    for number in range(25):
        services.create_task(fields={"name": f"roof {number}"}, actor="x")
    assert "The first 20 of each kind." in text(operator_client, "/admin/search/?q=roof")
