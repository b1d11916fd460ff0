"""The operators' pages in a browser: live parts, buttons, keyboard, phones, dark mode, without scripts, axe."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Page, Route, StorageState, expect

from tests.support.browser import axe_violations, leave, make_operator, url
from tests.support.installation import Installation, wait_for, write_locked
from tests.support.jobs import define_scripts

pytestmark = pytest.mark.slow

SCRIPTS = {
    "moody.sh": 'if [ -e "$(dirname "$0")/broken" ]; then echo "no luck"; exit 1; fi; echo fine',
    "chatty.sh": "for i in $(seq 400); do printf '\\033[32mline %s\\033[0m\\n' $i; sleep 0.05; done",
}
FRAME = ("#header", "#side", "#palette")  # the same on every page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A fleet with history, web and daemon, and two jobs of ours; the others are disabled, they have no script."""
    made = Installation(tmp_path_factory.mktemp("site"))
    try:
        made.migrate()
        made.manage("demo")
        with made.database() as database:
            database.execute(
                "INSERT INTO job_state (name, enabled) SELECT name, FALSE FROM jobs_job WHERE true"
                " ON CONFLICT (name) DO UPDATE SET enabled = FALSE"
            )
            database.execute("UPDATE tasks SET status = 'completed'")
            for rows in (  # nothing to say
                *("vaultsync_noteproblem", "jobs_alert", "tasks_question WHERE answered_at IS NULL"),
                "token_audit WHERE action LIKE '%refused'",
            ):
                database.execute(f"DELETE FROM {rows}")
            asks = "late_after_seconds = NULL, long_after_seconds = NULL, alert_after_failures = 1"
            database.execute(f"UPDATE jobs_job SET {asks}")
        define_scripts(made, SCRIPTS)
        make_operator(made)
        made.start_web()
        made.start_daemon()
        yield made
    finally:
        made.stop()


def job_id(site: Installation, name: str) -> int:
    with site.database() as database:
        return int(database.execute("SELECT id FROM jobs_job WHERE name = ?", (name,)).fetchone()["id"])


def newest_run(site: Installation, name: str) -> tuple[int, str]:
    with site.database() as database:
        sql = "SELECT id, state FROM jobs_jobrun WHERE job_id = ? ORDER BY id DESC LIMIT 1"
        row = database.execute(sql, (job_id(site, name),)).fetchone()
        return (row["id"], row["state"]) if row else (0, "")


def seconds_since_end(site: Installation, name: str) -> float:
    with site.database() as database:
        sql = "SELECT max(ended_at) FROM jobs_jobrun WHERE job_id = ?"
        ended = datetime.fromisoformat(database.execute(sql, (job_id(site, name),)).fetchone()[0])
    return (datetime.now(UTC).replace(tzinfo=None) - ended).total_seconds()


def run_in_place(page: Page, name: str) -> None:
    page.get_by_role("button", name=f"Run {name} now").click()
    expect(page.locator("#said")).to_contain_text(f"of {name} is queued.")


def paths(site: Installation) -> list[str]:
    run = newest_run(site, "review-prs")[0]
    return [
        *(
            "/admin/",
            "/admin/activity/",
            "/admin/activity/events/",
            "/admin/search/?q=fix",
            "/admin/jobs/job/",
            "/admin/jobs/jobrun/",
        ),
        *("/admin/fleet/", "/admin/fleet/?view=board", "/admin/charts/?range=7d", "/admin/jobs/jobrun/?view=jobs"),
        *(f"/admin/jobs/job/{job_id(site, 'review-prs')}/{page}/" for page in ("change", "settings")),
        *(f"/admin/jobs/jobrun/{run}/{page}/" for page in ("change", "compare")),
        *(
            "/admin/jobs/alert/",
            "/admin/lobwife/apikey/",
            "/admin/lobwife/apikey/add/",
            "/admin/lobwife/apikey/1/change/",
        ),
        *("/admin/tasks/task/", "/admin/tasks/task/3/change/", "/admin/tasks/task/3/edit/", "/admin/tasks/task/add/"),
        *("/admin/broker/tokenaudit/", "/admin/broker/tokenaudit/reach/?repo=acme/web", "/admin/vaultsync/vaultstate/"),
        *(
            f"/admin/tasks/{page}/"
            for page in ("taskevent", "question", "question/1/change", "cost", "budget", "budget/add")
        ),
        *("/admin/costs/", "/admin/jobs/secret/add/", "/admin/jobs/alertsetting/failing/change/"),
        *("/admin/jobs/alertschedule/1/change/", "/admin/webhooks/subscription/add/", "/admin/webhooks/delivery/"),
        *(f"/admin/broker/{page}/" for page in ("taskregistration", "allowedservice", "githubstate/1/change")),
        *(f"/admin/vaultsync/{page}/" for page in ("syncrun", "syncrun/1/change", "noteproblem")),
        *("/admin/lobwife/accesspolicy/", "/admin/copies/", "/admin/auth/user/", "/admin/auth/user/1/change/"),
        *("/admin/axes/accessattempt/", "/admin/password_change/"),
    ]


