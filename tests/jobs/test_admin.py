"""Jobs, runs and alerts in the admin, in a real browser on a real installation."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import leave, make_operator, sign_in, url
from tests.support.installation import Installation, wait_for
from tests.support.jobs import NEVER, define_scripts, rows

pytestmark = pytest.mark.slow

SCRIPTS = {
    "colours.sh": "printf '\\033[31mred\\033[0m <script>alert(1)</script> caf\\xc3\\xa9\\n'",
    "slow.sh": "echo begun; sleep 60",
    "counts.sh": "for n in 1 2 3; do echo $n; sleep 1; done; sleep 60",
    "waits.sh": 'echo begun; while [ ! -e "$(dirname "$0")/go" ]; do sleep 0.05; done; echo gone on; sleep 60',
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Web and daemon, an operator, two jobs of ours."""
    made = Installation(tmp_path_factory.mktemp("site"))
    try:
        made.migrate()
        define_scripts(made, SCRIPTS)
        make_operator(made)
        made.start_web()
        made.start_daemon()
        yield made
    finally:
        made.stop()


def job_page(site: Installation, name: str) -> str:
    [row] = rows(site, "SELECT id FROM jobs_job WHERE name = ?", name)
    return url(site, f"/admin/jobs/job/{row['id']}/change/")


def settings_page(site: Installation, name: str) -> str:
    return job_page(site, name).replace("/change/", "/settings/")


def press(page: Page, name: str) -> None:
    """Press a button, and wait for the page that it leads to."""
    with page.expect_navigation():
        page.get_by_role("button", name=name, exact=True).click()


