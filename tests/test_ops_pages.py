"""The operators' pages, asked for without a browser: what they say and cost; looking changes nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from broker import app
from broker.audit import Caller
from broker.models import GitHubState
from broker.services import register_task
from jobs import output, runs
from jobs import services as job_services
from jobs.models import Daemon, Job, JobRun, JobState, State, Trigger
from lobwife import demo
from lobwife.base.errors import Conflict
from lobwife.base.timestamps import iso_text, seconds_text, utc_now
from lobwife.ops import history
from tasks import services
from tasks.models import Status, Task, TaskEvent

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]
QUERIES_MOST = 30


@pytest.fixture
def olga() -> User:
    return User.objects.create_superuser("olga")


@pytest.fixture
def operator(olga: User) -> Client:
    client = Client()
    client.force_login(olga)
    client.get("/admin/")  # the first request of a session notes when it was
    return client


@pytest.fixture
def fleet() -> Iterator[None]:
    demo.make_fleet()
    yield
    for pk in JobRun.objects.values_list("pk", flat=True):
        output.delete(pk)


def text(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.content.decode()


def pages() -> list[str]:
    job, run, task = Job.objects.all()[0], JobRun.objects.all()[0], Task.objects.all()[0]
    return [
        *("/admin/", "/admin/live/dashboard/", "/admin/activity/", "/admin/search/?q=fix", "/admin/search/"),
        *(
            "/admin/jobs/job/",
            "/admin/jobs/job/add/",
            f"/admin/jobs/job/{job.pk}/change/",
            f"/admin/live/job/{job.pk}/",
        ),
        *("/admin/jobs/jobrun/", f"/admin/jobs/jobrun/{run.pk}/change/?find=ok", f"/admin/jobs/jobrun/{run.pk}/live/"),
        "/admin/jobs/job/preview/?schedule=@daily",
        *("/admin/tasks/task/", "/admin/tasks/task/?attention=any", "/admin/tasks/task/add/"),
        *(f"/admin/tasks/task/{task.pk}/change/", f"/admin/tasks/task/{task.pk}/live/", "/admin/tasks/taskevent/"),
        *("/admin/broker/tokenaudit/", "/admin/broker/taskregistration/", "/admin/vaultsync/vaultstate/"),
    ]


def contents() -> dict[str, list[tuple[object, ...]]]:
    with connection.cursor() as cursor:
        tables = [name for name in connection.introspection.table_names(cursor) if name != "django_session"]
        found = {}
        for name in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(name)}")
            found[name] = cursor.fetchall()
    return found


def test_looking_at_a_page_changes_nothing_and_asks_little(operator: Client, fleet: None) -> None:
    before = contents()
    for path in pages():
        with CaptureQueriesContext(connection) as asked:
            text(operator, path)
        assert len(asked) < QUERIES_MOST, path
    assert contents() == before


def test_what_changes_something_refuses_to_be_looked_at(operator: Client, fleet: None) -> None:
    job, run, task = Job.objects.all()[0], JobRun.objects.all()[0], Task.objects.all()[0]
    before = contents()
    for path in (
        *(f"/admin/jobs/job/{job.pk}/{verb}/" for verb in ("run", "enable", "disable")),
        *("/admin/jobs/job/pause/", "/admin/jobs/job/resume/", f"/admin/tasks/task/{task.pk}/cancel/"),
        *(f"/admin/jobs/jobrun/{run.pk}/{verb}/" for verb in ("abort", "retry")),
    ):
        assert operator.get(path).status_code == 405, path
    assert contents() == before


def test_who_is_not_signed_in_sees_no_page(fleet: None) -> None:
    visitor = Client()
    for path in (*pages(), "/jobs/review-prs"):
        answer = visitor.get(path)
        assert answer.status_code == 302, path
        assert "/login/" in answer["Location"]


def test_pages_hold_no_style_and_no_script_of_their_own(operator: Client, fleet: None) -> None:
    for path in pages():
        page = text(operator, path)
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)|<style|\sstyle=|\son\w+=", page), path


def test_an_empty_installation_is_told_how_to_begin(operator: Client) -> None:
    Job.objects.all().delete()
    page = text(operator, "/admin/")
    assert "A job is a script that runs on a schedule" in page
    assert "/api/v1/tasks</pre>" in page
    assert "The daemon is not running" in page


def test_a_daemon_that_is_silent_is_bad_news(operator: Client) -> None:
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now() - timedelta(minutes=5)})
    assert "The daemon has not given a sign of life" in text(operator, "/admin/")
    Daemon.objects.filter(pk=1).update(beat_at=utc_now())
    assert "Everything is all right." in text(operator, "/admin/")


def test_on_a_full_disk_nobody_is_told_to_start_a_daemon_that_runs(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now() - timedelta(minutes=5)})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    page = text(operator, "/admin/")
    assert "is full: nothing can be written and no script starts. Make room" in page
    assert "Start it with" not in page


def test_a_github_that_gave_no_token_when_it_was_last_asked_is_said(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Daemon.objects.update_or_create(pk=1, defaults={"pid": 7, "beat_at": utc_now()})
    monkeypatch.setattr(app, "trouble", lambda: "")
    yesterday = utc_now() - timedelta(days=1)
    state = {"last_mint_at": yesterday, "last_error": "GitHub can't be reached", "last_error_at": utc_now()}
    GitHubState.objects.update_or_create(pk=1, defaults=state)
    said = "GitHub gave no token when it was last asked: GitHub can&#x27;t be reached"
    assert said in text(operator, "/admin/")
    GitHubState.objects.update(last_mint_at=None)
    assert said in text(operator, "/admin/")
    GitHubState.objects.update(last_mint_at=utc_now())
    assert "Everything is all right." in text(operator, "/admin/")


def test_a_database_that_can_not_be_read_is_said_on_the_dashboard(operator: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_jobrun RENAME TO elsewhere")
    page = text(operator, "/admin/live/dashboard/")
    assert "The database can&#x27;t be read" in page


def test_a_task_counts_once_on_the_day_it_was_completed() -> None:
    now = utc_now()
    task = services.create_task(fields={"name": "a"}, actor="x")
    services.update_task(task_id=task.pk, changes={"status": Status.COMPLETED}, actor="x")
    services.log_event(task_id=task.pk, event_type="note", detail="after that", actor="x")
    TaskEvent.objects.filter(event_type="created").update(created_at=seconds_text(now - timedelta(days=3)))
    TaskEvent.objects.filter(event_type="updated").update(created_at=seconds_text(now - timedelta(days=2)))
    shown = dict(history._count_days(now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=5), 6))
    assert [day["created"] for day in shown.values()] == [0, 0, 1, 0, 0, 0]
    assert [day["completed"] for day in shown.values()] == [0, 0, 0, 1, 0, 0]


def test_a_button_pressed_in_place_answers_with_a_sentence(operator: Client) -> None:
    job = Job.objects.all()[0]
    said = operator.post(f"/admin/jobs/job/{job.pk}/run/", headers={"HX-Request": "true"})
    assert (said.status_code, said["HX-Trigger"]) == (200, "changed")
    assert said.content.decode().endswith(f"of {job.name} is queued.")
    again = operator.post(f"/admin/jobs/job/{job.pk}/run/", headers={"HX-Request": "true"})
    assert again.content.decode() == f"Job {job.name} is already running"
    assert JobRun.objects.filter(job=job).count() == 1


def test_a_run_takes_the_arguments_that_were_typed(operator: Client) -> None:
    job = Job.objects.all()[0]
    operator.post(f"/admin/jobs/job/{job.pk}/run/", {"arguments": "--since 'two days'"})
    assert JobRun.objects.get().definition["arguments"] == ["--since", "two days"]
    JobRun.objects.update(state=State.SUCCESS)
    refused = operator.post(f"/admin/jobs/job/{job.pk}/run/", {"arguments": "'open"}, follow=True)
    assert "he arguments can&#x27;t be read: No closing quotation" in refused.content.decode()
    assert JobRun.objects.count() == 1


def test_a_viewer_sees_no_buttons_and_can_press_none(fleet: None) -> None:
    viewer = User.objects.create_user("viktor", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(viewer)
    job = Job.objects.all()[0]
    page = text(client, "/admin/")
    assert job.name in page
    assert ">Run</button>" not in page
    assert ">Run</button>" not in text(client, f"/admin/jobs/job/{job.pk}/change/")
    assert client.post(f"/admin/jobs/job/{job.pk}/run/").status_code == 403


def test_output_is_coloured_by_classes_and_never_markup(operator: Client) -> None:
    job = Job.objects.all()[0]
    run = runs.request_run(name=job.name, trigger=Trigger.OPERATOR, requested_by="olga")
    path = output.output_path(run.pk)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "10 %\r50 %\r100 %\n\033[1;31m<script>alert(1)</script>\nstill\033[0m plain\033]0;title\a\nunfinished"
    )
    try:
        page = text(operator, f"/admin/jobs/jobrun/{run.pk}/live/")
        assert page.startswith(
            '100 %\n<span class="ansi-1 ansi-31">&lt;script&gt;alert(1)&lt;/script&gt;\nstill</span> plain\n<'
        )
        assert "unfinished" not in page
        offset = re.search(r"offset=(\d+)", page)
        assert offset
        JobRun.objects.filter(pk=run.pk).update(state=State.SUCCESS)
        last = operator.get(f"/admin/jobs/jobrun/{run.pk}/live/?offset={offset[1]}")
        assert last.content.decode().startswith('unfinished<div id="standing"')
        assert last["HX-Trigger"] == "over"
        found = text(operator, f"/admin/jobs/jobrun/{run.pk}/change/?find=STILL")
        assert '<th scope="row">3</th><td>still plain</td>' in found
        assert operator.get(f"/admin/jobs/jobrun/{run.pk}/live/?offset=-1").status_code == 404
    finally:
        output.delete(run.pk)


def test_the_next_firings_of_what_is_typed_or_why_there_are_none(operator: Client) -> None:
    shown = text(operator, "/admin/jobs/job/preview/?schedule=0+9+*+*+1&timezone=Europe/Berlin")
    assert "only on Monday" in shown
    assert shown.count("<li>Mon ") == 10
    assert "is not a schedule" in text(operator, "/admin/jobs/job/preview/?schedule=<b>")


def test_many_tasks_are_changed_after_a_question(operator: Client, olga: User) -> None:
    made = [services.create_task(fields={"name": f"t{n}", "status": Status.ACTIVE}, actor="x") for n in range(3)]
    chosen = {"_selected_action": [task.pk for task in made[:2]], "action": "requeue"}
    asked = operator.post("/admin/tasks/task/", chosen)
    assert "Whoever works on them is no longer assigned." in asked.content.decode()
    assert Task.objects.filter(status=Status.QUEUED).count() == 0
    operator.post("/admin/tasks/task/", {**chosen, "confirmed": "yes"})
    assert Task.objects.filter(status=Status.QUEUED).count() == 2
    assert TaskEvent.objects.filter(actor=olga.username, status=Status.QUEUED).count() == 2
    operator.post("/admin/tasks/task/", {**chosen, "action": "priority_high"})
    assert Task.objects.filter(priority="high").count() == 2


def test_a_run_tells_what_ran_whatever_was_edited_since(operator: Client) -> None:
    environment = {"REPORT": "weekly", "DEPLOY_TOKEN": "hush-hush", "TOKEN_FILE": "/run/token"}
    fields = {"name": "digest", "script": "digest.py", "schedule": "15 3 * * *", "timezone": "Europe/Berlin"}
    fields |= {"timeout_seconds": 90, "arguments": ["a b", "c"], "environment": environment}
    job = job_services.define_job(fields={**fields, "working_directory": "/srv", "concurrency": "queue"}, actor="x")
    run = runs.request_run(name="digest", trigger=Trigger.OPERATOR, requested_by="olga")
    job.script, job.schedule, job.arguments, job.environment = "other.py", "@hourly", [], {}
    job.timeout_seconds, job.working_directory = 7, ""
    job_services.save_job(job, actor="x")
    page = text(operator, f"/admin/jobs/jobrun/{run.pk}/change/")
    told = re.search(r"<h2 id=.what-title.>.*?</section>", page, re.S)
    assert told
    for shown in (
        *("digest.py", "&#x27;a b&#x27; c", "15 3 * * *", "At 03:15 AM (Europe/Berlin)", "1 min 30 s"),
        *("REPORT=weekly", "TOKEN_FILE=/run/token", "DEPLOY_TOKEN=[masked]", "/srv", "queue: one waits for its turn"),
    ):
        assert shown in told[0], shown
    assert "hush-hush" not in page


@pytest.mark.parametrize("broken", [{}, [], "x", {"script": 7, "arguments": None, "environment": [], "schedule": ""}])
def test_a_run_whose_definition_was_broken_by_hand_has_its_page(operator: Client, broken: object) -> None:
    run = runs.request_run(name="review-prs", trigger=Trigger.OPERATOR, requested_by="olga")
    JobRun.objects.update(definition=broken)
    assert "What ran" in text(operator, f"/admin/jobs/jobrun/{run.pk}/change/")


def test_tasks_that_take_too_long_are_named_and_listed(operator: Client) -> None:
    slow = services.create_task(fields={"name": "slow", "status": Status.ACTIVE, "estimate_minutes": 10}, actor="x")
    fine = services.create_task(fields={"name": "fine", "status": Status.ACTIVE}, actor="x")
    Task.objects.update(assigned_at=iso_text(utc_now() - timedelta(minutes=30)))
    assert f"{slow} is active too long." in text(operator, "/admin/")
    listed = text(operator, "/admin/tasks/task/?attention=active")
    assert f"/tasks/task/{slow.pk}/change/" in listed
    assert f"/tasks/task/{fine.pk}/change/" not in listed


def test_search_goes_to_the_one_thing_that_fits(operator: Client) -> None:
    task = services.create_task(fields={"name": "Mend the roof", "assigned_to": "lobster-7"}, actor="x")
    for query in (f"T{task.pk}", "mend the", "lobster-7"):
        assert operator.get("/admin/search/", {"q": query})["Location"].endswith(f"/tasks/task/{task.pk}/change/")
    assert operator.get("/admin/search/?q=review-prs")["Location"].endswith("/change/")
    assert "Nothing fits" in text(operator, "/admin/search/?q=no-such-thing")
    assert operator.get("/jobs/review-prs")["Location"].startswith("/admin/jobs/job/")
    assert operator.get("/jobs/nobody").status_code == 404


def test_the_activity_log_tells_of_people_and_programs(operator: Client) -> None:
    task = services.create_task(fields={"name": "a"}, actor="lobboss")
    job_services.set_enabled(name="review-prs", enabled=True, actor="olga")
    runs.request_run(name="review-prs", trigger=Trigger.OPERATOR, requested_by="olga")
    shown = text(operator, "/admin/activity/")
    assert f"T{task.pk} created" in shown
    assert "of review-prs: queued" in shown
    client = Client(REMOTE_ADDR="127.0.0.1")
    for path in ("/api/jobs/review-prs/disable", "/api/jobs/review-prs/disable", "/api/v1/runs/pause"):
        assert client.post(path).status_code == 200
    changed = text(operator, "/admin/activity/?kind=change&who=local")
    assert changed.count("disabled by local") == 1, "what changes nothing is not told"
    assert "job review-prs" in changed
    assert "starts paused by local" in changed
    assert "Starts are paused by local." in text(operator, "/admin/")
    Daemon.objects.update(paused_by="")
    assert "Starts are paused by a caller over REST." in text(operator, "/admin/")
    assert changed.count("<td>local</td>") == 2
    assert "disabled by local" not in text(operator, "/admin/activity/?kind=change&who=olga")
    job = Job.objects.get(name="review-prs")
    operator.post(f"/admin/jobs/job/{job.pk}/enable/")
    assert "enabled by olga" in text(operator, "/admin/activity/?kind=change&who=olga")
    assert "disabled by local" in text(operator, f"/admin/jobs/job/{job.pk}/history/")
    register_task(task_id=task.pk, repos=["org/a"], lobster_type="swe", caller=Caller("olga"))
    for who, found in (("olga", True), ("lobboss", False)):
        shown = text(operator, f"/admin/activity/?kind=token&who={who}")
        assert (f"T{task.pk} task registered" in shown) is found
    only = text(operator, "/admin/activity/?kind=run&who=olga")
    assert f"T{task.pk} created" not in only
    assert "of review-prs: queued" in only


def test_the_demo_refuses_a_database_that_has_tasks(fleet: None) -> None:
    assert JobState.objects.filter(last_status__isnull=False).exists()
    with pytest.raises(Conflict, match="has tasks"):
        demo.make_fleet()
