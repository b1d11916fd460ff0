"""Every link and every search form of the operators' pages leads somewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


class Links(HTMLParser):
    """Collects the addresses of a page's links, and of its forms that only ask, as a browser would send them."""

    def __init__(self, url: str, page: str) -> None:
        super().__init__()
        self._url = url
        self._form: tuple[str, list[tuple[str, str]]] | None = None
        self._select = ""
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if tag == "a" and "href" in values and "download" not in values:
            self.found.append(urljoin(self._url, values["href"]))
        elif tag == "form" and values.get("method", "get").lower() == "get":
            self._form = (urljoin(self._url, values.get("action", "")), [])
        elif tag == "select":
            self._select = values.get("name", "")
        elif tag == "option" and "selected" in values and self._select:
            self._add(self._select, values.get("value", ""))
        elif tag == "input" and values.get("type") not in ("checkbox", "radio", "submit") and "name" in values:
            self._add(values["name"], values.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self._form:
            action, fields = self._form
            self.found.append(f"{action.partition('?')[0]}?{urlencode(fields)}")
            self._form = None

    def _add(self, name: str, value: str) -> None:
        if self._form:
            self._form[1].append((name, value))


def shape(url: str) -> tuple[str, frozenset[str]]:
    """Return what pages of one kind have in common: the path without numbers, and the names of the parameters."""
    parts = urlsplit(url)
    return re.sub(r"\d+", "0", parts.path), frozenset(
        name for name, _ in parse_qsl(parts.query, keep_blank_values=True)
    )


@pytest.mark.usefixtures("fleet")
def test_links_and_search_forms_lead_somewhere(operator_client: Client) -> None:
    waiting, seen, broken = [("", "/admin/")], set(), []
    while waiting:
        origin, url = waiting.pop()
        url = url.partition("#")[0]
        if not url.startswith("/admin/") or url.startswith("/admin/logout/") or shape(url) in seen:
            continue
        seen.add(shape(url))
        answer = operator_client.get(url, follow=True)
        content = b"" if answer.streaming else answer.content  # downloads give their connections back
        if answer.status_code != 200 or b"that this list doesn" in content:
            broken.append((origin, url, answer.status_code))
        elif "?" not in url and answer.headers["Content-Type"].startswith("text/html"):
            waiting += [(url, link) for link in Links(url, content.decode()).found]
    assert broken == []
    assert len(seen) > 50
