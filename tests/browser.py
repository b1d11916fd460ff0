"""A real browser at an installation's pages."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.installation import Installation

OPERATOR, PASSWORD = "olga", "a-long-password-for-olga"


def make_operator(installation: Installation, name: str = OPERATOR) -> None:
    """A superuser who can sign in with PASSWORD, and the pages' static files."""
    installation.environment["LOBWIFE_STATIC_ROOT"] = str(installation.folder / "static")
    installation.manage("collectstatic", "--noinput", "-v0")
    installation.environment["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
    installation.manage("createsuperuser", "--noinput", "--username", name, "--email", f"{name}@example.com")


def url(installation: Installation, path: str) -> str:
    return f"http://127.0.0.1:{installation.web_port}{path}"


def sign_in(page: Page, installation: Installation, name: str = OPERATOR) -> None:
    page.goto(url(installation, "/admin/login/?next=/admin/"))
    page.fill("#id_username", name)
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_selector("#user-tools")
