"""REST, the follower, the commands and the admin page."""

from __future__ import annotations

import json
import pathlib
import subprocess
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client

from lobwife.base.timestamps import utc_now
from tasks.models import Task, TaskEvent
from tests.git_remote import World, change, git, note_of, task
from vaultsync import services
from vaultsync.follower import VaultFollower
from vaultsync.lock import vault_lock
from vaultsync.models import NoteProblem, SyncRequest, SyncRun, VaultState

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(tmp_path: pathlib.Path, settings: Any) -> World:
    made = World(tmp_path)
    settings.VAULT_PATH, settings.VAULT_REPO, settings.STATE_DIR = made.path, str(made.remote), tmp_path / "state"
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}
    return made


@pytest.fixture
def follower(world: World) -> VaultFollower:
    return VaultFollower(vault=world.vault, interval=300)


class Clock:
    """Moves both clocks that the follower looks at."""

    def __init__(self, follower: VaultFollower, traveller: time_machine.Traveller) -> None:
        self.traveller = traveller
        self.monotonic = 1000.0
        follower.clock = lambda: self.monotonic

    def forward(self, seconds: float) -> None:
        self.monotonic += seconds
        self.traveller.shift(timedelta(seconds=seconds))


def call(client: Client, method: str, path: str) -> tuple[int, dict]:
    answer = client.generic(method, path)
    return answer.status_code, json.loads(answer.content)


def test_without_a_vault_rest_says_it_is_not_enabled(world: World, client: Client) -> None:
    assert call(client, "GET", "/api/v1/sync") == (200, {"enabled": False})
    assert call(client, "POST", "/api/v1/sync/trigger") == (503, {"error": "sync daemon not enabled"})


def test_rest_tells_where_the_vault_stands(world: World, client: Client, follower: VaultFollower) -> None:
    made = task()
    follower.tick()
    status, shown = call(client, "GET", "/api/v1/sync")
    assert status == 200
    assert (shown["enabled"], shown["running"], shown["pending_events"]) == (True, True, 0)
    assert shown["last_sync"] == VaultState.objects.get().last_sync_at.strftime("%Y-%m-%d %H:%M:%S")
    assert shown["last_commit"] == git(world.path, "rev-parse", "HEAD")
    assert shown["committed_event"] == shown["pushed_event"] == shown["newest_event"]
    assert shown["remote"]["state"] == "ok"
    change(made, priority="high")
    assert call(client, "GET", "/api/v1/sync")[1]["pending_events"] == 1
    services.save_state(beat_at=utc_now() - timedelta(minutes=1))
    assert call(client, "GET", "/api/v1/sync")[1]["running"] is False


def test_a_trigger_asks_the_daemon_whatever_is_sent(world: World, client: Client, follower: VaultFollower) -> None:
    follower.tick()
    for body in (b"", b"not json", b"[]"):
        answer = client.generic("POST", "/api/v1/sync/trigger", body)
        assert (answer.status_code, json.loads(answer.content)) == (200, {"status": "sync requested"})
    assert SyncRequest.objects.count() == 3
    assert follower.tick() is True
    assert not SyncRequest.objects.exists()
    assert SyncRun.objects.first().reason == "a request by local"
    assert follower.tick() is False


def test_a_request_that_comes_during_a_sync_makes_one_more(world: World, follower: VaultFollower) -> None:
    follower.tick()
    services.request_sync(actor="REST")

    def ask(step: str) -> None:
        if step == "fetched":
            services.request_sync(actor="REST")
            services.request_sync(actor="REST")

    world.synced(checkpoint=ask)
    assert SyncRequest.objects.count() == 2
    assert follower.tick() is True
    assert not SyncRequest.objects.exists()


def test_events_are_synced_after_a_moment_of_quiet(world: World, follower: VaultFollower) -> None:
    with time_machine.travel(utc_now()) as traveller:
        clock = Clock(follower, traveller)
        assert follower.tick() is True
        made = task()
        assert follower.tick() is not True  # it says when to look again
        clock.forward(0.9)
        assert follower.tick() is True
        assert (world.path / note_of(made)).exists()
        clock.forward(10)
        assert follower.tick() is False


def test_a_burst_is_gathered_for_five_seconds_at_most(world: World, follower: VaultFollower) -> None:
    with time_machine.travel(utc_now()) as traveller:
        clock = Clock(follower, traveller)
        follower.tick()
        synced_at = []
        for number in range(12):
            task(f"Task {number}")
            if follower.tick() is True:
                synced_at.append(number)
            clock.forward(0.5)
        assert synced_at == [10]


