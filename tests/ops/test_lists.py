"""Lists with long names in a browser: they fit a desk's window, and the newest comes in by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import make_operator, url
from tests.support.installation import Installation

NOW = "2026-02-16 12:00:00"
NAME = "Refactor the retry policy of the deployment gateway so that a failing canary blocks no release train"
SLUG = NAME.lower().replace(" ", "-")[:90]
ONE_WORD = "w" * 90
REPOS = ["acme-engineering/deployment-gateway-service", f"acme-engineering/{ONE_WORD}"]
LISTS = (
    *("tasks/task", "tasks/taskevent", "jobs/job", "jobs/jobrun", "jobs/alert", "broker/tokenaudit"),
    *("broker/taskregistration", "broker/legacyregistration", "broker/githubstate", "broker/allowedservice"),
    *("vaultsync/vaultstate", "vaultsync/syncrun", "vaultsync/noteproblem", "lobwife/apikey", "lobwife/accesspolicy"),
    *("lobwife/uncredentialedcaller", "auth/user", "axes/accessattempt"),
    *("activity", "search/?q=refactor", "fleet", "fleet/?view=board", "charts"),
)
ROWS: tuple[tuple[str, dict[str, object]], ...] = (
    (
        "jobs_jobrun",
        {"job_id": 1, "state": "skipped", "trigger": "catch-up", "requested_by": ONE_WORD, "queued_at": NOW}
        | {"note": NAME, "attempt": 1, "definition": "{}", "boot_id": "", "abort_requested_by": "", "output_bytes": 0},
    ),
    (
        "jobs_alert",
        {"kind": "daemon-down", "job_name": SLUG, "title": f"Job {SLUG} failed", "body": "", "destination": ONE_WORD}
        | {"fingerprint": "", "state": "pending", "attempts": 3, "error": ONE_WORD, "created_at": NOW}
        | {"next_attempt_at": NOW, "acknowledged_by": ""},
    ),
    (
        "token_audit",
        {"task_id": ONE_WORD, "repos": f'["org/{ONE_WORD}"]', "action": "token_refused", "created_at": NOW}
        | {"outcome": "refused", "reason": f"{NAME} {ONE_WORD}", "identity": f"system:serviceaccount:{ONE_WORD}"},
    ),
    (
        "broker_tasks",
        {"task_id": ONE_WORD, "repos": f'["org/{ONE_WORD}"]', "lobster_type": "image-gen", "registered_at": NOW},
    ),
    (
        "lobwife_apikey",
        {"name": SLUG, "role": "operator", "service": "", "prefix": "0a1b2c3d", "digest": "", "created_at": NOW}
        | {"created_by": ONE_WORD, "expires_at": NOW, "last_used_at": NOW, "revoked_by": ""},
    ),
    ("broker_allowedservice", {"name": ONE_WORD, "note": NAME}),
    (
        "vaultsync_syncrun",
        {"started_at": NOW, "seconds": 1.5, "reason": NAME, "full": True, "files": 12, "commit": "", "pushed": False}
        | {"error": ONE_WORD},
    ),
    ("vaultsync_noteproblem", {"path": f"{SLUG}/{ONE_WORD}.md", "kind": "unreadable", "sentence": NAME, "since": NOW}),
    (
        "lobwife_uncredentialedcaller",
        {"address": "2001:db8:85a3:8d3:1319:8a2e:370:7348", "program": ONE_WORD, "route": f"POST /{ONE_WORD}"}
        | {"first_seen": NOW, "last_seen": NOW},
    ),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Web alone, with rows whose names are long, of words and of one word."""
    made = Installation(tmp_path_factory.mktemp("site"))
    try:
        made.migrate()
        make_operator(made)
        with made.database() as database:
            database.execute("UPDATE auth_user SET email = ?, last_name = ?", (f"{ONE_WORD}@example.com", ONE_WORD))
            zoned = "UPDATE jobs_job SET name = ?, schedule = ?, timezone = ? WHERE id = 1"
            database.execute(zoned, (SLUG, "7,22 1-5,9-17 1-7,15-21 */2 1-5", "America/Argentina/Buenos_Aires"))
            for table, row in ROWS:
                columns, places = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
                database.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", list(row.values()))
        made.start_web()
        for name in (NAME, ONE_WORD):
            assigned = {"assigned_to": f"lobster-{ONE_WORD}", "priority": "critical", "type": "image-gen"}
            body = {"name": name, "slug": SLUG, "repos": REPOS, "actor": ONE_WORD, **assigned}
            task = made.post("/api/v1/tasks", body).json["id"]
            with made.database() as database:
                registered = "UPDATE tasks SET broker_repos = repos, broker_status = 'active', status = ? WHERE id = ?"
                database.execute(registered, ("completed" if name == NAME else "queued", task))
        yield made
    finally:
        made.stop()


def test_no_list_scrolls_sideways_at_a_desk(site: Installation, operator: Page) -> None:
    """Neither the page nor the list within it, at the width of a small laptop."""
    hidden = """() => [document.scrollingElement, ...document.querySelectorAll(".results, .panel")].map(
        each => each.scrollWidth - each.clientWidth).filter(more => more > 0)"""
    wide = {}
    for path in LISTS:
        operator.goto(url(site, f"/admin/{path}" if "?" in path else f"/admin/{path}/"))
        if more := operator.evaluate(hidden):
            wide[path] = more
    assert wide == {}


@pytest.mark.parametrize("width", [1280, 390])
def test_the_list_of_tasks_shows_what_matters(site: Installation, operator: Page, width: int) -> None:
    operator.set_viewport_size({"width": width, "height": 900})
    operator.goto(url(site, "/admin/tasks/task/"))
    assert operator.evaluate("document.scrollingElement.scrollWidth") <= width
    row = operator.locator("#result_list tbody tr", has_text=ONE_WORD).first
    for column in ("number", "short_name", "state", "age", "assignee", "priority", "repositories"):
        box = row.locator(f".field-{column}").bounding_box()
        assert box is not None
        assert box["width"] >= (40 if width > 1000 else 10), column  # on a phone a row is a block
        assert box["x"] + box["width"] <= width, column


def test_the_activity_log_brings_in_what_happens_while_one_looks(site: Installation, operator_with_clock: Page) -> None:
    """In place, and without a word that somebody is typing being lost."""
    operator_with_clock.goto(url(site, "/admin/activity/"))
    operator_with_clock.get_by_label("Who").fill("half-typ")
    task = site.post("/api/v1/tasks", {"name": "Mend the roof", "actor": "lobboss"}).json["id"]
    operator_with_clock.clock.run_for(10_000)
    expect(operator_with_clock.locator("#activity-live tbody tr:not(.day)").first).to_contain_text(f"T{task} created")
    expect(operator_with_clock.get_by_label("Who")).to_have_value("half-typ")


def test_the_activity_log_stands_still_for_who_filters_or_pages(site: Installation, operator_with_clock: Page) -> None:
    asked: list[str] = []
    frame = "/live/frame/"
    operator_with_clock.on(
        "request",
        lambda request: (
            asked.append(request.url) if request.resource_type == "xhr" and frame not in request.url else None
        ),
    )
    for query in ("kind=task", "who=lobboss", "before=2099-01-01T00:00:00Z", "until=2099-01-01T00:00"):
        operator_with_clock.goto(url(site, f"/admin/activity/?{query}"))
        operator_with_clock.clock.run_for(30_000)
        operator_with_clock.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        assert asked == [], query
