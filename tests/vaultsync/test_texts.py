"""The text of a note over REST: sent with a task, read, written into the vault; what people write is not lost."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from access.keys import create_key
from core.callers import Role
from tasks.models import TaskEvent, TaskNote
from tests.support.git_remote import World, git, note_of, task
from tests.support.installation import Answer, Installation, wait_for
from vaultsync.models import NoteProblem

in_process = pytest.mark.django_db


def note(client: Client, number: int) -> tuple[str, str, str]:
    answer = client.get(f"/api/v1/tasks/{number}/note")
    assert answer.status_code == 200, answer.content
    return answer.json()["text"], answer.json()["state"], answer.headers["ETag"]


def put(client: Client, number: int, text: Any, etag: str | None = None) -> Any:
    headers = {} if etag is None else {"If-Match": etag}
    path = f"/api/v1/tasks/{number}/note"
    return client.put(path, {"text": text}, content_type="application/json", headers=headers)


def made(client: Client, **fields: Any) -> int:
    answer = client.post("/api/v1/tasks", {"name": "Fix", **fields}, content_type="application/json")
    assert answer.status_code == 201, answer.content
    return int(answer.json()["id"])


def body(world: World, number: int) -> str:
    return world.text(f"010-tasks/active/T{number}.md").split("\n---\n", 1)[1]


@in_process
def test_a_body_is_the_text_of_the_new_note(world: World, client: Client) -> None:
    number = made(client, body="Do *this*.\n")
    assert note(client, number)[:2] == ("\n# Fix\n\nDo *this*.\n", "requested")
    world.synced()
    assert body(world, number) == "\n# Fix\n\nDo *this*.\n"
    assert note(client, number)[:2] == ("\n# Fix\n\nDo *this*.\n", "vault")
    assert not TaskNote.objects.exists(), "its home is the vault"
    headed = made(client, body="# Mine\n\nDo that.")
    assert note(client, headed)[0] == "\n# Mine\n\nDo that.\n"


@in_process
def test_without_a_vault_the_text_is_kept(world: World, client: Client) -> None:
    number = made(client, body="Do this.")
    text, _, etag = note(client, number)
    answer = put(client, number, f"{text}Done.\n", etag)
    assert (answer.status_code, answer.json()) == (202, {"task_id": f"T{number}", "state": "requested"})
    assert note(client, number) == (f"{text}Done.\n", "requested", answer.headers["ETag"])
    assert put(client, number, "x", etag).status_code == 412
    world.synced()
    assert body(world, number) == f"{text}Done.\n"
    assert note(client, made(client))[:2] == ("", "none")


@in_process
def test_a_text_takes_the_place_of_the_one_that_was_read_and_the_frontmatter_stays(
    world: World, client: Client
) -> None:
    number = task(priority="high").pk
    world.synced()
    text, state, etag = note(client, number)
    assert (state, "pending" in text) == ("vault", True)
    before = world.text(f"010-tasks/active/T{number}.md")
    for new in ("\n# New\r\n---\nid: T9\n---\n", "no final newline", ""):
        etag = put(client, number, new, etag).headers["ETag"]
        world.synced()
        assert world.text(f"010-tasks/active/T{number}.md") == before.removesuffix(text) + new
        assert note(client, number) == (new, "vault", etag)
    assert TaskEvent.objects.filter(event_type="note_written").count() == 3


@in_process
def test_what_people_wrote_since_it_was_read_is_not_lost(world: World, client: Client) -> None:
    number = task().pk
    world.synced()
    _, _, etag = note(client, number)
    clone = world.clone()
    clone.edit(f"010-tasks/active/T{number}.md", "*The content of this task is pending.*", "A person's work.")
    clone.push()
    assert put(client, number, "An agent's text.\n", etag).status_code == 202
    world.synced()
    assert "A person's work." in body(world, number)
    assert "A person's work." in note(client, number)[0]
    refused = TaskEvent.objects.filter(event_type="note_refused").values_list("detail", flat=True)
    assert ["was changed in the vault" in str(detail) for detail in refused] == [True]
    text, _, etag = note(client, number)
    assert put(client, number, f"{text}An agent's text.\n", etag).status_code == 202
    world.synced()
    assert body(world, number).endswith("A person's work.\nAn agent's text.\n")


@in_process
def test_without_if_match_the_last_one_wins_and_history_has_the_other(world: World, client: Client) -> None:
    number = task().pk
    world.synced()
    clone = world.clone()
    clone.edit(f"010-tasks/active/T{number}.md", "*The content of this task is pending.*", "A person's work.")
    clone.push()
    assert put(client, number, "An agent's text.\n").status_code == 202
    world.synced()
    assert body(world, number) == "An agent's text.\n"
    assert "A person's work." in git(world.path, "show", f"HEAD~1:010-tasks/active/T{number}.md")


@in_process
def test_a_text_in_a_commit_that_is_made_anew_is_in_the_new_one_too(world: World, client: Client) -> None:
    number = task().pk
    world.synced()
    clone = world.clone()
    put(client, number, "An agent's text.\n", note(client, number)[2])
    hidden = world.remote.with_name("hidden.git")
    world.remote.rename(hidden)
    assert world.sync().remote_error
    assert body(world, number) == "An agent's text.\n"
    assert TaskNote.objects.get().committed_at is not None
    hidden.rename(world.remote)
    clone.write("030-knowledge/other.md", "a person's page\n")
    clone.push()
    world.synced()
    assert body(world, number) == "An agent's text.\n"
    clone.pull()
    assert clone.read(f"010-tasks/active/T{number}.md").endswith(b"An agent's text.\n")
    assert not TaskNote.objects.exists()


@in_process
def test_a_note_that_can_not_be_read_is_a_sentence(world: World, client: Client) -> None:
    made_task = task()
    world.synced()
    world.write(note_of(made_task), "---\nid: [\n---\n")
    answer = client.get(f"/api/v1/tasks/{made_task.pk}/note")
    assert (answer.status_code, "can't be read" in answer.json()["error"]) == (409, True)
    world.sync()
    assert NoteProblem.objects.exists()


@in_process
def test_an_agent_reads_and_writes_the_note_of_its_own_task(world: World, client: Client) -> None:
    number, other = task().pk, task().pk
    key = create_key(name="agent", role=Role.AGENT, actor="test", task_number=number)
    agent = Client(REMOTE_ADDR="10.9.8.7", headers={"Authorization": f"Bearer {key}"})
    assert put(agent, number, "mine").status_code == 202
    assert note(agent, number)[0] == "mine"
    assert put(agent, other, "not mine").status_code == 404
    assert agent.get(f"/api/v1/tasks/{other}/note").status_code == 404
    assert put(agent, number, "x" * 70_000).status_code == 413
    assert client.get("/api/v1/tasks/987654/note").status_code == 404
    for wrong in (None, ["x"], "a\0b", "x" * (256 * 1024 + 1)):
        answer = put(client, number, wrong)
        assert (answer.status_code, answer.json()["error"].startswith("text")) == (400, True)
    agent.patch(f"/api/v1/tasks/{number}", {"status": "completed"}, content_type="application/json")
    assert put(agent, number, "late").status_code == 409


@in_process
def test_whoever_claims_a_task_gets_its_text_and_sends_one_for_a_task_under_it(world: World, client: Client) -> None:
    key = create_key(name="runner", role=Role.RUNNER, actor="test")
    runner = Client(REMOTE_ADDR="10.9.8.7", headers={"Authorization": f"Bearer {key}"})
    first = made(client, body="Do this.")
    claimed = runner.post("/api/v1/tasks/claim", {}, content_type="application/json").json()
    assert (claimed["id"], claimed["body"]) == (first, "\n# Fix\n\nDo this.\n")
    agent = Client(REMOTE_ADDR="10.9.8.7", headers={"Authorization": f"Bearer {claimed['key']}"})
    made(agent, body="A part of it.")
    world.synced()
    claimed = runner.post("/api/v1/tasks/claim", {}, content_type="application/json").json()
    assert claimed["body"] == "\n# Fix\n\nA part of it.\n"
    unreadable = task()
    world.synced()
    world.write(note_of(unreadable), "---\nid: [\n---\n")
    claimed = runner.post("/api/v1/tasks/claim", {}, content_type="application/json").json()
    assert (claimed["id"], claimed["body"]) == (unreadable.pk, None)


# --- with the daemon
@pytest.fixture
def running(tmp_path: pathlib.Path) -> Iterator[Installation]:
    git(tmp_path, "init", "--quiet", "--bare", "-b", "main", "remote.git")
    started = Installation(tmp_path, VAULT_REPO=str(tmp_path / "remote.git"))
    started.migrate()
    started.start_web()
    started.start_daemon()
    yield started
    started.stop()


def test_an_answer_waits_until_the_vault_has_the_text(running: Installation) -> None:
    wait_for(lambda: running.get("/api/v1/sync").json.get("last_sync"), what="the first sync")
    number = running.post("/api/v1/tasks", {"name": "Fix", "body": "Do this."}).json["id"]

    def write() -> tuple[str, Answer] | None:
        text = f"\nDone at {time.monotonic()}.\n"
        answer = running.request("PUT", f"/api/v1/tasks/{number}/note", {"text": text})
        return (text, answer) if answer.status == 200 else None

    text, answer = wait_for(write, 60, "an answer that waited: a sync takes five seconds only on a very busy machine")
    assert answer.json["state"] == "vault"
    note_answer = running.get(f"/api/v1/tasks/{number}/note")
    assert (note_answer.json["text"], note_answer.headers["etag"]) == (text, answer.headers["etag"])