def test_the_interval_fetches_what_others_pushed(world: World, follower: VaultFollower) -> None:
    with time_machine.travel(utc_now()) as traveller:
        clock = Clock(follower, traveller)
        follower.tick()
        clone = world.clone()
        clone.write("k/a.md", "theirs\n")
        clone.push()
        clock.forward(299)
        assert follower.tick() is False
        clock.forward(2)
        assert follower.tick() is True
        assert world.text("k/a.md") == "theirs\n"
        clock.forward(6 * 3600)
        assert follower.tick() is True
        assert SyncRun.objects.first().full is True


@pytest.mark.parametrize("back", [81, -86_400], ids=["its time has come", "clock set back"])
def test_a_failing_remote_is_tried_again_with_back_off(world: World, follower: VaultFollower, back: float) -> None:
    with time_machine.travel(utc_now(), tick=False) as traveller:
        clock = Clock(follower, traveller)
        follower.tick()
        away = world.remote.rename(world.folder / "away.git")
        task()
        follower.tick()
        clock.forward(1)
        assert follower.tick() is True
        waits = []
        for _ in range(4):
            waits.append((VaultState.objects.get().remote_retry_at - utc_now()).total_seconds())
            clock.forward(waits[-1] - 1)
            assert follower.tick() is False
            clock.forward(1)
            assert follower.tick() is True
        assert waits == [5, 10, 20, 40]
        away.rename(world.remote)
        clock.forward(back)
        assert follower.tick() is True
        assert VaultState.objects.get().remote_failures == 0


def test_while_another_process_works_in_the_vault_the_daemon_waits(world: World, follower: VaultFollower) -> None:
    with vault_lock(world.vault.state_dir, wait_seconds=0):
        assert follower.tick() is False
    assert follower.tick() is True


