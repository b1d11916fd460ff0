"""The operators' pages in a browser: live parts, buttons, keyboard, phones, dark mode, without scripts, axe."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import axe_core_python
import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser import make_operator, sign_in, url
from tests.installation import Installation, wait_for

AXE = (pathlib.Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SCRIPTS = {
    "moody.sh": 'if [ -e "$(dirname "$0")/broken" ]; then echo "no luck"; exit 1; fi; echo fine',
    "chatty.sh": "for i in $(seq 400); do printf '\\033[32mline %s\\033[0m\\n' $i; sleep 0.05; done",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A fleet with history, web and daemon, and two jobs of ours; the others are disabled, they have no script."""
    made = Installation(tmp_path_factory.mktemp("site"))
    try:
        made.manage("migrate", "-v0")
        made.manage("demo")
        with made.database() as database:
            names = [row["name"] for row in database.execute("SELECT name FROM jobs_job")]
            database.execute("UPDATE tasks SET status = 'completed'")
        for name in names:
            made.manage("disable", name)
        jobs = []
        for name, text in SCRIPTS.items():
            made.script(name, f"#!/bin/bash\n{text}\n")
            jobs.append(f'"{name[:-3]}": {{"script": "{name}", "schedule": "0 0 1 1 *", "description": "{name}"}}')
        (made.folder / "jobs.yaml").write_text('{"jobs": {' + ", ".join(jobs) + "}}")
        made.manage("jobs", "import", str(made.folder / "jobs.yaml"))
        make_operator(made)
        made.start_web()
        made.start_daemon()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def signed_in(site: Installation, browser: Browser) -> StorageState:
    page = browser.new_page()
    sign_in(page, site)
    state = page.context.storage_state()
    page.close()
    return state


