"""A real browser at an installation's pages."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import axe_core_python
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    StorageState,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.support.installation import Installation

_AXE = (pathlib.Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_WITHOUT_REPEATS = """() => {
    const look = each => `${each.tagName} ${each.getAttribute("class")}(${[...each.children].map(look)})`;
    const times = new Map();
    for (const each of document.querySelectorAll("main :is(tr, li, option, svg *)")) {
        const alike = times.get(each.parentNode) || times.set(each.parentNode, {}).get(each.parentNode);
        const its = look(each);
        alike[its] = (alike[its] || 0) + 1;
        if (alike[its] > 2) each.remove();
    }
}"""
OPERATOR, PASSWORD = "olga", "a-long-password-for-olga"
DESK: ViewportSize = {"width": 1280, "height": 900}
expect.set_options(timeout=20_000)  # 5 s are few for an answer of a server on a busy machine


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium; when it is closed its event loop is gone, so that other tests can use the ORM.

    Without a window to draw, as the shell is, it takes half of the processor time.
    """
    executable = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    assert executable, "install chromium-headless-shell, or chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


def make_operator(installation: Installation, name: str = OPERATOR) -> None:
    """A superuser who can sign in with PASSWORD."""
    installation.environment["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
    installation.manage("createsuperuser", "--noinput", "--username", name, "--email", f"{name}@example.com")


def url(installation: Installation, path: str) -> str:
    return f"http://127.0.0.1:{installation.web_port}{path}"


def sign_in(page: Page, installation: Installation, name: str = OPERATOR) -> None:
    page.goto(url(installation, "/admin/login/?next=/admin/"))
    page.fill("#id_username", name)
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_url(lambda address: "/login/" not in address)


def leave(context: BrowserContext) -> None:
    """Close it. What a page still loads is given up first: Chromium may never finish closing a page that loads."""
    for page in context.pages:
        with suppress(Error):
            page.goto("about:blank", timeout=10_000)
    context.close()


@pytest.fixture(scope="module")
def signed_in(site: Installation, browser: Browser) -> StorageState:
    """The cookies of an operator at the module's `site`: to sign in takes a second by design."""
    page = browser.new_page()
    with without_complaints(page):
        sign_in(page, site)
    state = page.context.storage_state()
    page.close()
    return state


@contextmanager
def without_complaints(page: Page) -> Iterator[None]:
    """Fail if the page complains on its console: a violation of the policy is such a complaint."""
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def hear_error(error: Error) -> None:
        complaints.append(str(error))

    page.on("console", hear)
    page.on("pageerror", hear_error)
    yield
    page.remove_listener("console", hear)
    page.remove_listener("pageerror", hear_error)
    assert complaints == []


@pytest.fixture(scope="module")
def operators_page(browser: Browser, signed_in: StorageState) -> Iterator[Page]:
    context = browser.new_context(storage_state=signed_in, viewport=DESK)
    yield context.new_page()
    leave(context)


@pytest.fixture
def operator(operators_page: Page) -> Iterator[Page]:
    """The module's page of an operator, blank: to open another takes as long as to load it three times."""
    operators_page.set_viewport_size(DESK)
    operators_page.emulate_media(color_scheme="light")
    try:
        with without_complaints(operators_page):
            yield operators_page
    finally:
        operators_page.unroute_all()
        operators_page.goto("about:blank")


@pytest.fixture
def operator_with_clock(browser: Browser, signed_in: StorageState) -> Iterator[Page]:
    """A page of the test's own, whose clock it sets."""
    context = browser.new_context(storage_state=signed_in, viewport=DESK)
    page = context.new_page()
    page.clock.install()
    with without_complaints(page):
        yield page
    leave(context)


def axe_violations(page: Page, *, leave_out: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return what axe has against a page in the light, and against its contrast in the dark.

    What the selectors `leave_out` match is not looked at, nor the third and later of rows and the like that have the
    same tags and classes.
    """
    page.emulate_media(color_scheme="light")
    page.evaluate(_WITHOUT_REPEATS)
    page.evaluate(_AXE)
    # Of what it has nothing against it would make up selectors as well, which takes longer than the rules.
    options = "{runOnly: rules, resultTypes: ['violations']}"
    context = json.dumps({"exclude": [[each] for each in leave_out]}) if leave_out else "document"
    run = f"async rules => (await axe.run({context}, {options})).violations"
    violations: list[dict[str, Any]] = page.evaluate(run, _RULES)
    page.emulate_media(color_scheme="dark")
    violations += page.evaluate(run, ["color-contrast"])
    page.emulate_media(color_scheme="light")
    return violations
