"""What commands and lists say to people, asked for within a process."""

from __future__ import annotations

import os
import pathlib
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.utils import OperationalError
from django.test import Client

from core.errors import Unavailable
from core.sqlite import messages
from core.sqlite.copies import copy_to
from ops.checks import machine, state
from tasks import services
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite("sentences about its file")]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("runs", "--limit", "-5"), "--limit says how many runs to list: 1 or more."),
        (("secrets", "set"), "set needs the NAME of a secret, such as DEPLOY_TOKEN."),
        (("secrets", "list", "X"), "list takes no NAME: it lists all secrets."),
    ],
)
def test_a_command_says_what_is_missing(command: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(CommandError) as refusal:
        call_command(*command)
    assert (str(refusal.value), refusal.value.returncode) == (sentence, 2)


def test_a_copy_into_no_folder_is_refused_without_the_systems_own_words() -> None:
    with pytest.raises(Unavailable, match=r"^/nope/x\.db can't be made \(No such file or directory\): see that"):
        copy_to(pathlib.Path("/nope/x.db"))


def test_a_read_only_file_system_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    sentence = messages.in_words_for_the_console(OperationalError("unable to open database file"))
    folder = os.path.dirname(str(connection.settings_dict["NAME"]))
    assert sentence == f"The file system of {folder} is read-only: mount it for writing, then try again."
    [finding] = machine.permissions()
    assert "is read-only" in finding.sentence
    assert "chown" not in finding.remedy


def test_the_size_of_the_database_counts_its_log(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "wal_bytes", lambda: 10**9)
    assert client.get("/health").json()["db"]["size_bytes"] > 10**9


def test_a_list_counts_results_of_a_search_alone(operator_client: Client) -> None:
    services.create_task(fields={"name": "Findable"}, actor="t")
    page = "/admin/tasks/task/"
    assert "Show all" not in text(operator_client, page)
    assert "Tasks: 1\n" in text(operator_client, page)
    assert "Failed sign-ins: 0\n" in text(operator_client, "/admin/axes/accessattempt/")
    assert '1 result <a href="?">Show all</a>' in text(operator_client, f"{page}?q=findable")


def test_a_row_that_nobody_changed_in_the_admin_says_so(operator_client: Client) -> None:
    task = services.create_task(fields={"name": "Untouched"}, actor="t")
    page = text(operator_client, f"/admin/tasks/task/{task.pk}/history/")
    assert "Nobody changed this in the admin." in page
    assert "added via this admin site" not in page
