from __future__ import annotations

import gc
import importlib
import pathlib
import signal
from collections.abc import Generator, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.core.cache import cache
from django.db import connection
from playwright.sync_api import Browser, Page

from core.database.backend import is_postgres
from lobwife.web.prepare import collect_static_files
from tests.support.browser import (
    DESK,
    chromium,
    leave,
    make_operator,
    operator,
    operator_with_clock,
    operators_page,
    signed_in,
)
from tests.support.git_remote import follower, world
from tests.support.installation import Installation
from tests.support.pages import olga, operator_client

# Fixtures that are defined beside what they give; those of an operator's browser are for modules that have a `site`.
__all__ = [
    "follower",
    "olga",
    "operator",
    "operator_client",
    "operator_with_clock",
    "operators_page",
    "signed_in",
    "world",
]

# What has nothing to do with the database of this run.
collect_ignore = ["unit"] if is_postgres() else ["postgres"]
UNIT, POSTGRES = (pathlib.Path(__file__).parent / folder for folder in ("unit", "postgres"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs no process but its own, and what is PostgreSQL's; leave out what is not about this database."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if item.get_closest_marker("django_db") or "db" in fixtures or UNIT in item.path.parents:
            item.add_marker("fast")
        if POSTGRES in item.path.parents:
            item.add_marker("postgres")
    others = [item for item in items if is_postgres() and item.get_closest_marker("sqlite")]
    items[:] = [item for item in items if item not in set(others)]
    config.hook.pytest_deselected(items=others)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among what is imported, neither meanwhile nor later: all of it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was tested on which database."""
    reports = [report for outcome in ("passed", "failed", "error") for report in terminalreporter.getreports(outcome)]
    fast = {report.nodeid: "fast" in report.keywords for report in reports}
    database = "PostgreSQL" if is_postgres() else "SQLite (`make test-postgres` has PostgreSQL)"
    some = f", as -m '{config.option.markexpr}' chooses" if config.option.markexpr else ""
    terminalreporter.write_line(
        f"tested on {database}: {sum(fast.values())} tests within a process,"
        f" {len(fast) - sum(fast.values())} with processes of their own{some}"
    )


class LongFirst:
    """A plugin of its own, since it has the last word on the order."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Begin with the files that take long, so that no process is left with one of them at the end."""
        places: dict[pathlib.Path, int] = {}
        for item in items:
            names = {mark.name for mark in item.iter_markers()}
            place = 2 if "fast" in names else 1
            places[item.path] = min(places.get(item.path, place), 0 if "slow" in names else place)
        items.sort(key=lambda item: (places[item.path], item.path))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LongFirst())


@pytest.fixture(scope="session", autouse=True)
def signals_that_arrive() -> None:
    """A run in the background or under nohup ignores these, and so would every process that tests start."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def static_files() -> None:
    """Pages name their static files by what was collected, in this process and in those of an Installation."""
    collect_static_files()


@pytest.fixture(scope="session", autouse=True)
def pages() -> None:
    """Import what has pages before a test puts something else in a function's place, which they would keep."""
    importlib.import_module("lobwife.urls")


@pytest.fixture(scope="session", autouse=True)
def migrated_template(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> None:
    """The place of the migrated state directory that installations copy: one for all processes of the session."""
    base = tmp_path_factory.getbasetemp()
    Installation.template = (base if worker_id == "master" else base.parent) / "migrated"
    Installation.on_postgres = is_postgres()


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> Iterator[None]:
    """Empty PostgreSQL's tables after a test by DELETE: to truncate 60 tables takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        if is_postgres():
            patch.setattr(type(connection.ops), "sql_flush", _deletes)
        yield


def _deletes(operations: Any, style: object, tables: Iterable[str], **_: object) -> list[str]:
    return [f"DELETE FROM {operations.quote_name(table)}" for table in tables]


@pytest.fixture(autouse=True)
def nothing_cached() -> None:
    """What a test undoes in the database stays in the cache: a row's id, say, which the next row gets again."""
    cache.clear()


@pytest.fixture
def seeded(db: None) -> None:
    """What migrations seed, which a transactional test that ran earlier in this process has flushed."""
    importlib.import_module("jobs.migrations.0002_four_jobs").define(apps, None)
    importlib.import_module("access.migrations.0002_beginnings").begin(apps, SimpleNamespace(connection=connection))


@pytest.fixture
def fresh(tmp_path: pathlib.Path) -> Iterator[Installation]:
    """A lobwife of the test's own; nothing was migrated yet."""
    made = Installation(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def installation(fresh: Installation) -> Installation:
    """A migrated lobwife of the test's own; nothing runs yet."""
    fresh.migrate()
    return fresh


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser for a module's tests, which then must not use the ORM in their own process."""
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of the test's own: no cookies, no history."""
    context = browser.new_context(viewport=DESK)
    yield context.new_page()
    leave(context)


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Variables of a module's installation; a module that needs some overrides this."""
    return {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Installation]:
    """A lobwife whose web answers on both ports; shared by a module's tests."""
    made = Installation(tmp_path_factory.mktemp("server"), **environment)
    try:
        made.migrate()
        made.start_web()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def site(server: Installation) -> Installation:
    """A lobwife whose pages an operator may use; a module that needs more of it overrides this."""
    make_operator(server)
    return server
