"""A remote that others push to, rewrite, take away or guard."""

from __future__ import annotations

import shutil

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from tests.support.git_remote import World, change, git, note_of, task
from vaultsync.models import VaultState
from vaultsync.vault import Vault

pytestmark = [pytest.mark.django_db, pytest.mark.git]


def state() -> VaultState:
    return VaultState.objects.get()


def test_a_rejected_push_is_fetched_merged_and_sent_again(world: World) -> None:
    made = task()
    world.synced()
    copy = world.clone()
    copy.write("000-inbox/idea.md", "An idea.\n")
    theirs = copy.push()
    change(made, priority="high")
    world.synced(fetch=False)
    assert world.text("000-inbox/idea.md") == "An idea.\n"
    assert git(world.remote, "merge-base", "--is-ancestor", theirs, "main", check=True) == ""
    copy.pull()
    assert b"priority: high" in copy.read(note_of(made))


def test_a_remote_that_is_gone_keeps_commits_here_until_it_is_back(world: World) -> None:
    made = task()
    world.synced()
    away = world.remote.rename(world.folder / "away.git")
    pushed = state().pushed
    change(made, priority="high")
    result = world.sync(fetch=False)
    assert "can't be reached" in result.remote_error
    assert (state().ahead, state().pushed, state().remote_failures) == (1, pushed, 1)
    assert state().committed > pushed
    change(made, priority="low")
    assert world.sync(fetch=False, respect_back_off=True).remote_error == ""
    assert (state().ahead, state().remote_failures) == (2, 1)
    away.rename(world.remote)
    world.synced()
    assert (state().ahead, state().remote_failures, state().remote_state) == (0, 0, "ok")
    assert state().pushed == state().committed


def test_a_remote_that_declines_the_push_is_said_so(world: World) -> None:
    made = task()
    world.synced()
    hook = world.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'not today' >&2\nexit 1\n")
    hook.chmod(0o755)
    change(made, priority="high")
    result = world.sync()
    assert "refuses the push" in result.remote_error
    assert state().remote_state == "declined"
    hook.unlink()
    world.synced()


def test_a_rewritten_remote_is_not_overwritten(world: World) -> None:
    made = task()
    world.synced()
    copy = world.clone()
    copy.write("a.md", "a\n")
    copy.push()
    world.synced()
    git(copy.folder, "commit", "--amend", "-m", "another history")
    git(copy.folder, "push", "--quiet", "--force")
    rewritten = git(world.remote, "rev-parse", "main")
    change(made, priority="high")
    for fetch in (False, True):
        result = world.sync(fetch=fetch)
        assert "rewritten" in result.remote_error
        assert git(world.remote, "rev-parse", "main") == rewritten
    assert state().remote_state == "rewritten"
    assert "priority: high" in world.text(note_of(made))


def test_a_remote_put_back_to_an_older_commit_is_not_overwritten(world: World) -> None:
    made = task()
    world.synced()
    old = git(world.remote, "rev-parse", "main")
    change(made, priority="high")
    world.synced()
    git(world.remote, "update-ref", "refs/heads/main", old)
    change(made, priority="low")
    assert "rewritten" in world.sync(fetch=False).remote_error
    assert git(world.remote, "rev-parse", "main") == old


def test_a_token_left_in_the_remotes_url_is_taken_out(world: World) -> None:
    world.synced()
    git(world.path, "remote", "set-url", "origin", "https://x-access-token:ghs_SECRET@127.0.0.1:1/org/repo.git")
    git(world.path, "config", "remote.origin.pushurl", "https://ghs_SECRET@127.0.0.1:1/org/repo.git")
    result = world.sync()
    assert result.remote_error
    assert "SECRET" not in (world.path / ".git/config").read_text()
    assert git(world.path, "remote", "get-url", "origin") == "https://127.0.0.1:1/org/repo.git"
    assert "SECRET" not in result.remote_error + state().last_error


def test_a_remote_that_was_made_anew_and_empty_gets_everything_once_that_is_accepted(world: World) -> None:
    made = task()
    world.synced()
    shutil.rmtree(world.remote)
    git(world.folder, "init", "--quiet", "--bare", "-b", "main", str(world.remote))
    change(made, priority="high")
    for _ in range(2):
        assert "accept-remote" in world.sync().remote_error
    call_command("vault", "accept-remote")
    world.synced()
    assert "priority: high" in git(world.remote, "show", f"main:{note_of(made)}")


def test_accepting_a_remote_with_another_history_ends_with_both(world: World) -> None:
    made = task()
    world.synced()
    world.edit(note_of(made), "pending.*", "pending.* Mine.")
    world.synced()
    shutil.rmtree(world.remote)
    git(world.folder, "init", "--quiet", "--bare", "-b", "main", str(world.remote))
    clone = world.clone()
    clone.write("k/a.md", "theirs\n")
    git(clone.folder, "add", "-A")
    git(clone.folder, "commit", "--quiet", "-m", "another history")
    git(clone.folder, "push", "--quiet", "origin", "HEAD:main")
    assert "rewritten" in world.sync().remote_error
    call_command("vault", "accept-remote")
    world.synced()
    assert world.text("k/a.md") == "theirs\n"
    assert "Mine." in world.text(note_of(made))


def test_a_lock_at_the_remote_is_told_from_a_race(world: World) -> None:
    made = task()
    world.synced()
    lock = world.remote / "refs/heads/main.lock"
    lock.touch()
    change(made, priority="high")
    result = world.sync(fetch=False)
    assert "though nobody pushed there" in result.remote_error
    assert "lock" in result.remote_error
    assert state().remote_state == "declined"
    lock.unlink()
    world.synced()


def test_the_last_error_stays_until_it_is_over(world: World) -> None:
    made = task()
    world.synced()
    away = world.remote.rename(world.folder / "away.git")
    change(made, priority="high")
    world.sync()
    change(made, priority="low")
    world.sync(fetch=False, respect_back_off=True)
    assert "can't be reached" in state().last_error
    away.rename(world.remote)
    world.synced()
    assert state().last_error == ""


def test_a_repository_that_is_set_after_the_first_start_becomes_the_remote(world: World) -> None:
    copy = Vault(world.path, "", world.vault.state_dir)
    repo, world.vault = world.vault, copy
    made = task()
    assert not world.sync().error
    assert (state().remote_state, state().pushed) == ("none", None)
    world.vault = repo
    world.synced()
    assert git(world.remote, "show", f"main:{note_of(made)}")
    assert state().pushed == state().committed


def test_without_a_remote_nothing_is_called_pushed(world: World, client: Client) -> None:
    world.vault = Vault(world.path, "", world.vault.state_dir)
    task()
    assert world.sync().pushed is False
    client.force_login(User.objects.create_superuser("root"))
    assert "nothing pushed: there is no remote" in client.get("/admin/vaultsync/vaultstate/").content.decode()
    assert client.get("/api/v1/sync").json()["pushed_event"] is None