def test_the_list_says_in_words_when_jobs_run_and_switches_them(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/jobs/job/"))
    row = operator.get_by_role("row").filter(has_text="review-prs")
    expect(row).to_contain_text("Every 2 minutes")
    operator.get_by_role("button", name="Disable review-prs").click()
    expect(operator.get_by_text("Job review-prs is disabled.")).to_be_visible()
    [state] = rows(site, "SELECT enabled FROM job_state WHERE name = 'review-prs'")
    assert state["enabled"] == 0
    operator.get_by_role("button", name="Enable review-prs").click()
    expect(operator.get_by_text("Job review-prs is enabled.")).to_be_visible()


def test_what_could_not_work_is_refused_at_its_field(site: Installation, operator: Page) -> None:
    """Whatever else is refused is in test_job_page.py."""
    operator.goto(settings_page(site, "colours"))
    operator.fill("#id_schedule", "61 * * * *")
    press(operator, "Save")
    expect(operator.locator(".field-schedule .errorlist")).to_contain_text("is not a schedule: bad minute.")
    assert [job[0] for job in rows(site, "SELECT schedule FROM jobs_job WHERE name = 'colours'")] == [NEVER]


def test_a_job_is_made_changed_and_deleted(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/jobs/job/add/"))
    operator.fill("#id_name", "made")
    operator.fill("#id_script", "hello.py")
    operator.fill("#id_schedule", "7 3 1 1 *")
    operator.fill("#id_arguments", "--one 'two words'")
    press(operator, "Save")
    expect(operator.get_by_role("row").filter(has_text="made")).to_contain_text("January")
    [job] = rows(site, "SELECT * FROM jobs_job WHERE name = 'made'")
    assert json.loads(job["arguments"]) == ["--one", "two words"]
    assert job["next_firing"] is not None
    operator.goto(settings_page(site, "made"))
    operator.fill("#id_schedule", NEVER)
    press(operator, "Save")
    assert "-02-29 00:00:00" in rows(site, "SELECT next_firing FROM jobs_job WHERE name = 'made'")[0]["next_firing"]
    operator.goto(settings_page(site, "made"))
    operator.get_by_role("link", name="Delete").click()
    expect(operator.get_by_text("made with its 0 runs and their output")).to_be_visible()
    press(operator, "Yes, I’m sure")
    expect(operator.get_by_role("row").filter(has_text="made")).to_have_count(0)
    assert rows(site, "SELECT * FROM job_state WHERE name = 'made'") == []


def test_secret_urls_are_shown_masked_and_kept_when_left_as_they_are(site: Installation, operator: Page) -> None:
    operator.goto(settings_page(site, "colours"))
    operator.fill("#id_alert_urls", "discord://an-id/a-token\nslack://tokenA/tokenB")
    press(operator, "Save and continue editing")
    expect(operator.locator("#id_alert_urls")).to_have_value("discord://…\nslack://…")
    assert "a-token" not in operator.content()
    operator.fill("#id_alert_urls", "discord://…")
    press(operator, "Save")
    [job] = rows(site, "SELECT alert_urls FROM jobs_job WHERE name = 'colours'")
    assert job["alert_urls"] == "discord://an-id/a-token"


def test_a_run_shows_its_output_as_text_and_who_asked(site: Installation, operator: Page) -> None:
    operator.goto(job_page(site, "colours"))
    press(operator, "Run now")
    expect(operator).to_have_url(re.compile(r"/admin/jobs/jobrun/\d+/change/"))
    run = int(operator.url.split("/")[-3])
    wait_for(lambda: rows(site, "SELECT state FROM jobs_jobrun WHERE id = ?", run)[0]["state"] == "success")
    operator.reload()
    expect(operator.locator("pre.output")).to_have_text("red <script>alert(1)</script> café")
    expect(operator.locator(".field-requested_by .readonly")).to_have_text("olga")
    expect(operator.locator(".field-trigger .readonly")).to_have_text("Operator")
    answer = operator.request.get(url(site, f"/admin/jobs/jobrun/{run}/output/"))
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text().startswith("\x1b[31mred")
    assert operator.get_by_role("button", name="Save").count() == 0


def test_the_output_of_a_run_in_progress_has_its_lines_and_no_others(site: Installation, operator: Page) -> None:
    operator.goto(job_page(site, "counts"))
    press(operator, "Run now")
    output = operator.locator("pre.output")
    expect(output).to_contain_text("3")
    assert output.text_content() == "1\n2\n3\n"
    operator.get_by_role("button", name="Abort").click()
    expect(operator.locator("#run-state")).to_contain_text("aborted", timeout=10_000)
    assert output.text_content() == "1\n2\n3\n"


def test_a_run_that_prints_nothing_is_not_asked_and_its_next_line_comes_at_once(
    site: Installation, operator: Page
) -> None:
    operator.goto(job_page(site, "waits"))
    press(operator, "Run now")
    output = operator.locator("pre.output")
    expect(output).to_contain_text("begun")
    with operator.expect_request(re.compile(r"/live/\?offset=.*seen=6")):  # the one that waits
        asked: list[str] = []
    operator.on("request", lambda request: asked.append(request.url) if "/live/?offset=" in request.url else None)
    operator.wait_for_timeout(3000)
    assert asked == []
    (site.scripts / "go").touch()
    began = time.monotonic()
    expect(output).to_contain_text("gone on", timeout=10_000)
    assert time.monotonic() - began < 3, "half a second, and what a busy machine adds"
    operator.get_by_role("button", name="Abort").click()
    expect(operator.locator("#run-state")).to_contain_text("aborted", timeout=10_000)


def test_what_was_typed_survives_the_end_of_the_session(site: Installation, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, site)
    page.goto(settings_page(site, "slow"))
    page.get_by_label("Description").fill("typed before the session ended")
    [session] = [cookie["value"] for cookie in context.cookies() if cookie["name"] == "sessionid"]
    with site.database() as database:
        database.execute("DELETE FROM django_session WHERE session_key = ?", [session])
    expect(page.locator("#signed-out")).to_be_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    sign_in(context.new_page(), site)
    press(page, "Send it again")
    expect(page.get_by_role("heading", name="You signed in again")).to_be_visible()
    press(page, "Send it again")
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    leave(context)
    [row] = rows(site, "SELECT description FROM jobs_job WHERE name = 'slow'")
    assert row["description"] == "typed before the session ended"


def test_a_run_is_aborted_and_run_again(site: Installation, operator: Page) -> None:
    operator.goto(job_page(site, "slow"))
    press(operator, "Run now")
    run = int(operator.url.split("/")[-3])
    wait_for(lambda: rows(site, "SELECT state FROM jobs_jobrun WHERE id = ?", run)[0]["state"] == "running")
    operator.goto(job_page(site, "slow"))
    press(operator, "Run now")
    expect(operator.get_by_text("Job slow is already running")).to_be_visible()
    operator.goto(settings_page(site, "slow"))
    operator.get_by_role("link", name="Delete").click()
    press(operator, "Yes, I’m sure")
    expect(operator.get_by_text("job slow is running: abort its run first")).to_be_visible()
    operator.goto(url(site, f"/admin/jobs/jobrun/{run}/change/"))
    press(operator, "Abort")
    wait_for(lambda: rows(site, "SELECT state FROM jobs_jobrun WHERE id = ?", run)[0]["state"] == "aborted")
    operator.reload()
    expect(operator.locator(".field-note .readonly")).to_have_text("aborted by olga")
    press(operator, "Run again")
    again = int(operator.url.split("/")[-3])
    [row] = rows(site, "SELECT retry_of_id, trigger FROM jobs_jobrun WHERE id = ?", again)
    assert tuple(row) == (run, "operator")
    press(operator, "Abort")
    wait_for(lambda: rows(site, "SELECT state FROM jobs_jobrun WHERE id = ?", again)[0]["state"] == "aborted")


def test_the_actions_of_the_list_do_several_jobs_at_once(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/jobs/job/"))
    for name in ("status-reporter", "flush-logs"):
        operator.get_by_role("row").filter(has_text=name).get_by_role("checkbox").check()
    options = operator.locator("select[name=action] option").all_inner_texts()
    assert [each for each in options if "elete" in each] == []
    operator.select_option("select[name=action]", "disable")
    press(operator, "Go")
    expect(operator.get_by_text("2 disabled.")).to_be_visible()
    operator.goto(url(site, "/admin/jobs/job/?enabled=no"))
    expect(operator.locator("#result_list tbody tr")).to_have_count(2)


def test_pausing_is_visible_until_resumed(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/jobs/job/"))
    press(operator, "Pause all")
    expect(operator.locator(".banner")).to_contain_text("Starts are paused by olga")
    press(operator, "Resume all")
    expect(operator.locator(".banner")).to_have_count(0)


def test_runs_are_filtered_by_job_state_and_trigger(site: Installation, operator: Page) -> None:
    site.manage("trigger", "colours", "--wait")
    operator.goto(url(site, "/admin/jobs/jobrun/?job=colours&state__exact=success&trigger__exact=command"))
    expect(operator.locator("#result_list tbody tr:not(.day)")).to_have_count(1)
    operator.goto(url(site, "/admin/jobs/jobrun/?job=nowhere"))
    expect(operator.get_by_text("No run fits")).to_be_visible()
    expect(operator.locator("#result_list")).to_have_count(0)


def test_a_summary_of_an_unknown_job_breaks_no_page(site: Installation, operator: Page) -> None:
    with site.database() as database:
        database.execute("INSERT INTO job_state (name, last_status) VALUES ('long gone', 'strange')")
    for path in ("/admin/", "/admin/jobs/job/", "/admin/jobs/jobrun/", "/admin/jobs/alert/"):
        answer = operator.goto(url(site, path))
        assert answer is not None
        assert answer.status == 200, path


def test_nobody_does_anything_with_a_get_without_the_token_or_without_permission(
    site: Installation, operator: Page, browser: Browser
) -> None:
    [job] = rows(site, "SELECT id FROM jobs_job WHERE name = 'colours'")
    target = url(site, f"/admin/jobs/job/{job['id']}/run/")
    runs = "SELECT count(*) FROM jobs_jobrun WHERE job_id = ?"
    before = rows(site, runs, job["id"])[0][0]
    assert operator.request.get(target).status == 405
    assert operator.request.post(target).status == 403
    create = "from django.contrib.auth.models import User; User.objects.create_user('vic', None, %r, is_staff=True)"
    site.manage("shell", "-c", create % "a-long-password-for-olga")
    other = browser.new_page()
    sign_in(other, site, "vic")
    token = other.context.cookies()
    csrf = next(cookie["value"] for cookie in token if cookie["name"] == "csrftoken")
    refused = other.request.post(target, headers={"X-CSRFToken": csrf, "Referer": url(site, "/admin/")})
    assert refused.status == 403
    assert other.request.get(url(site, "/admin/jobs/job/")).status == 403
    assert rows(site, runs, job["id"])[0][0] == before
    other.close()


def test_the_scheduler_s_own_admin_is_not_there(site: Installation, operator: Page) -> None:
    assert operator.request.get(url(site, "/admin/django_apscheduler/djangojob/")).status == 404


def test_no_page_is_wider_than_the_screen(site: Installation, operator: Page) -> None:
    [run] = rows(site, "SELECT max(id) AS id FROM jobs_jobrun")
    wide = {}
    for page in (
        url(site, "/admin/jobs/job/"),
        job_page(site, "colours"),
        settings_page(site, "colours"),
        url(site, "/admin/jobs/jobrun/"),
        url(site, f"/admin/jobs/jobrun/{run['id']}/change/"),
    ):
        operator.goto(page)
        for width in (1280, 390):
            operator.set_viewport_size({"width": width, "height": 900})
            if operator.evaluate("document.documentElement.scrollWidth") > width:
                wide[page] = width
    assert wide == {}
