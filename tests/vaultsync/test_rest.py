"""The vault over REST: where it stands, and asking for a sync."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.test import Client

from core.timestamps import utc_now
from tests.support.git_remote import World, change, git, task
from vaultsync import services
from vaultsync.follower import VaultFollower
from vaultsync.models import SyncRequest, SyncRun, VaultState

pytestmark = pytest.mark.django_db


def call(client: Client, method: str, path: str) -> tuple[int, dict]:
    answer = client.generic(method, path)
    return answer.status_code, json.loads(answer.content)


def test_without_a_vault_rest_says_it_is_not_enabled(world: World, client: Client) -> None:
    assert call(client, "GET", "/api/v1/sync") == (200, {"enabled": False})
    assert call(client, "POST", "/api/v1/sync/trigger") == (503, {"error": "sync daemon not enabled"})


def test_rest_tells_where_the_vault_stands(world: World, client: Client, follower: VaultFollower) -> None:
    made = task()
    follower.tick()
    status, answer = call(client, "GET", "/api/v1/sync")
    assert status == 200
    assert (answer["enabled"], answer["running"], answer["pending_events"]) == (True, True, 0)
    assert answer["last_sync"] == VaultState.objects.get().last_sync_at.strftime("%Y-%m-%d %H:%M:%S")
    assert answer["last_commit"] == git(world.path, "rev-parse", "HEAD")
    assert answer["committed_event"] == answer["pushed_event"] == answer["newest_event"]
    assert answer["remote"]["state"] == "ok"
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