@pytest.fixture
def operator(browser: Browser, signed_in: StorageState) -> Iterator[Page]:
    """A page that must not complain on its console: a violation of the policy is such a complaint."""
    context = browser.new_context(storage_state=signed_in, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def job_id(site: Installation, name: str) -> int:
    with site.database() as database:
        return int(database.execute("SELECT id FROM jobs_job WHERE name = ?", (name,)).fetchone()["id"])


def newest_run(site: Installation, name: str) -> tuple[int, str]:
    with site.database() as database:
        sql = "SELECT id, state FROM jobs_jobrun WHERE job_id = ? ORDER BY id DESC LIMIT 1"
        row = database.execute(sql, (job_id(site, name),)).fetchone()
        return (row["id"], row["state"]) if row else (0, "")


def run_in_place(page: Page, name: str) -> None:
    page.get_by_role("button", name=f"Run {name} now").click()
    expect(page.locator("#said")).to_contain_text(f"of {name} is queued.")


def paths(site: Installation) -> list[str]:
    run = newest_run(site, "review-prs")[0]
    return [
        *("/admin/", "/admin/activity/", "/admin/search/?q=fix", "/admin/jobs/job/", "/admin/jobs/jobrun/"),
        *(f"/admin/jobs/job/{job_id(site, 'review-prs')}/change/", f"/admin/jobs/jobrun/{run}/change/"),
        *("/admin/tasks/task/", "/admin/tasks/task/3/change/", "/admin/tasks/task/add/"),
        *("/admin/broker/tokenaudit/", "/admin/vaultsync/vaultstate/"),
    ]


def test_the_dashboard_goes_red_as_a_job_fails_and_green_again(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/"))
    expect(operator.locator(".verdict-good")).to_have_text("Everything is all right.")
    (site.scripts / "broken").touch()
    run_in_place(operator, "moody")
    expect(operator.locator(".verdict-bad")).to_contain_text("Job moody failed.", timeout=20_000)
    (site.scripts / "broken").unlink()
    run_in_place(operator, "moody")
    expect(operator.locator(".verdict-good")).to_be_visible(timeout=20_000)


def test_a_job_is_switched_in_place_and_the_focus_stays(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/"))
    operator.get_by_role("button", name="Disable moody").focus()
    operator.keyboard.press("Enter")
    expect(operator.get_by_role("button", name="Enable moody")).to_be_focused()
    operator.keyboard.press("Enter")
    expect(operator.get_by_role("button", name="Disable moody")).to_be_focused()
    assert operator.url.endswith("/admin/")


def test_output_is_followed_until_somebody_scrolls_and_the_run_is_aborted(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/jobs/chatty"))
    operator.get_by_role("button", name="Run", exact=True).click()
    output = operator.locator("pre.output")
    expect(output.locator(".ansi-32").nth(60)).to_have_text("line 61", timeout=20_000)
    rest = "([each]) => each.scrollHeight - each.scrollTop - each.clientHeight"
    wait_for(lambda: operator.eval_on_selector_all("pre.output", rest) < 30, what="the end is in view")
    operator.eval_on_selector("pre.output", "each => { each.scrollTop = 0 }")
    expect(output.locator(".ansi-32").nth(90)).to_have_text("line 91", timeout=20_000)
    assert operator.eval_on_selector("pre.output", "each => each.scrollTop") == 0
    operator.get_by_role("button", name="Abort").click()
    expect(operator.locator("#standing .badge")).to_have_text("aborted", timeout=20_000)
    expect(operator.get_by_role("button", name="Run again")).to_be_visible()
    expect(operator.locator("#facts .field-outcome")).to_contain_text("aborted", timeout=20_000)


def test_the_next_firings_follow_the_schedule_as_one_types(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/jobs/moody"))
    operator.fill("#id_schedule", "0 9 * * 1")
    expect(operator.locator("#firings")).to_contain_text("only on Monday")
    operator.fill("#id_schedule", "nonsense")
    expect(operator.locator("#firings")).to_contain_text("is not a schedule")


def test_a_task_is_made_completed_and_found_by_the_slash_key(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/tasks/task/add/"))
    operator.fill("#id_name", "Paint the fence")
    operator.get_by_role("button", name="Save", exact=True).click()
    operator.locator("h1").click()
    operator.keyboard.press("/")
    operator.keyboard.type("paint the fence")
    operator.keyboard.press("Enter")
    expect(operator.locator(".standing .badge")).to_have_text("queued")
    operator.get_by_role("button", name="Complete").click()
    operator.get_by_role("button", name="Yes, complete").click()
    operator.goto(url(site, "/admin/search/?q=paint the fence"))
    expect(operator.locator(".standing .badge")).to_have_text("completed")
    expect(operator.locator(".events li").first).to_contain_text("olga")


def test_a_hidden_tab_asks_nothing_until_it_is_seen_again(site: Installation, operator: Page) -> None:
    operator.clock.install()
    operator.goto(url(site, "/admin/"))
    asked: list[str] = []
    operator.on("request", lambda request: asked.append(request.url) if "/live/" in request.url else None)
    operator.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    operator.clock.run_for(30_000)
    assert asked == []
    operator.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
    with operator.expect_response(re.compile("/admin/live/dashboard/")):
        operator.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_pages_work_without_scripts(site: Installation, browser: Browser, signed_in: StorageState) -> None:
    context = browser.new_context(storage_state=signed_in, java_script_enabled=False)
    page = context.new_page()
    page.goto(url(site, "/admin/"))
    page.get_by_role("button", name="Run moody now").click()
    expect(page.locator(".messagelist")).to_contain_text("of moody is queued.")
    assert "/jobs/jobrun/" in page.url
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(
    site: Installation, browser: Browser, signed_in: StorageState, scheme: str
) -> None:
    context = browser.new_context(
        storage_state=signed_in, color_scheme="dark" if scheme == "dark" else "light", bypass_csp=True
    )
    page = context.new_page()
    found = {}
    for path in paths(site):
        page.goto(url(site, path))
        page.evaluate(AXE)
        result = page.evaluate("rules => axe.run({runOnly: {type: 'tag', values: rules}})", RULES)
        told = [
            (each["id"], [node["html"][:120] for node in each["nodes"]][:3], each["nodes"][0]["failureSummary"][:200])
            for each in result["violations"]
        ]
        if told:
            found[path] = told
    context.close()
    assert found == {}


def test_no_page_is_wider_than_a_phone(site: Installation, browser: Browser, signed_in: StorageState) -> None:
    context = browser.new_context(storage_state=signed_in, viewport={"width": 390, "height": 800})
    page = context.new_page()
    wide = {}
    for path in paths(site):
        page.goto(url(site, path))
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 390:
            wide[path] = width
    context.close()
    assert wide == {}


def test_no_page_complains_on_the_console(site: Installation, operator: Page) -> None:
    for path in paths(site):
        answer = operator.goto(url(site, path))
        assert answer is not None
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        operator.wait_for_load_state("networkidle")
