"""What operators come for, in the clicks that the docs state, on a real installation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import make_operator, url
from tests.support.installation import Installation, wait_for
from tests.support.jobs import define_scripts, rows
from tests.support.receiver import Receiver, receiver

SCRIPTS = {
    "import.sh": 'echo "reading $1"; if [ "$1" = --repaired ]; then exit 0; fi; echo "cannot open $1" >&2; exit 3'
}


@pytest.fixture(scope="module")
def place() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Web and daemon, an operator, a job of ours."""
    made = Installation(tmp_path_factory.mktemp("site"))
    try:
        made.migrate()
        define_scripts(made, SCRIPTS)
        make_operator(made)
        made.environment["LOBWIFE_PUBLIC_URL"] = url(made, "")
        made.start_web()
        made.start_daemon()
        yield made
    finally:
        made.stop()


def runs_of_import(site: Installation) -> list[Any]:
    """Oldest first; jobs that come with lobwife run meanwhile, as their schedules say."""
    return rows(
        site,
        "SELECT run.* FROM jobs_jobrun run JOIN jobs_job job ON job.id = job_id WHERE name = 'import' ORDER BY run.id",
    )


class Clicks:
    """A page, and how often something on it was clicked."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = 0

    def link(self, name: str | re.Pattern[str]) -> None:
        self._click("link", name)

    def button(self, name: str | re.Pattern[str]) -> None:
        self._click("button", name)

    def _click(self, role: str, name: str | re.Pattern[str]) -> None:
        self.count += 1
        element = self.page.get_by_role(role, name=name, exact=True).first  # type: ignore[arg-type]
        element.click()


def test_why_did_it_fail_and_run_it_again(site: Installation, operator: Page) -> None:
    site.manage("trigger", "import", "--wait", "--", "/data/yesterday.csv", check=False)
    operator.goto(url(site, "/admin/jobs/job/"))
    reason = "exit 3 · cannot open /data/yesterday.csv"
    row = operator.get_by_role("row").filter(has_text="import")
    expect(row).to_contain_text(reason)
    clicks = Clicks(operator)
    clicks.count += 1
    row.locator(".field-last a").click()
    expect(operator.locator(".run-head")).to_contain_text(reason)
    expect(operator.locator("pre.output")).to_contain_text("reading /data/yesterday.csv")
    operator.get_by_text("Run again with changes").click()
    field = operator.get_by_label("Arguments, as in a shell")
    expect(field).to_have_value("/data/yesterday.csv")
    field.fill("--repaired")
    clicks.count += 1
    clicks.button("Run it so")
    expect(operator.locator("#run-state .badge")).to_have_text("success")
    assert clicks.count == 3
    run = runs_of_import(site)[-1]
    assert json.loads(run["definition"])["path"].endswith("/import.sh")


def test_a_line_of_output_has_an_address(site: Installation, operator: Page) -> None:
    site.manage("trigger", "import", "--wait", "--", "/data/today.csv", check=False)
    run = runs_of_import(site)[-1]
    operator.goto(url(site, f"/admin/jobs/jobrun/{run['id']}/change/"))
    Clicks(operator).link("First error")
    expect(operator.locator("#L2")).to_have_class(re.compile("is-target"))
    assert operator.url.endswith("?line=2#L2")
    expect(operator.locator("#L1 .at")).to_be_hidden()
    operator.get_by_label("Times").check()
    expect(operator.locator("#L1 .at")).to_be_visible()


def test_a_job_with_an_argument_and_an_alert_is_added_and_the_alert_arrives(
    site: Installation, operator: Page, place: Receiver
) -> None:
    operator.goto(url(site, "/admin/jobs/job/"))
    operator.locator("a.addlink").last.click()
    operator.fill("#id_name", "nightly")
    operator.fill("#id_script", "import.sh")
    operator.fill("#id_arguments", "'/data/a file.csv'")
    operator.fill("#id_schedule", "@daily")
    expect(operator.locator("#id_max_parallel")).to_be_hidden()
    operator.fill("#id_alert_urls", f"json://127.0.0.1:{place.port}/a-secret-path")
    with operator.expect_navigation():
        operator.get_by_role("button", name="Save", exact=True).click()
    operator.goto(url(site, "/admin/jobs/alert/"))
    operator.get_by_role("button", name="Send a test to json://127.0.0.1/…").click()
    wait_for(lambda: any("sent a test" in body for body in place.bodies), what="the test arrives")
    site.manage("trigger", "nightly", "--wait", check=False)
    wait_for(lambda: any("nightly fails" in body for body in place.bodies), what="the alert arrives")
    message = next(json.loads(body)["message"] for body in place.bodies if "nightly fails" in body)
    assert "failed (exit 3 · cannot open /data/a file.csv)" in message
    operator.goto(message.split()[-1])
    expect(operator.locator(".run-head")).to_contain_text("cannot open /data/a file.csv")


def test_a_key_is_copied_and_revoked(site: Installation, operator: Page) -> None:
    operator.context.grant_permissions(["clipboard-read", "clipboard-write"])
    operator.goto(url(site, "/admin/lobwife/apikey/add/"))
    operator.fill("#id_name", "grafana")
    operator.get_by_label(re.compile("viewer:")).check()
    with operator.expect_navigation():
        operator.get_by_role("button", name="Save", exact=True).click()
    operator.get_by_role("button", name="Copy the key").click()
    expect(operator.get_by_text("Copied.")).to_be_visible()
    key = operator.evaluate("navigator.clipboard.readText()")
    headers = {"Authorization": f"Bearer {key}"}
    assert site.get("/api/v1/tasks", headers=headers).status == 200
    operator.goto(url(site, "/admin/lobwife/apikey/"))
    operator.get_by_role("link", name="grafana").click()
    with operator.expect_navigation():
        operator.get_by_role("button", name="Revoke", exact=True).click()
    assert site.get("/api/v1/tasks", headers=headers).status == 401
