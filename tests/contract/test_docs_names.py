"""What README and docs name exists: commands and their flags, targets, variables, routes, files, pages, headings."""

from __future__ import annotations

import argparse
import functools
import pathlib
import re
from collections.abc import Iterator

import pytest
from django.core.management import get_commands, load_command_class

from tests.support.access import mounted
from tests.support.installation import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:manage\.py|doctor --|exec lobwife lobwife|-- lobwife) +([a-z][a-z_-]*)([^|;`#\n]*)")
VARIABLE = re.compile(r"\b((?:LOBWIFE|LOBMOB|VAULT|GH|GITHUB|DISCORD|SWARM|DJANGO|GIT|KUBERNETES)_[A-Z0-9_]+)\b")
APPS = ("access", "broker", "core", "jobs", "lobwife", "ops", "tasks", "vaultsync", "webhooks")
FOLDERS = "|".join((*APPS, "templates", "clients", "deploy", "bench", "tests", "docs", r"\.ci"))
PATH = re.compile(rf"(?<![\w./-])(?!deploy/lobwife\b)((?:{FOLDERS})/[\w./-]*\w)")
ROUTE = re.compile(r"(?:LOBWIFE_URL|127\.0\.0\.1:808[01]|(?<![\w.:/]))(/(?:api|health|metrics)\b(?!\.)[\w/{}.-]*)")
NOT_ROUTES = ("/api/v3",)  # GitHub Enterprise's
ELSEWHERE = {"/api/docs", "/api/openapi.json"}


def code(page: pathlib.Path) -> Iterator[str]:
    """What is shown as code: blocks, but for pictures and settings of others, and words between backticks."""
    for language, block, words in CODE.findall(page.read_text()):
        if language not in {"mermaid", "ini"}:
            yield (block or words).replace("\\\n", " ")


def of_pages(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    return sorted(
        {
            (page.name, found[found.lastindex or 0])
            for page in PAGES
            for text in code(page)
            for found in pattern.finditer(text)
        }
    )


@functools.cache
def options(command: str) -> set[str]:
    """Every flag of a command, those of its actions too."""

    def flags(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for each in action.choices.values():
                    yield from flags(each)

    return set(flags(load_command_class(get_commands()[command], command).create_parser("manage.py", command)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_flags_exist(page: pathlib.Path) -> None:
    for text in code(page):
        for command, rest in COMMAND.findall(text):
            if command == "help":
                continue
            assert command in get_commands(), f"manage.py {command}"
            own = rest.partition(" -- ")[0]
            for flag in re.findall(r"(?<=[\s\[])--[a-z][\w-]*", own):
                assert flag in options(command), f"manage.py {command} {flag}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = of_pages(re.compile(r"(?<=\bmake )[a-z][a-z-]*"))
    assert len(named) > 10
    assert [(page, target) for page, target in named if target not in targets] == []


def test_variables_are_read_somewhere() -> None:
    sources = [ROOT / "Makefile", ROOT / "Dockerfile", *(ROOT / "deploy").rglob("*")]
    sources += (ROOT / "clients").rglob("*.py")
    for app in APPS:
        sources += [path for path in (ROOT / app).rglob("*") if path.suffix in {".py", ".sh"}]
    read = "\n".join(path.read_text() for path in sources if path.is_file() and path.suffix != ".pyc")
    for made in re.findall(r'f"\{variable\}(_[A-Z]+)"', read):  # as broker/github/app.py puts names together
        read += "".join(f" {name}{made}" for name in ("GH_APP_PEM", "GH_APP_PEM_2"))
    known = set(VARIABLE.findall(read)) | {"GIT_CONFIG_COUNT"}
    named = of_pages(VARIABLE)
    assert len(named) > 60
    assert [(page, name) for page, name in named if name not in known] == []


def test_files_exist() -> None:
    named = of_pages(PATH)
    assert len(named) > 30
    missing = [
        (page, path) for page, path in named if not (ROOT / path).exists() and not (ROOT / "docs" / path).exists()
    ]
    assert missing == []


def test_routes_exist() -> None:
    def shape(path: str) -> str:
        path = re.sub(r"\{[^}]*\}|<[^>]*>", "*", path.rstrip("/.").lstrip("/"))
        return re.sub(r"(?<=/)(?:T?\d+|nightly-report|hello|count)(?=/|$)", "*", path)

    routes = {shape(route) for _, route in mounted()} | {shape(route) for route in ELSEWHERE}
    named = [(page, path) for page, path in of_pages(ROUTE) if path != "/api" and not path.startswith(NOT_ROUTES)]
    assert len(named) > 30
    assert [(page, path) for page, path in named if shape(path) not in routes] == []


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme] == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_anchors_are_headings() -> None:
    def anchors(page: pathlib.Path) -> set[str]:
        headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    for page in PAGES[1:]:
        for target, anchor in re.findall(r"\]\(([^)#:]+\.md)#([^)]+)\)", page.read_text()):
            assert anchor in anchors(page.parent / target), f"{page.name}: {target}#{anchor}"