def test_the_sync_command_syncs_and_tells(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    made = task()
    call_command("sync")
    assert "pushed" in capsys.readouterr().out
    call_command("sync")
    assert "Nothing changed." in capsys.readouterr().out
    change(made, status="completed")
    call_command("sync", "--dry-run", "--full")
    out = capsys.readouterr().out
    assert note_of(made, "completed") in out
    assert not (world.path / note_of(made, "completed")).exists()
    call_command("sync", "--full")
    assert (world.path / note_of(made, "completed")).exists()


def test_the_sync_command_says_why_it_can_not(world: World) -> None:
    world.path.mkdir()
    world.write("something", "else")
    with pytest.raises(CommandError, match="not a git repository"):
        call_command("sync")


def test_notes_from_before_the_database_are_imported_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    known = task("Known", slug="known")
    world.synced()
    old = "---\nname: Old one\nstatus: completed\ncreated: 2025-01-02 03:04:05\nrepos: [org/a]\nmine: 1\n---\n\nBody.\n"
    world.write("010-tasks/completed/old-one.md", old)
    world.write("010-tasks/active/no-keys.md", "# A heading\n\nText.\n")
    world.write("010-tasks/active/broken.md", "---\na: b: c\n---\n")
    world.write("010-tasks/active/T999.md", "---\nid: T999\n---\n")
    world.edit(note_of(known), "status: queued", "status: failed")
    call_command("vault", "import", "--dry-run")
    assert Task.objects.count() == 1
    call_command("vault", "import")
    out = capsys.readouterr().out
    assert "2 imported, 2 skipped, 1 with drift." in out
    assert f"{note_of(known)}: status differ" in out
    made = Task.objects.get(slug="old-one")
    assert (made.name, made.status, made.created_at, made.repo_list) == (
        "Old one",
        "completed",
        "2025-01-02 03:04:05",
        ["org/a"],
    )
    assert Task.objects.get(slug="no-keys").name == "A heading"
    call_command("vault", "import")
    assert Task.objects.count() == 3
    world.synced()
    assert world.text(note_of(made, "completed")).endswith("mine: 1\n---\n\nBody.\n")
    assert not (world.path / "010-tasks/completed/old-one.md").exists()
    call_command("vault", "import")
    assert Task.objects.count() == 3


def test_a_number_that_the_database_can_not_hold_stops_no_import(world: World) -> None:
    world.synced()
    for name, minutes in (("one", "9" * 20), ("two", "9" * 5000), ("three", "30")):
        world.write(f"010-tasks/active/{name}.md", f"---\nname: {name}\nestimate_minutes: {minutes}\n---\n")
    call_command("vault", "import")
    imported = Task.objects.values_list("slug", "estimate_minutes")
    assert dict(imported) == {"one": None, "two": None, "three": 30}


def test_a_rewritten_remote_can_be_accepted(world: World) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    git(clone.folder, "commit", "--quiet", "--amend", "-m", "another history")
    git(clone.folder, "push", "--quiet", "--force")
    theirs = git(world.remote, "rev-parse", "main")
    change(made, priority="high")
    assert "accept-remote" in world.sync().remote_error
    call_command("vault", "accept-remote")
    world.synced()
    git(world.remote, "merge-base", "--is-ancestor", theirs, "main")
    assert "priority: high" in world.text(note_of(made))


def test_the_admin_page_shows_the_state_and_asks_for_syncs(world: World, client: Client) -> None:
    User.objects.create_superuser("root", password="x")  # noqa: S106
    client.force_login(User.objects.get())
    page = "/admin/vaultsync/vaultstate/"
    assert "not synced" in client.get(page).content.decode()
    made = task()
    world.synced()
    world.write(note_of(made), "---\na: b: c\n---\n")
    change(made, priority="high")
    world.synced()
    shown = client.get(page).content.decode()
    assert note_of(made) in shown
    assert "not valid YAML" in shown
    assert client.get("/admin/vaultsync/vaultstate/request/").status_code == 405
    client.post("/admin/vaultsync/vaultstate/request/", {"full": "1"})
    assert SyncRequest.objects.get().full is True
    assert SyncRequest.objects.get().requested_by == "root"


def test_a_task_s_page_tells_of_its_note(world: World, client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    made = task()
    page = f"/admin/tasks/task/{made.pk}/live/"
    assert "the vault is not synced" in client.get(page).content.decode()
    world.synced()
    shown = client.get(page).content.decode()
    assert note_of(made) in shown
    assert ">synced<" in shown
    world.write(note_of(made), "---\na: b: c\n---\n")
    change(made, priority="high")
    assert ">waiting<" in client.get(page).content.decode()
    world.synced()
    assert "not valid YAML" in client.get(page).content.decode()


def test_who_may_only_look_can_not_ask(world: World, client: Client) -> None:
    world.synced()
    reader = User.objects.create_user("reader", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_vaultstate"))
    client.force_login(reader)
    assert "Sync now" not in client.get("/admin/vaultsync/vaultstate/").content.decode()
    assert client.post("/admin/vaultsync/vaultstate/request/").status_code == 403


def test_many_tasks_change_while_syncs_run_and_every_note_ends_equal(world: World) -> None:
    churn(world, tasks=150, rounds=6)


@pytest.mark.soak
def test_ten_thousand_tasks_change_while_syncs_run(world: World) -> None:
    churn(world, tasks=10_000, rounds=8)


def churn(world: World, *, tasks: int, rounds: int) -> None:
    """Tasks change in the middle of syncs, people push in between; in the end every note says what its row says."""
    made = [task(f"Task {number}") for number in range(tasks)]
    world.synced()
    clone = world.clone()
    turn = 0

    def meddle(step: str) -> None:
        nonlocal turn
        if step not in ("staged", "committed", "fetched"):
            return
        turn += 1
        for number in range(turn % 7, tasks, 7):
            changes = {"status": STATUSES[(turn + number) % 6]}
            change(made[number], **changes, assigned_to=f"lobster-{turn}")

    for number in range(rounds):
        clone.pull()
        mine = next(path for path in sorted(clone.folder.rglob("T*.md")) if number % 2 or path.parent.name == "active")
        mine.write_text(mine.read_text() + f"Line {number}\n")
        clone.push()
        outcome = world.sync(fetch=bool(number % 2), checkpoint=meddle)
        assert not outcome.error
    world.synced()
    world.synced(fetch=False)
    state = VaultState.objects.get()
    assert state.pushed == state.committed == TaskEvent.objects.order_by("-pk")[0].pk
    listing = subprocess.run(["git", "ls-tree", "-r", "--name-only", "main"], cwd=world.remote, capture_output=True)
    paths = set(listing.stdout.decode().split())
    for each in Task.objects.all():
        folder = {"completed": "completed", "failed": "failed", "cancelled": "failed"}.get(each.status, "active")
        assert note_of(each, folder) in paths
        text = world.text(note_of(each, folder))
        assert f"\nstatus: {each.status}\n" in text
        assert (f"\nassigned_to: {each.assigned_to}\n" in text) == bool(each.assigned_to)
    assert len([path for path in paths if path.split("/")[-1].startswith("T") and path.endswith(".md")]) == tasks
    assert not NoteProblem.objects.exists()


STATUSES = ("queued", "active", "completed", "failed", "cancelled", "blocked")
