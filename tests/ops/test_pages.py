"""The operators' pages, asked for without a browser: what they say and cost; looking changes nothing."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from broker.services import register_task
from core.callers import Caller, Role
from core.errors import Conflict
from jobs import services as job_services
from jobs.execution import output, output_files, output_shipping, runs
from jobs.models import Daemon, Job, JobRun, JobState, State, Trigger
from ops import demo
from tasks import services
from tasks.models import Status, Task, TaskEvent
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]
QUERIES_MOST = 31


@pytest.fixture
def one_of_each() -> None:
    """A run and a task; there are jobs."""
    runs.request_run(name=Job.objects.all()[0].name, trigger=Trigger.OPERATOR, requested_by="olga")
    services.create_task(fields={"name": "Mend the roof"}, actor="olga")


def pages() -> list[str]:
    job, run, task = Job.objects.all()[0], JobRun.objects.all()[0], Task.objects.all()[0]
    return [
        *("/admin/", "/admin/live/dashboard/", "/admin/live/jobs/", "/admin/live/frame/", "/admin/palette/?q=pause"),
        *(
            "/admin/activity/",
            "/admin/activity/?since=0001-01-01T00:00&until=9999-12-31T00:00",
            "/admin/activity/events/",
            "/admin/activity/events/?range=24h",
            "/admin/search/?q=fix",
            "/admin/search/",
            "/admin/charts/?range=14d",
        ),
        *("/admin/fleet/", "/admin/fleet/?view=board", "/admin/jobs/jobrun/?view=jobs&range=7d"),
        *(
            "/admin/jobs/job/",
            "/admin/jobs/job/add/",
            f"/admin/jobs/job/{job.pk}/change/",
            f"/admin/jobs/job/{job.pk}/live/",
            f"/admin/jobs/job/{job.pk}/settings/",
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


def test_looking_at_a_page_changes_nothing_asks_little_and_brings_no_style_and_no_script_of_its_own(
    operator_client: Client, fleet: None
) -> None:
    assert JobState.objects.filter(last_status__isnull=False).exists()
    before = contents()
    for path in pages():
        with CaptureQueriesContext(connection) as asked:
            page = text(operator_client, path)
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)|<style|\sstyle=|\son\w+=", page), path
        assert len(asked) < (44 if path == "/admin/" else QUERIES_MOST), path  # the overview is several pages in one
    assert contents() == before


def test_what_changes_something_refuses_to_be_looked_at(operator_client: Client, one_of_each: None) -> None:
    job, run, task = Job.objects.all()[0], JobRun.objects.all()[0], Task.objects.all()[0]
    before = contents()
    for path in (
        *(f"/admin/jobs/job/{job.pk}/{verb}/" for verb in ("run", "enable", "disable")),
        *("/admin/jobs/job/pause/", "/admin/jobs/job/resume/", f"/admin/tasks/task/{task.pk}/cancel/"),
        *(f"/admin/fleet/{task.pk}/move/", "/admin/problems/acknowledge/", "/admin/problems/reopen/"),
        *(f"/admin/jobs/jobrun/{run.pk}/{verb}/" for verb in ("abort", "retry")),
    ):
        assert operator_client.get(path).status_code == 405, path
    assert contents() == before


def test_who_is_not_signed_in_sees_no_page(one_of_each: None) -> None:
    visitor = Client()
    for path in (*pages(), "/jobs/review-prs"):
        answer = visitor.get(path)
        assert answer.status_code == 302, path
        assert "/login/" in answer["Location"]


def test_a_button_pressed_in_place_answers_with_a_sentence(operator_client: Client) -> None:
    job = Job.objects.all()[0]
    said = operator_client.post(f"/admin/jobs/job/{job.pk}/run/", headers={"HX-Request": "true"})
    assert (said.status_code, said["HX-Trigger"]) == (200, "changed")
    assert said.content.decode().endswith(f"of {job.name} is queued.")
    again = operator_client.post(f"/admin/jobs/job/{job.pk}/run/", headers={"HX-Request": "true"})
    assert again.content.decode() == f"Job {job.name} is already running"
    assert JobRun.objects.filter(job=job).count() == 1


def test_a_run_takes_the_arguments_that_were_typed(operator_client: Client) -> None:
    job = Job.objects.all()[0]
    operator_client.post(f"/admin/jobs/job/{job.pk}/run/", {"arguments": "--since 'two days'"})
    assert JobRun.objects.get().definition["arguments"] == ["--since", "two days"]
    JobRun.objects.update(state=State.SUCCESS)
    refused = operator_client.post(f"/admin/jobs/job/{job.pk}/run/", {"arguments": "'open"}, follow=True)
    assert "he arguments can&#x27;t be read: No closing quotation" in refused.content.decode()
    assert JobRun.objects.count() == 1


def test_a_viewer_sees_no_buttons_and_can_press_none() -> None:
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


def test_output_is_coloured_by_classes_and_never_markup(operator_client: Client) -> None:
    job = Job.objects.all()[0]
    run = runs.request_run(name=job.name, trigger=Trigger.OPERATOR, requested_by="olga")
    path = output_files.output_path(run.pk)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "10 %\r50 %\r100 %\n\033[1;31m<script>alert(1)</script>\nstill\033[0m plain\033]0;title\a\nunfinished"
    )
    output_shipping.shipper().take_in(run.pk)
    try:
        page = text(operator_client, f"/admin/jobs/jobrun/{run.pk}/live/")
        lines = re.findall(r'<span class="line " id="L(\d+)"><a [^>]*></a>(.*?)\n</span>', page)
        assert lines == [
            ("1", "100 %"),
            ("2", '<span class="ansi-1 ansi-31">&lt;script&gt;alert(1)&lt;/script&gt;</span>'),
            ("3", '<span class="ansi-1 ansi-31">still</span> plain'),
        ]
        assert "unfinished" not in page
        offset = re.search(r"offset=(\d+)", page)
        assert offset
        JobRun.objects.filter(pk=run.pk).update(state=State.SUCCESS)
        last = operator_client.get(f"/admin/jobs/jobrun/{run.pk}/live/?offset={offset[1]}")
        assert 'unfinished\n</span><div id="run-state"' in last.content.decode()
        assert last["HX-Trigger"] == "over"
        found = text(operator_client, f"/admin/jobs/jobrun/{run.pk}/change/?find=STILL")
        assert 'line=3#L3"><span class="number">3</span> still plain' in found
        assert operator_client.get(f"/admin/jobs/jobrun/{run.pk}/live/?offset=-1").status_code == 404
    finally:
        output.delete(run.pk)


def test_the_next_firings_of_what_is_typed_or_why_there_are_none(operator_client: Client) -> None:
    shown = text(operator_client, "/admin/jobs/job/preview/?schedule=0+9+*+*+1&timezone=Europe/Berlin")
    assert "only on Monday" in shown
    assert shown.count("<li>Mon ") == 10
    assert "is not a schedule" in text(operator_client, "/admin/jobs/job/preview/?schedule=<b>")


def test_many_tasks_are_changed_after_a_question(operator_client: Client, olga: User) -> None:
    made = [services.create_task(fields={"name": f"t{n}", "status": Status.ACTIVE}, actor="x") for n in range(3)]
    chosen = {"_selected_action": [task.pk for task in made[:2]], "action": "requeue"}
    asked = operator_client.post("/admin/tasks/task/", chosen)
    assert "Whoever works on them is no longer assigned." in asked.content.decode()
    assert Task.objects.filter(status=Status.QUEUED).count() == 0
    operator_client.post("/admin/tasks/task/", {**chosen, "confirmed": "yes"})
    assert Task.objects.filter(status=Status.QUEUED).count() == 2
    assert TaskEvent.objects.filter(actor=olga.username, status=Status.QUEUED).count() == 2
    operator_client.post("/admin/tasks/task/", {**chosen, "action": "priority_high"})
    assert Task.objects.filter(priority="high").count() == 2


def test_a_run_tells_what_ran_whatever_was_edited_since(operator_client: Client) -> None:
    environment = {"REPORT": "weekly", "TOKEN_FILE": "/run/token"}
    fields = {"name": "digest", "script": "digest.py", "schedule": "15 3 * * *", "timezone": "Europe/Berlin"}
    fields |= {"timeout_seconds": 90, "arguments": ["a b", "c"], "environment": environment}
    job = job_services.define_job(fields={**fields, "working_directory": "/srv", "concurrency": "queue"}, actor="x")
    run = runs.request_run(name="digest", trigger=Trigger.OPERATOR, requested_by="olga")
    run.definition["environment"]["DEPLOY_TOKEN"] = "hush-hush"  # by somebody's hand
    run.save()
    job.script, job.schedule, job.arguments, job.environment = "other.py", "@hourly", [], {}
    job.timeout_seconds, job.working_directory = 7, ""
    job_services.save_job(job, actor="x")
    page = text(operator_client, f"/admin/jobs/jobrun/{run.pk}/change/")
    told = re.search(r"<h2 id=.what-title.>.*?</section>", page, re.S)
    assert told
    for shown in (
        *("digest.py", "&#x27;a b&#x27; c", "15 3 * * *", "At 03:15 (Europe/Berlin)", "1 min 30 s"),
        *("REPORT=weekly", "TOKEN_FILE=/run/token", "DEPLOY_TOKEN=[masked]", "/srv", "queue: one waits for its turn"),
    ):
        assert shown in told[0], shown
    assert "hush-hush" not in page


@pytest.mark.parametrize("broken", [{}, [], "x", {"script": 7, "arguments": None, "environment": [], "schedule": ""}])
def test_a_run_whose_definition_was_broken_by_hand_has_its_page(operator_client: Client, broken: object) -> None:
    run = runs.request_run(name="review-prs", trigger=Trigger.OPERATOR, requested_by="olga")
    JobRun.objects.update(definition=broken)
    assert "What ran" in text(operator_client, f"/admin/jobs/jobrun/{run.pk}/change/")


def test_search_goes_to_the_one_thing_that_fits(operator_client: Client) -> None:
    task = services.create_task(fields={"name": "Mend the roof", "assigned_to": "lobster-7"}, actor="x")
    for query in (f"T{task.pk}", "mend the", "lobster-7"):
        found = operator_client.get("/admin/search/", {"q": query})["Location"]
        assert found.endswith(f"/tasks/task/{task.pk}/change/")
    assert operator_client.get("/admin/search/?q=review-prs")["Location"].endswith("/change/")
    assert "Nothing fits" in text(operator_client, "/admin/search/?q=no-such-thing")
    assert operator_client.get("/jobs/review-prs")["Location"].startswith("/admin/jobs/job/")
    assert operator_client.get("/jobs/nobody").status_code == 404


def test_the_activity_log_tells_of_people_and_programs(operator_client: Client) -> None:
    task = services.create_task(fields={"name": "a"}, actor="lobboss")
    job_services.set_enabled(name="review-prs", enabled=True, actor="olga")
    runs.request_run(name="review-prs", trigger=Trigger.OPERATOR, requested_by="olga")
    shown = text(operator_client, "/admin/activity/")
    assert f"T{task.pk} created" in shown
    assert "of review-prs: queued" in shown
    client = Client(REMOTE_ADDR="127.0.0.1")
    for path in ("/api/jobs/review-prs/disable", "/api/jobs/review-prs/disable", "/api/v1/runs/pause"):
        assert client.post(path).status_code == 200
    changed = text(operator_client, "/admin/activity/?kind=change&who=local")
    assert changed.count("disabled by local") == 1, "what changes nothing is not told"
    assert "job review-prs" in changed
    assert "starts paused by local" in changed
    assert "Starts are paused by local</strong>" in text(operator_client, "/admin/")
    Daemon.objects.update(paused_by="")
    assert "Starts are paused by a caller over REST</strong>" in text(operator_client, "/admin/")
    assert changed.count("<td>local</td>") == 2
    assert "disabled by local" not in text(operator_client, "/admin/activity/?kind=change&who=olga")
    job = Job.objects.get(name="review-prs")
    operator_client.post(f"/admin/jobs/job/{job.pk}/enable/")
    assert "enabled by olga" in text(operator_client, "/admin/activity/?kind=change&who=olga")
    assert "disabled by local" in text(operator_client, f"/admin/jobs/job/{job.pk}/history/")
    register_task(task_id=task.pk, repos=["org/a"], lobster_type="swe", caller=Caller("olga", Role.OPERATOR))
    for who, found in (("olga", True), ("lobboss", False)):
        shown = text(operator_client, f"/admin/activity/?kind=token&who={who}")
        assert (f"T{task.pk} task registered" in shown) is found
    only = text(operator_client, "/admin/activity/?kind=run&who=olga")
    assert f"T{task.pk} created" not in only
    assert "of review-prs: queued" in only


def test_the_demo_refuses_a_database_that_has_tasks(one_of_each: None) -> None:
    with pytest.raises(Conflict, match="has tasks"):
        demo.make_fleet()
