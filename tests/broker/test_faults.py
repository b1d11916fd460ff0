"""GitHub as it is on a bad day, and what callers hear of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.broker_rig import Rig
from tests.support.github import Canned, private_key
from tests.support.installation import wait_for


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("faults"), LOBWIFE_WORKERS="2")
    made.start_web()
    yield made
    made.stop()


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    """The shared one, well again and with no word to wait after each test."""
    shared.token(f"T{shared.task('repo')}")
    yield shared
    shared.github.canned.clear()
    shared.github.change = lambda answer: None
    shared.github.clock_skew = shared.github.delay = 0
    shared.github.gate.set()
    with shared.database() as database:
        database.execute("UPDATE broker_githubstate SET blocked_until = NULL, clock_skew = 0")


def failing(status: int, message: str = "because", **headers: str) -> Canned:
    return Canned(status, json.dumps({"message": message}).encode(), headers)


@pytest.mark.parametrize("trouble", [failing(500), failing(502), failing(503), Canned(close=True)])
def test_a_passing_trouble_is_retried_within_the_call(rig: Rig, trouble: Canned) -> None:
    rig.github.fail(trouble, trouble)
    assert rig.token(f"T{rig.task('repo')}").status == 200


def test_a_lasting_trouble_ends_in_503_with_the_reason(rig: Rig) -> None:
    number = rig.task("repo")
    rig.github.fail(*[failing(500)] * 3)
    answer = rig.token(f"T{number}")
    assert answer.status == 503
    assert "GitHub failed (500)" in answer.json["error"]
    assert int(answer.headers["retry-after"]) > 0
    entry = rig.audit(f"?task_id=T{number}")[0]
    assert (entry["outcome"], entry["reason"]) == ("failed", answer.json["error"])
    assert rig.token(f"T{number}").status == 200


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "Not Found"), (422, "There is at least one repository that is not accessible"), (403, "Suspended")],
)
def test_a_refusal_is_not_retried_and_its_words_reach_the_caller(rig: Rig, status: int, message: str) -> None:
    mints = rig.github.mints
    rig.github.fail(failing(status, message))
    answer = rig.token(f"T{rig.task('repo')}")
    assert answer.status == 503
    assert message in answer.json["error"]
    assert rig.github.mints == mints + 1


def test_a_repository_that_the_installation_lacks_is_named_as_the_reason(rig: Rig) -> None:
    answer = rig.token(f"T{rig.task('not-there')}")
    assert answer.status == 503
    assert "repository" in answer.json["error"]


@pytest.mark.parametrize(
    "limit",
    [
        failing(429, "slow down", **{"retry-after": "30"}),
        failing(403, "secondary rate limit", **{"retry-after": "30"}),
        failing(403, "limit", **{"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 3000)}),
    ],
)
def test_a_rate_limit_is_obeyed_while_cached_tokens_go_on(rig: Rig, limit: Canned) -> None:
    cached, fresh, another = rig.task("repo"), rig.task("repo"), rig.task("repo")
    assert rig.token(f"T{cached}").status == 200
    rig.github.fail(limit)
    answer = rig.token(f"T{fresh}")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 29
    mints = rig.github.mints
    refused = rig.token(f"T{another}")
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 20
    assert rig.github.mints == mints
    assert rig.token(f"T{cached}").status == 200


def test_a_limit_is_over_by_githubs_clock_and_never_later_than_in_an_hour(rig: Rig) -> None:
    rig.github.clock_skew = -7200
    reset = str(int(rig.github.now()) + 600)
    far = str(10**11 - 1)
    for limit, seconds in (
        (failing(403, **{"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}), range(590, 601)),
        (failing(403, **{"x-ratelimit-remaining": "0", "x-ratelimit-reset": far}), [3600]),
        (failing(429, **{"retry-after": far}), [3600]),
    ):
        rig.github.fail(limit)
        assert int(rig.token(f"T{rig.task('repo')}").headers["retry-after"]) in seconds
        with rig.database() as database:
            database.execute("UPDATE broker_githubstate SET blocked_until = NULL")


@pytest.mark.parametrize("skew", [-3600, 700, 86400])
def test_a_clock_that_differs_is_made_up_for(rig: Rig, skew: int) -> None:
    rig.github.clock_skew = skew
    number = rig.task("repo")
    mints = rig.github.mints
    first = rig.token(f"T{number}")
    assert first.status == 200
    assert rig.token(f"T{number}").json == first.json  # its end is judged by GitHub's clock, too
    assert rig.github.mints == mints + 2  # one refused for its times, one with GitHub's


def test_a_key_that_github_does_not_take_is_said(rig: Rig) -> None:
    rig.github.accepted_keys = [private_key(3)]
    try:
        answer = rig.token(f"T{rig.task('repo')}")
    finally:
        rig.github.accepted_keys = [private_key(1)]
    assert answer.status == 503
    assert "GH_APP_PEM" in answer.json["error"]


@pytest.mark.parametrize(
    "garbage",
    [
        Canned(302, b"", {"Location": "http://127.0.0.1:9/"}),
        Canned(201, b"<html>"),
        Canned(201, b'{"token": 5}'),
        Canned(201, b"[]"),
        Canned(200, b'{"token": ""}'),
        Canned(201, b"x" * (2**20 + 1)),
        Canned(418, b"\xff\xfe"),
    ],
)
def test_an_answer_that_makes_no_sense_is_502(rig: Rig, garbage: Canned) -> None:
    rig.github.fail(garbage)
    answer = rig.token(f"T{rig.task('repo')}")
    assert answer.status == 502
    assert "GitHub" in answer.json["error"]


def test_an_answer_without_end_is_not_read_to_its_end(rig: Rig) -> None:
    rig.github.fail(Canned(201, b'{"token": "ghs_x"' + b" " * 2**20 + b"}"))
    answer = rig.token(f"T{rig.task('repo')}")
    assert (answer.status, answer.json["error"]) == (502, "GitHub's answer is too long")


def wider(**changes: Any) -> Any:
    return lambda answer: answer.update(changes)


@pytest.mark.parametrize(
    "change",
    [
        wider(repository_selection="all"),
        wider(repositories=[{"name": "repo", "full_name": "org/repo"}, {"name": "other", "full_name": "org/other"}]),
        wider(repositories=[{"name": "repo", "full_name": "evil/repo"}]),
        wider(repositories=[]),
        wider(permissions={"contents": "write", "administration": "write"}),
        wider(permissions={"contents": "admin"}),
        wider(permissions=None),
        wider(expires_at="never"),
        wider(expires_at="2020-01-01T00:00:00Z"),
    ],
)
def test_a_token_that_may_do_more_than_asked_for_is_revoked_and_reaches_nobody(rig: Rig, change: Any) -> None:
    number = rig.task("repo")
    live = len(rig.github.live)
    rig.github.change = change
    answer = rig.token(f"T{number}")
    assert answer.status == 502
    assert len(rig.github.live) == live
    outcomes = [entry["outcome"] for entry in rig.audit(f"?task_id=T{number}")]
    assert outcomes == ["failed", "revoked", "done"]
    rig.github.change = lambda answer: None
    assert rig.token(f"T{number}").status == 200


def test_a_wide_token_that_could_not_be_revoked_at_once_is_revoked_later(rig: Rig) -> None:
    number = rig.task("repo")
    live = len(rig.github.live)

    def and_then_fail(answer: dict[str, Any]) -> None:
        answer["repository_selection"] = "all"
        rig.github.fail(*[failing(500)] * 3)

    rig.github.change = and_then_fail
    assert rig.token(f"T{number}").status == 502
    assert len(rig.github.live) == live + 1
    rig.github.canned.clear()
    with rig.database() as database:
        database.execute("UPDATE broker_issuedtoken SET retry_at = minted_at WHERE state = 'ended'")
    rig.tick()
    assert len(rig.github.live) == live


def test_an_owner_that_was_renamed_is_asked_for_anew(rig: Rig) -> None:
    number = rig.task("repo")
    rig.github.owner = "renamed"
    try:
        assert [rig.token(f"T{number}").status for _ in range(2)] == [502, 200]
    finally:
        rig.github.owner = "org"
        rig.token(f"T{rig.task('repo')}")


def test_an_answer_that_drips_is_given_up(rig: Rig) -> None:
    drip = Canned(201, b'{"token": "ghs_x"' + b" " * 4000 + b"}", drip=True)
    rig.github.fail(drip, Canned(drip_head=True), drip)
    answer = rig.token(f"T{rig.task('repo')}")
    assert answer.status == 503
    assert "in time" in answer.json["error"]


def test_all_who_ask_while_a_mint_fails_hear_the_same_reason(rig: Rig) -> None:
    number = rig.task("repo")
    mints = rig.github.mints
    rig.github.gate.clear()
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(rig.token, f"T{number}") for _ in range(6)]
        wait_for(lambda: rig.github.mints > mints, what="a call asks GitHub")
        rig.github.granted = {"metadata": "read"}
        rig.github.gate.set()
        answers = [each.result() for each in asked]
    rig.github.granted = {"contents": "write", "pull_requests": "write", "metadata": "read", "issues": "write"}
    assert {answer.status for answer in answers} == {503}
    assert {answer.json["error"] for answer in answers} == {answers[0].json["error"]}


def test_after_a_failure_all_who_ask_share_the_next_token(rig: Rig) -> None:
    number = rig.task("repo")
    rig.github.fail(failing(422))
    assert rig.token(f"T{number}").status == 503
    mints = rig.github.mints
    rig.github.gate.clear()
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(rig.token, f"T{number}") for _ in range(6)]
        wait_for(lambda: rig.github.mints > mints, what="a call asks GitHub")
        rig.github.gate.set()
        answers = [each.result() for each in asked]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["token"] for answer in answers}) <= 2, "one for each of two workers at the most"
    assert rig.github.mints <= mints + 2
