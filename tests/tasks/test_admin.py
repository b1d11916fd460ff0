"""Operators at tasks in the admin: a real browser on a real installation."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import OPERATOR, url
from tests.support.installation import Installation
from tests.support.rest_tasks import made, shown


def events(site: Installation, number: int) -> list[tuple[str, str, str]]:
    rows = site.get(f"/api/v1/tasks/{number}/events").json
    return [(event["event_type"], event["detail"], event["actor"]) for event in rows]


def stored(site: Installation, number: int) -> Any:
    with site.database() as database:
        return database.execute("SELECT * FROM tasks WHERE id = ?", [number]).fetchone()


def open_task(site: Installation, page: Page, number: int) -> None:
    """Open the form of a task."""
    page.goto(url(site, f"/admin/tasks/task/{number}/edit/"))


def save(page: Page) -> None:
    with page.expect_navigation():
        page.get_by_role("button", name="Save", exact=True).click()


def test_an_operator_makes_a_task(site: Installation, operator: Page) -> None:
    operator.goto(url(site, "/admin/tasks/task/add/"))
    operator.fill("#id_name", "  Write the manual ")
    operator.fill("#id_slug", "manual")
    operator.fill("#id_repos", "org/one\n\n org/two \n")
    operator.fill("#id_estimate_minutes", "45")
    operator.check("#id_requires_qa")
    save(operator)
    expect(operator.locator(".success")).to_be_visible()
    made = site.get("/api/v1/tasks?limit=1").json[0]
    assert (made["name"], made["slug"], made["type"], made["status"]) == ("Write the manual", "manual", "swe", "queued")
    assert (made["repos"], made["estimate_minutes"], made["requires_qa"]) == (["org/one", "org/two"], 45, True)
    assert (made["model"], made["assigned_to"]) == (None, None)
    assert events(site, made["id"]) == [("created", "Task created with status=queued", OPERATOR)]


@pytest.mark.postgres
def test_an_edit_writes_only_what_was_changed_under_the_operators_name(site: Installation, operator: Page) -> None:
    number = made(site, workflow="first line\nsecond line\n", assigned_to=" spaced ", repos=["org/a"])
    open_task(site, operator, number)
    operator.select_option("#id_status", "blocked")
    operator.fill("#id_model", "large")
    # Meanwhile an agent changes what the page shows as it was.
    site.request("PATCH", f"/api/v1/tasks/{number}", {"assigned_to": "lobster-1"})
    save(operator)
    expect(operator.locator(".success")).to_be_visible()
    now = shown(site, number)
    assert (now["status"], now["model"], now["assigned_to"]) == ("blocked", "large", "lobster-1")
    assert now["workflow"] == "first line\nsecond line\n"
    assert events(site, number)[0] == ("updated", "Updated: status, model", OPERATOR)


def test_saving_without_a_change_writes_nothing(site: Installation, operator: Page) -> None:
    number = made(site, workflow="a\nb", repos=["org/a", "org/b"], estimate_minutes=5)
    before = tuple(stored(site, number))
    open_task(site, operator, number)
    save(operator)
    expect(operator.locator(".success")).to_be_visible()
    assert tuple(stored(site, number)) == before
    assert len(events(site, number)) == 1


def test_emptied_fields_become_null(site: Installation, operator: Page) -> None:
    number = made(site, model="m", repos=["org/a"], estimate_minutes=5)
    open_task(site, operator, number)
    for field in ("model", "repos", "estimate_minutes"):
        operator.fill(f"#id_{field}", "")
    save(operator)
    expect(operator.locator(".success")).to_be_visible()
    now = stored(site, number)
    assert (now["model"], now["repos"], now["estimate_minutes"]) == (None, None, None)


def test_nonsense_is_refused_at_its_field(site: Installation, operator: Page) -> None:
    """Whatever else is refused is in test_task_page.py."""
    number = made(site)
    open_task(site, operator, number)
    operator.fill("#id_estimate_minutes", "30m")
    save(operator)
    expect(operator.locator(".field-estimate_minutes .errorlist")).to_contain_text("Must be a whole number, 0 or more.")
    assert len(events(site, number)) == 1


@pytest.mark.sqlite("what the older service let into a file")
def test_what_an_old_file_holds_stays_untouched_until_it_is_edited(site: Installation, operator: Page) -> None:
    number = made(site)
    odd = {"repos": "org/a, org/b", "estimate_minutes": "30m", "status": "limbo", "created_at": "junk"}
    odd |= {"assigned_at": "soon", "type": "", "requires_qa": 7, "token_count": "many"}
    with site.database() as database:
        names = ", ".join(f"{name} = ?" for name in odd)
        database.execute(f"UPDATE tasks SET {names} WHERE id = ?", [*odd.values(), number])
    operator.goto(url(site, "/admin/tasks/task/"))
    expect(operator.get_by_role("row").filter(has_text=f"T{number}")).to_contain_text("limbo")
    open_task(site, operator, number)
    expect(operator.locator("#id_estimate_minutes")).to_have_value("30m")
    expect(operator.locator("#id_status option:checked")).to_contain_text("limbo")
    operator.fill("#id_type", "qa")
    operator.fill("#id_model", "large")
    save(operator)
    expect(operator.locator(".success")).to_be_visible()
    now = stored(site, number)
    assert (now["type"], now["model"]) == ("qa", "large")
    del odd["type"]
    assert {name: now[name] for name in odd} == odd
    open_task(site, operator, number)
    operator.fill("#id_estimate_minutes", "30")
    operator.select_option("#id_status", "queued")
    save(operator)
    assert (stored(site, number)["estimate_minutes"], stored(site, number)["status"]) == (30, "queued")


def test_a_task_is_cancelled_from_its_page(site: Installation, operator: Page) -> None:
    number = made(site)
    operator.goto(url(site, f"/admin/tasks/task/{number}/change/"))
    operator.get_by_role("button", name="Cancel task").click()
    expect(operator.get_by_text(f"Task T{number} is cancelled.")).to_be_visible()
    expect(operator.get_by_role("button", name="Cancel task")).to_have_count(0)
    assert events(site, number)[0] == ("cancelled", "Task cancelled by an operator", OPERATOR)
    expect(operator.locator(".task-events")).to_contain_text("Task cancelled by an operator")


def test_selected_tasks_are_cancelled_after_a_question(site: Installation, operator: Page) -> None:
    first, second, over = made(site), made(site), made(site, status="completed")
    operator.goto(url(site, "/admin/tasks/task/"))
    for number in (first, second, over):
        operator.locator(f"input[name=_selected_action][value='{number}']").check()
    operator.select_option("select[name=action]", "cancel")
    operator.get_by_role("button", name="Go").click()
    expect(operator.get_by_role("heading", name="Cancel these tasks?")).to_be_visible()
    assert shown(site, first)["status"] == "queued"
    operator.get_by_role("button", name="Yes, cancel them").click()
    expect(operator.get_by_text(f"Task T{over} is already completed")).to_be_visible()
    assert [shown(site, number)["status"] for number in (first, second)] == ["cancelled", "cancelled"]


def test_nothing_is_deleted_and_dates_and_events_are_not_edited(site: Installation, operator: Page) -> None:
    number = made(site)
    open_task(site, operator, number)
    expect(operator.locator("a.deletelink")).to_have_count(0)
    for name in ("created_at", "updated_at", "queued_at", "token_count", "broker_repos", "slug"):
        expect(operator.locator(f"[name={name}]")).to_have_count(0)
    assert operator.request.get(url(site, f"/admin/tasks/task/{number}/delete/")).status == 403
    operator.goto(url(site, f"/admin/tasks/taskevent/?q=T{number}"))
    expect(operator.locator("#result_list tbody tr")).to_have_count(1)
    expect(operator.locator("#result_list")).to_contain_text("Task created")
    assert operator.request.get(url(site, "/admin/tasks/taskevent/add/")).status == 403


def test_a_task_is_found_by_id_name_slug_and_assignee(site: Installation, operator: Page) -> None:
    number = made(site, name="Unmistakable words", slug="odd-slug-17", assigned_to="lobster-zebra")
    for term in (f"T{number}", f"t{number}", str(number), "unmistakable", "odd-slug-17", "zebra"):
        operator.goto(url(site, f"/admin/tasks/task/?q={term}"))
        expect(operator.locator("#result_list")).to_contain_text("Unmistakable words")


def test_the_list_is_narrowed_by_what_it_shows(site: Installation, operator: Page) -> None:
    wanted = made(site, name="Wanted", status="failed", type="qa", priority="critical", assigned_to="someone")
    other = made(site, name="Homemade type", type="homemade")
    with site.database() as database:
        database.execute("UPDATE tasks SET created_at = '2020-01-01T00:00:00Z' WHERE id = ?", [wanted])
    for query in ("status=failed", "type=qa", "priority=critical", "assigned=yes", "age=more"):
        operator.goto(url(site, f"/admin/tasks/task/?{query}"))
        expect(operator.locator("#result_list")).to_contain_text(f"T{wanted}")
        expect(operator.locator("#result_list")).not_to_contain_text(f"T{other}Home")
    for query in ("type=other", "assigned=no", "age=1"):
        operator.goto(url(site, f"/admin/tasks/task/?{query}"))
        expect(operator.locator("#result_list")).to_contain_text("Homemade type")
        expect(operator.locator("#result_list")).not_to_contain_text("Wanted")


def test_pages_fit_the_window_without_console_errors(site: Installation, operator: Page) -> None:
    number = made(site, name="A rather long name of a task, " * 4, repos=["org/" + "r" * 80])
    wide = []
    for path in (*(f"/admin/tasks/task/{number}/{page}/" for page in ("change", "edit")), "/admin/tasks/task/"):
        operator.goto(url(site, path))
        for scheme, width in itertools.product(("light", "dark"), (1280, 390)):
            operator.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            operator.set_viewport_size({"width": width, "height": 900})
            if operator.evaluate("document.documentElement.scrollWidth") > width:
                wide.append((path, scheme, width))
    assert wide == []
