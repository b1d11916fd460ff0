"""Tokens of a claimed task are those of its lease: they end with it, and the next holder gets others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.access import ELSEWHERE, bearer, make_key
from tests.support.broker_rig import Rig
from tests.support.installation import moment, wait_for


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("leases"), LOBWIFE_LEASE_BACKOFF_SECONDS="0")
    made.start_web()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def runner(rig: Rig) -> dict[str, str]:
    return make_key(rig, "box-3", "runner") | ELSEWHERE


def claim(rig: Rig, runner: dict[str, str], **body: Any) -> tuple[int, dict[str, str], int]:
    """Return a claimed task's number, the headers of its agent, and the fence."""
    answer = rig.post("/api/v1/tasks/claim", body, headers=runner)
    assert answer.status == 200, answer.body
    return answer.json["id"], bearer(answer.json["key"]) | ELSEWHERE, answer.json["lease"]["fence"]


def token(rig: Rig, number: int, agent: dict[str, str]) -> Any:
    return rig.post("/api/token", {"task_id": f"T{number}"}, headers=agent)


def is_live(rig: Rig, text: str) -> bool:
    return rig.github.token(f"token {text}") is not None


def test_a_claim_gets_tokens_for_the_task_s_repositories_and_they_end_with_the_lease(
    rig: Rig, runner: dict[str, str]
) -> None:
    number = rig.task(type="first", repos=["repo"])
    same, agent, fence = claim(rig, runner, types=["first"])
    assert same == number
    first = token(rig, number, agent).json["token"]
    released = {"fence": fence, "outcome": "queued"}
    assert rig.post(f"/api/v1/tasks/{number}/release", released, headers=agent).status == 200
    assert token(rig, number, agent).status == 401
    assert rig.get(f"/api/v1/tasks/{number}").json["broker_status"] == "ended"
    _, successor, _ = claim(rig, runner, types=["first"])
    second = token(rig, number, successor).json["token"]
    assert second != first, "before the daemon has looked, too"
    rig.tick()
    assert not is_live(rig, first)
    assert is_live(rig, second)


def test_the_tokens_of_an_expired_lease_are_refused_at_once_and_revoked(rig: Rig, runner: dict[str, str]) -> None:
    number = rig.task(type="dies", repos=["repo"])
    _, agent, _ = claim(rig, runner, types=["dies"])
    text = token(rig, number, agent).json["token"]
    with rig.database() as database:
        database.execute("UPDATE tasks_tasklease SET expires_at = ? WHERE task_id = ?", [moment(seconds=-2), number])
    assert token(rig, number, agent).status == 401
    rig.start_daemon()
    wait_for(lambda: rig.get(f"/api/v1/tasks/{number}").json["status"] == "queued")
    wait_for(lambda: not is_live(rig, text))


def test_a_task_is_claimed_though_it_can_t_be_registered(rig: Rig, runner: dict[str, str]) -> None:
    number = rig.task(type="odd", repos=["somebody-else/repo", "not a name"])
    assert claim(rig, runner, types=["odd"])[0] == number
    assert rig.get(f"/api/v1/tasks/{number}").json["broker_status"] is None


def test_a_registration_made_before_keeps_its_repositories(rig: Rig, runner: dict[str, str]) -> None:
    number = rig.task("other", type="before", repos=["repo"])
    _, agent, _ = claim(rig, runner, types=["before"])
    assert rig.get(f"/api/v1/tasks/{number}").json["broker_repos"] == '["other"]'
    assert token(rig, number, agent).status == 200


def test_a_registration_that_an_operator_ended_is_not_made_anew_by_a_claim(rig: Rig, runner: dict[str, str]) -> None:
    number = rig.task(type="ended", repos=["repo"])
    _, agent, fence = claim(rig, runner, types=["ended"])
    assert rig.request("DELETE", f"/api/tasks/T{number}").status == 200
    released = {"fence": fence, "outcome": "queued"}
    assert rig.post(f"/api/v1/tasks/{number}/release", released, headers=agent).status == 200
    _, successor, _ = claim(rig, runner, types=["ended"])
    assert token(rig, number, successor).status >= 400
