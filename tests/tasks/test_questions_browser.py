"""Questions in a browser: by keyboard, while the page refreshes, without scripts, with axe."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, StorageState, expect

from tests.support.browser import axe_violations, leave, url
from tests.support.installation import Installation

LIST = "/admin/tasks/question/"


def ask(site: Installation, text: str, *choices: str) -> tuple[int, int]:
    """The numbers of a new task and of its question."""
    task = site.post("/api/v1/tasks", {"name": "Clean up"}).json["id"]
    body = {"text": text, "choices": choices, "actor": "agent-7"}
    return task, site.post(f"/api/v1/tasks/{task}/questions", body).json["id"]


def state(site: Installation, question: int) -> tuple[str | None, str | None]:
    row = site.get(f"/api/v1/questions/{question}").json
    return row["answer"], row["answered_by"]


def test_a_question_appears_and_is_answered_by_keyboard(site: Installation, operator: Page) -> None:
    task, _ = ask(site, "The first")
    operator.goto(url(site, f"/admin/tasks/task/{task}/change/"))
    expect(operator.locator("[id^=question-title]")).to_have_count(1)
    body = {"text": "May I delete it?", "choices": ["Approve", "Reject"]}
    question = site.post(f"/api/v1/tasks/{task}/questions", body).json["id"]
    button = operator.locator(f"#choice-{question}-2")
    expect(button).to_be_visible(timeout=15_000)
    button.focus()
    operator.keyboard.press("Enter")
    expect(operator.locator(".messagelist")).to_contain_text(f"Question {question} is answered: Reject")
    assert state(site, question) == ("Reject", "olga")
    expect(operator.locator(".task-questions .question-answer")).to_have_text("Answer: Reject")


def test_what_one_types_stays_while_others_ask(site: Installation, operator: Page) -> None:
    _, question = ask(site, "Which name shall it have?")
    operator.goto(url(site, LIST))
    operator.focus(f"#answer-{question}")
    operator.keyboard.type("sessions")
    with operator.expect_response(lambda response: "/live/frame/" in response.url, timeout=30_000):
        ask(site, "Anything else?")
    operator.evaluate("htmx.trigger('#questions-live', 'live')")
    operator.keyboard.type(", as before")
    operator.keyboard.press("Tab")
    operator.keyboard.press("Enter")
    expect(operator.locator(".messagelist")).to_contain_text("is answered: sessions, as before")
    assert state(site, question) == ("sessions, as before", "olga")


def test_the_number_in_the_sidebar_follows(site: Installation, operator: Page) -> None:
    operator.goto(url(site, LIST))
    count = operator.locator("#question-count > span").first
    before = int(count.inner_text() or 0)
    ask(site, "One more?")
    expect(count).to_have_text(str(before + 1), timeout=30_000)


def test_it_works_without_scripts_and_the_second_is_told(
    site: Installation, browser: Browser, signed_in: StorageState
) -> None:
    _, question = ask(site, "Go on?", "Approve", "Reject")
    context = browser.new_context(storage_state=signed_in, java_script_enabled=False)
    page = context.new_page()
    page.goto(url(site, LIST))
    site.post(f"/api/v1/questions/{question}/answer", {"answer": "Reject", "actor": "anna"})
    page.click(f"#choice-{question}-1")
    expect(page.locator(".messagelist")).to_contain_text(f"Question {question} was answered by anna (local) already")
    leave(context)
    assert state(site, question)[0] == "Reject"


def test_axe_has_nothing_to_say_in_both_themes(site: Installation, browser: Browser, signed_in: StorageState) -> None:
    task, question = ask(site, "A-very-long-word " + "w" * 300, "Approve", "Reject")
    site.post(f"/api/v1/questions/{question}/answer", {"answer": "Approve"})
    site.post(f"/api/v1/tasks/{task}/questions", {"text": "And now?", "choices": ["c" * 200]})
    context = browser.new_context(storage_state=signed_in)
    page = context.new_page()
    for path in (LIST, f"{LIST}{question}/change/", f"/admin/tasks/task/{task}/change/"):
        page.goto(url(site, path))
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, width)
            assert [(each["id"], each["nodes"][0]["html"]) for each in axe_violations(page)] == [], (path, width)
    leave(context)