def test_the_overview_goes_red_as_a_job_fails_and_green_again(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/"))
    expect(operator.locator(".verdict-good")).to_contain_text("Everything is all right.")
    (site.scripts / "broken").touch()
    run_in_place(operator, "moody")
    expect(operator.locator(".verdict-bad")).to_contain_text("Job moody failed.")
    assert seconds_since_end(site, "moody") < 30, "the page asks by itself once in ten minutes"
    (site.scripts / "broken").unlink()
    run_in_place(operator, "moody")
    expect(operator.locator(".verdict-good")).to_be_visible()


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
    operator.get_by_role("button", name="Run now").click()
    output = operator.locator("pre.output")
    expect(output.locator(".ansi-32").nth(60)).to_have_text("line 61")
    rest = "([each]) => each.scrollHeight - each.scrollTop - each.clientHeight"
    wait_for(lambda: operator.eval_on_selector_all("pre.output", rest) < 30, what="the end is in view")
    operator.eval_on_selector("pre.output", "each => { each.scrollTop = 0 }")
    expect(output.locator(".ansi-32").nth(90)).to_have_text("line 91")
    assert operator.eval_on_selector("pre.output", "each => each.scrollTop") == 0
    operator.get_by_role("button", name="Abort").click()
    expect(operator.locator("#run-state .badge")).to_have_text("aborted")
    expect(operator.get_by_role("button", name="Run again")).to_be_visible()
    expect(operator.locator("#facts .field-outcome")).to_contain_text("aborted")


def test_a_job_s_page_keeps_up_with_it_and_with_who_reads(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/jobs/chatty"))
    field = operator.get_by_label("with arguments")
    field.fill("--half-typed")
    assert site.post("/api/jobs/chatty/trigger").status == 200
    now = operator.locator("#job-live dd").first
    expect(now).to_have_text(re.compile(r"^\s*running"))
    expect(field).to_have_value("--half-typed")
    expect(field).to_be_focused()
    operator.get_by_role("button", name="Abort").click()
    expect(operator.locator("#run-state .badge")).to_have_text("aborted")
    operator.goto(url(site, "/jobs/chatty"))
    expect(now).to_have_text("not running")


def test_keys_alone_run_a_job_and_edit_a_task(site: Installation, operator: Page) -> None:
    """Tab, Enter, letters; no pointer, and no field that keeps the focus."""
    operator.goto(url(site, "/jobs/moody"))
    tab_to(operator, "Run now")
    operator.keyboard.press("Enter")
    expect(operator.locator("#run-state .badge")).to_have_text("success")
    operator.keyboard.press("/")
    operator.keyboard.type("T3\n")
    operator.wait_for_url("**/tasks/task/3/change/")
    tab_to(operator, "Edit")
    operator.keyboard.press("Enter")
    expect(operator.locator("#id_name")).to_be_visible()
    tab_to(operator, "Name:")
    operator.keyboard.press("Control+A")
    operator.keyboard.type("Named by keys alone")
    tab_to(operator, "Save")
    operator.keyboard.press("Enter")
    expect(operator.locator(".success")).to_contain_text("Named by keys alone")


def tab_to(page: Page, label: str) -> None:
    """Tab until the element that is so labelled has the focus, which it must show."""
    about = """() => { const at = document.activeElement; const label = at.labels && at.labels[0];
        return [(label || at).textContent.trim() || at.value || "", getComputedStyle(at).outlineStyle] }"""
    for _ in range(150):
        page.keyboard.press("Tab")
        text, outline = page.evaluate(about)
        if text == label:
            assert outline != "none"
            return
    raise AssertionError(f"no Tab leads to {label}")


def test_a_locked_database_is_a_sentence_and_pages_stay(
    site: Installation, browser: Browser, signed_in: StorageState
) -> None:
    context = browser.new_context(storage_state=signed_in)
    overview, listed = context.new_page(), context.new_page()
    listed.goto(url(site, "/admin/jobs/job/"))
    with site.database() as database:
        database.execute("UPDATE jobs_daemon SET beat_at = '2026-01-01 00:00:00'")
    with write_locked(site):
        overview.goto(url(site, "/admin/"))
        expect(overview.locator(".verdict-bad")).to_contain_text("The database is locked", timeout=30_000)
        overview.get_by_role("button", name="Run moody now").click()
        listed.get_by_role("button", name="able moody").click()
        expect(overview.locator("#said")).to_contain_text("The database is locked")
        expect(listed.locator("main")).to_contain_text("The database is locked by another writer")
    leave(context)


def test_a_page_that_lost_its_server_says_so_until_it_is_back(
    site: Installation, browser: Browser, signed_in: StorageState
) -> None:
    context = browser.new_context(storage_state=signed_in)
    page = context.new_page()
    page.goto(url(site, "/admin/"))
    context.set_offline(True)
    expect(page.get_by_role("alert")).to_contain_text("lobwife has not answered since", timeout=60_000)
    context.set_offline(False)
    expect(page.get_by_role("alert")).to_have_count(0, timeout=30_000)
    leave(context)


def test_pages_are_light_on_the_wire(site: Installation, browser: Browser, signed_in: StorageState) -> None:
    """All that a browser with an empty cache gets for the overview; later the page alone, what it links is kept."""
    context = browser.new_context(storage_state=signed_in)
    page = context.new_page()
    wire = context.new_cdp_session(page)
    wire.send("Network.enable")
    received: list[float] = []
    wire.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    page.goto(url(site, "/admin/"), wait_until="load")
    leave(context)
    assert 20_000 < sum(received) < 250_000
    cookies = "; ".join(f"{each['name']}={each['value']}" for each in signed_in["cookies"])
    headers = {"Cookie": cookies, "Accept-Encoding": "gzip"}
    weights = {}
    for path in (*paths(site), "/admin/live/dashboard/"):
        answer = site.get(path, port=site.web_port, headers=headers)
        if answer.status == 302:  # there is one row: its form
            answer = site.get(answer.headers["location"], port=site.web_port, headers=headers)
        assert (answer.status, answer.headers.get("content-encoding")) == (200, "gzip"), path
        weights[path] = len(answer.body)
    assert {path: weight for path, weight in weights.items() if weight > 30_000} == {}
    plain = site.get("/api/v1/tasks", port=site.web_port, headers=headers)
    assert "content-encoding" not in plain.headers, "REST may answer with secrets"


def test_the_next_firings_follow_the_schedule_as_one_types(site: Installation, operator: Page) -> None:
    operator.goto(url(site, f"/admin/jobs/job/{job_id(site, 'moody')}/settings/"))
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
    expect(operator.locator(".state-line .badge")).to_have_text("queued")
    operator.get_by_role("button", name="Complete").click()
    operator.get_by_role("button", name="Yes, complete").click()
    operator.goto(url(site, "/admin/search/?q=paint the fence"))
    expect(operator.locator(".state-line .badge")).to_have_text("completed")
    expect(operator.locator(".events li").first).to_contain_text("olga")


def test_a_hidden_tab_asks_nothing_until_it_is_seen_again(site: Installation, operator_with_clock: Page) -> None:
    operator_with_clock.goto(url(site, "/admin/"))
    operator_with_clock.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    asked: list[str] = []  # from here on: the clock goes on while the page is opened
    operator_with_clock.on("request", lambda request: asked.append(request.url) if "/live/" in request.url else None)
    operator_with_clock.clock.run_for(30_000)
    assert asked == []
    operator_with_clock.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
    with operator_with_clock.expect_response(re.compile("/admin/live/dashboard/")):
        operator_with_clock.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_failure_is_shown_at_once_where_other_events_have_to_wait(
    site: Installation, operator_with_clock: Page
) -> None:
    page = operator_with_clock
    page.add_init_script(
        "window.EventSource = class { constructor() { window.stream = this } addEventListener() {} close() {} }"
    )
    page.clock.pause_at(time.time() + 60)  # from here on no time passes but for what is asked for below
    page.goto(url(site, "/admin/"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/live/dashboard/" in request.url else None)

    def happens(kind: str, **data: str) -> None:
        event = json.dumps({"type": kind, "data": data})
        page.evaluate("event => window.stream.onmessage({data: event})", event)
        page.clock.run_for(50)

    page.evaluate("window.stream.onopen()")  # what came before the stream is asked for
    for kind in ("run.queued", "run.started"):
        with page.expect_response(re.compile("/live/dashboard/")):
            happens(kind)
    happens("run.queued")
    assert len(asked) == 2
    with page.expect_response(re.compile("/live/dashboard/")):
        happens("run.ended", state="failed")


def test_what_happens_before_the_stream_is_open_is_shown_too(site: Installation, operator: Page) -> None:
    held: list[Route] = []
    operator.route("**/api/v1/events?*", lambda route: held.append(route))  # noqa: PLW0108 - it asks for a function
    operator.goto(url(site, "/admin/activity/"))
    task = site.post("/api/v1/tasks", {"name": "Between two", "actor": "lobboss"}).json["id"]
    wait_for(lambda: held or operator.wait_for_timeout(50))
    held[0].continue_()
    expect(operator.locator("#activity-live tbody tr:not(.day)").first).to_contain_text(f"T{task} created")


def test_pages_work_without_scripts(site: Installation, browser: Browser, signed_in: StorageState) -> None:
    context = browser.new_context(storage_state=signed_in, java_script_enabled=False)
    page = context.new_page()
    page.goto(url(site, "/admin/"))
    page.get_by_role("button", name="Run moody now").click()
    expect(page.locator(".messagelist")).to_contain_text("of moody is queued.")
    assert "/jobs/jobrun/" in page.url
    leave(context)


def test_every_page_satisfies_axe_fits_a_phone_and_a_zoom_and_complains_of_nothing(
    site: Installation, operator: Page, browser: Browser, signed_in: StorageState
) -> None:
    """One visit of each; what a page writes on the console fails the fixture."""
    assert site.request("PATCH", "/api/v1/tasks/3", {"name": "W" * 400}).status == 200
    problems = {}
    for path in paths(site):
        answer = operator.goto(url(site, path))
        assert answer is not None
        assert (path, answer.status) == (path, 200)
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        expect(operator.locator(".htmx-request")).to_have_count(0)
        if wrong := wrong_with(operator, *(() if path in ("/admin/", "/admin/jobs/job/") else FRAME)):
            problems[path] = wrong
    context = browser.new_context(storage_state=signed_in)
    missing = context.new_page()
    missing.goto(url(site, "/no-such-page"))  # Chromium itself writes the 404 on the console
    assert wrong_with(missing) == []
    leave(context)
    assert problems == {}


def wrong_with(page: Page, *leave_out: str) -> list[str]:
    """Return the widths of windows, a phone's and that of a desk at 200 %, that a page exceeds, and what axe says."""
    wrong = []
    for width in (640, 390):
        page.set_viewport_size({"width": width, "height": 800})
        needed = page.evaluate("document.documentElement.scrollWidth")
        wrong += [f"{needed} wide in {width}"] if needed > width else []
    page.set_viewport_size({"width": 1280, "height": 900})
    return wrong + [
        f"{each['id']}: {[node['html'][:120] for node in each['nodes']][:3]} {each['nodes'][0]['failureSummary'][:200]}"
        for each in axe_violations(page, leave_out=leave_out)
    ]


def test_what_happened_last_night_is_two_clicks_away(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/"))
    operator.get_by_role("link", name="Runs", exact=True).click()
    operator.get_by_role("link", name="Last night").click()
    operator.get_by_role("link", name="failures").click()
    row = operator.locator(".runs-table tr.state-failed").first
    expect(row.locator(".reason")).to_have_text(re.compile(r"exit \d+ · \w+"))
    operator.get_by_role("link", name="By job").click()
    expect(operator.locator(".by-job")).to_contain_text(re.compile(r"\d+ ok"))


def test_who_has_which_token_is_on_the_page_of_its_task_and_by_repository(site: Installation, operator: Page) -> None:
    with site.database() as database:
        sql = "SELECT task_number, identity FROM token_audit WHERE action = 'token_issued' ORDER BY id DESC LIMIT 1"
        token = database.execute(sql).fetchone()
    operator.goto(url(site, f"/admin/tasks/task/{token['task_number']}/change/"))
    tokens = operator.get_by_role("region", name="Tokens")
    expect(tokens).to_contain_text(token["identity"].rpartition(":")[2])
    expect(tokens).to_contain_text("expires in")
    operator.get_by_role("link", name="Tokens", exact=True).click()
    operator.get_by_role("link", name="Who could reach a repository?").click()
    operator.get_by_label("Repository").fill("acme/web")
    operator.get_by_role("button", name="Show").click()
    expect(operator.locator("main")).to_contain_text(re.compile(r"Had a token for it: \d+"))


def test_the_palette_pauses_all_and_the_banner_resumes(site: Installation, operator: Page) -> None:
    """By keys alone, from a page that is about something else."""
    operator.goto(url(site, "/admin/activity/"))
    operator.keyboard.press("Control+k")
    operator.keyboard.type("pause all")
    expect(operator.locator("#palette .match").first).to_contain_text("Pause all")
    operator.keyboard.press("Enter")
    expect(operator.locator(".messagelist")).to_contain_text("Paused. Running jobs will finish.")
    expect(operator.locator("#frame-live")).to_contain_text("Starts are paused by olga")
    operator.locator("#frame-live").get_by_role("button", name="Resume all").click()
    expect(operator.locator("#frame-live")).not_to_contain_text("paused")


def test_the_palette_goes_to_what_is_chosen_by_arrows_and_closes(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/"))
    operator.keyboard.press("Control+k")
    expect(operator.locator("#palette .match", has_text="Fleet")).to_be_visible()
    operator.keyboard.press("Escape")
    expect(operator.locator("#palette")).to_be_hidden()
    operator.keyboard.press("Control+k")
    operator.keyboard.type("charts")
    expect(operator.locator("#palette .match").first).to_contain_text("Charts")
    operator.keyboard.press("ArrowDown")
    operator.keyboard.press("Enter")
    operator.wait_for_url("**/admin/charts/")


def test_a_phone_has_the_sections_behind_a_button(
    site: Installation, browser: Browser, signed_in: StorageState
) -> None:
    context = browser.new_context(storage_state=signed_in, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(url(site, "/admin/"))
    header = page.locator("#header").bounding_box()
    assert header is not None
    assert header["height"] <= 56
    expect(page.get_by_role("link", name="Fleet")).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Fleet").click()
    expect(page.locator("h1")).to_have_text("Fleet")
    leave(context)


def test_a_stuck_agent_loses_its_task_in_two_clicks(site: Installation, operator: Page) -> None:
    task = site.post("/api/v1/tasks", {"name": "Mend the roof"}).json["id"]
    body = {"status": "active", "assigned_to": "lobster-9", "assigned_at": "2026-01-01T00:00:00Z"}
    assert site.request("PATCH", f"/api/v1/tasks/{task}", body).status == 200
    operator.goto(url(site, "/admin/"))
    operator.get_by_role("link", name="Fleet").click()
    expect(operator.locator(".lanes tbody tr").first).to_contain_text("lobster-9")
    operator.get_by_role("button", name=f"Take T{task} away").click()
    sentence = f"T{task} was taken from lobster-9 and is queued again."
    expect(operator.locator("#said")).to_have_text(sentence)
    expect(operator.locator("#fleet-live")).not_to_contain_text("lobster-9")
    assert site.request("DELETE", f"/api/v1/tasks/{task}").status == 200


@pytest.mark.parametrize(("view", "verb"), [("board", "Block"), ("agents", "Take")])
def test_the_focus_stays_on_a_task_that_moved_or_on_the_one_in_its_place(
    site: Installation, operator: Page, view: str, verb: str
) -> None:
    tasks = [site.post("/api/v1/tasks", {"name": f"Mend roof {number}"}).json["id"] for number in range(2)]
    if view == "agents":
        for minute, task in enumerate(tasks):
            at = f"2026-01-01T00:0{minute}:00Z"
            body = {"status": "active", "assigned_to": f"lobster-{task}", "assigned_at": at}
            assert site.request("PATCH", f"/api/v1/tasks/{task}", body).status == 200
    operator.goto(url(site, f"/admin/fleet/?view={view}&q=Mend+roof"))
    button = operator.get_by_role("button", name=f"Take T{tasks[0]} away" if verb == "Take" else f"{verb} T{tasks[0]}")
    button.focus()
    operator.keyboard.press("Enter")
    expect(button).to_have_count(0)
    keeper = tasks[0] if view == "board" else tasks[1]  # on the board it is in another column, here it is gone
    expect(operator.locator(f"#card-{keeper} a").first).to_be_focused()
    for task in tasks:
        assert site.request("DELETE", f"/api/v1/tasks/{task}").status == 200


def test_a_problem_is_acknowledged_in_place_and_the_tab_counts_it_no_more(site: Installation, operator: Page) -> None:
    (site.scripts / "broken").touch()
    operator.goto(url(site, "/admin/"))
    run_in_place(operator, "moody")
    operator.get_by_role("button", name="Acknowledge: Job moody failed").click(timeout=20_000)
    expect(operator.locator("#said")).to_have_text("Acknowledged.")
    expect(operator.locator(".verdict-good")).to_contain_text("1 acknowledged or snoozed")
    expect(operator).to_have_title("Overview | lobwife", timeout=30_000)
    (site.scripts / "broken").unlink()
    run_in_place(operator, "moody")
    expect(operator.locator(".verdict-good")).not_to_contain_text("acknowledged")
