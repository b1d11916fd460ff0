"""Asking for tokens: who gets one, what it may do, and that it is made once."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.broker_rig import Rig
from tests.support.github import Canned


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    types = {"research": {"contents": "read", "metadata": "read"}, "triage": {"issues": "write", "metadata": "read"}}
    made = Rig(tmp_path_factory.mktemp("tokens"), LOBWIFE_BROKER_PERMISSIONS=json.dumps(types))
    made.start_web()
    yield made
    made.stop()


def test_a_token_reaches_exactly_the_registered_repositories(rig: Rig) -> None:
    number = rig.task("org/repo", "Other", "ORG/REPO")
    answer = rig.token(f"T{number}")
    assert set(answer.json) == {"token", "expires_at"}
    assert answer.json["expires_at"].endswith("Z")
    assert answer.headers["cache-control"] == "no-store"
    made = rig.github.token(f"token {answer.json['token']}")
    assert made is not None
    assert made.repositories == ["repo", "other"]
    assert made.permissions == {"contents": "write", "pull_requests": "write", "metadata": "read"}


def test_what_is_asked_wrongly_is_refused(rig: Rig) -> None:
    assert rig.post("/api/token", {}).json == {"error": "task_id required"}
    assert rig.post("/api/token", {"task_id": ""}).json == {"error": "task_id required"}
    assert rig.post("/api/token", b"[]").json == {"error": "invalid JSON"}
    assert rig.post("/api/v1/service-token", {}).json == {"error": "service required"}
    answer = rig.token("no-such-task")
    assert (answer.status, answer.json) == (403, {"error": "Task no-such-task not registered"})
    number = rig.task("repo")
    assert rig.token(f"T{number}", permissions=["contents"]).status == 400
    assert rig.token(f"T{number}", permissions={"contents": "all"}).status == 400


def test_a_task_is_found_by_number_slug_name_and_assignee_in_this_order(rig: Rig) -> None:
    by_assignee = rig.task("repo", assigned_to="finder")
    assert token_is_of(rig, "finder", by_assignee)
    by_name = rig.task("repo", name="finder")
    assert token_is_of(rig, "finder", by_name)
    by_slug = rig.task("repo", slug="finder")
    assert token_is_of(rig, "finder", by_slug)
    newer = rig.task("repo", slug="finder")
    assert token_is_of(rig, "finder", newer)
    rig.request("DELETE", f"/api/v1/tasks/{newer}")
    assert token_is_of(rig, "finder", by_slug)


def test_nobody_gets_another_tasks_token_by_calling_itself_like_it(rig: Rig) -> None:
    victim = rig.task()
    rig.task("repo", name=f"T{victim}", slug=f"T{victim}", assigned_to=f"T{victim}")
    assert rig.token(f"T{victim}").json == {"error": f"Task T{victim} not registered"}


def test_a_name_that_became_anothers_in_between_gives_an_agent_no_token(rig: Rig) -> None:
    own, other = rig.task("repo"), rig.task("other", slug="moved")
    asked = f"issue_token(task_id='moved', caller=Caller('agent', Role.AGENT), only_task={own})"
    imports = "from broker.tokens.issue import issue_token\nfrom core.callers import Caller, Role"
    code = f"import django; django.setup()\n{imports}\n{asked}"
    refused = rig.run("-c", code)
    assert "NotFound: Task moved not found" in refused.stderr
    entry = rig.audit("?task_id=moved")[0]
    assert (entry["outcome"], entry["task_number"]) == ("refused", other)


def token_is_of(rig: Rig, text: str, number: int) -> bool:
    before = rig.get(f"/api/v1/tasks/{number}").json["token_count"]
    assert rig.token(text).status == 200
    return bool(rig.get(f"/api/v1/tasks/{number}").json["token_count"] == before + 1)


def test_a_token_is_cached_for_the_task_and_audited_each_time(rig: Rig) -> None:
    number = rig.task("repo")
    mints = rig.github.mints
    tokens = {rig.token(f"T{number}").json["token"] for _ in range(5)}
    assert len(tokens) == 1
    assert rig.github.mints == mints + 1
    assert rig.get(f"/api/v1/tasks/{number}").json["token_count"] == 5
    entries = rig.audit(f"?task_id=T{number}&action=token_issued")
    digest = base64.b64encode(hashlib.sha256(tokens.pop().encode()).digest()).decode()
    assert [entry["outcome"] for entry in entries] == ["cached"] * 4 + ["issued"]
    assert all(entry["token_sha256"] == digest and entry["repos"] == ["repo"] for entry in entries)
    assert all(entry["permissions"]["contents"] == "write" for entry in entries)


def test_a_caller_that_asks_again_and_again_is_counted_instead_of_filling_the_audit(rig: Rig) -> None:
    number = rig.task("repo")
    for _ in range(15):
        assert rig.token(f"T{number}").status == 200
    entries = rig.audit(f"?task_id=T{number}&action=token_issued")
    assert [entry["outcome"] for entry in entries] == ["cached"] * 10 + ["issued"]
    assert [entry["repeats"] for entry in entries] == [4] + [None] * 10
    assert rig.get(f"/api/v1/tasks/{number}").json["token_count"] == 15


def test_fifty_parallel_calls_mint_once_in_each_worker(rig: Rig) -> None:
    number = rig.task("repo")
    mints = rig.github.mints
    rig.github.delay = 0.2
    try:
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda _: rig.token(f"T{number}"), range(50)))
    finally:
        rig.github.delay = 0
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["token"] for answer in answers}) <= 2, "one for each of two workers at the most"
    assert rig.github.mints <= mints + 2
    assert rig.token(f"T{number}").json in [answer.json for answer in answers]


def test_changed_repositories_drop_the_cached_token_and_the_same_ones_keep_it(rig: Rig) -> None:
    number = rig.task("repo")
    first = rig.token(f"T{number}").json["token"]
    rig.register(number, "org/other")
    second = rig.token(f"T{number}").json["token"]
    rig.register(number, "org/other")
    third = rig.token(f"T{number}").json["token"]
    assert first != second == third
    made = rig.github.token(f"token {second}")
    assert made is not None
    assert made.repositories == ["other"]
    rig.tick()
    assert rig.github.token(f"token {first}") is None
    assert rig.github.token(f"token {second}") is not None


def test_a_token_that_ends_within_ten_minutes_is_refreshed(rig: Rig) -> None:
    number = rig.task("repo")
    rig.github.lifetime = 590
    try:
        first = rig.token(f"T{number}").json["token"]
    finally:
        rig.github.lifetime = 3600
    second = rig.token(f"T{number}").json["token"]
    assert first != second
    assert rig.token(f"T{number}").json["token"] == second
    rig.github.lifetime = 630
    try:
        good = rig.task("repo")
        assert rig.token(f"T{good}").json == rig.token(f"T{good}").json
    finally:
        rig.github.lifetime = 3600
    assert rig.github.token(f"token {first}") is not None  # who holds it goes on using it


def test_an_empty_list_which_is_every_repository_to_github_is_never_sent(rig: Rig) -> None:
    calls = len(rig.github.calls)
    asked = "GitHub.configured().mint([], {'contents': 'read'}, until=time.monotonic() + 5)"
    done = rig.run("-c", f"import django, time; django.setup()\nfrom broker.github.client import GitHub\n{asked}")
    assert "ValueError" in done.stderr
    number = rig.task("repo")
    with rig.database() as database:
        database.execute("UPDATE tasks SET broker_repos = '[]' WHERE id = ?", [number])
    assert rig.token(f"T{number}").json == {"error": f"Task T{number} not registered"}
    assert len(rig.github.calls) == calls


def test_while_github_cannot_be_asked_the_old_token_serves_to_its_last_minute(rig: Rig) -> None:
    number, short = rig.task("repo"), rig.task("repo")
    rig.github.lifetime = 590
    first = rig.token(f"T{number}").json
    rig.github.lifetime = 50
    assert rig.token(f"T{short}").status == 200
    rig.github.lifetime = 3600
    rig.github.fail(Canned(500), Canned(500), Canned(500))
    assert rig.token(f"T{number}").json == first
    rig.github.fail(Canned(429, headers={"retry-after": "30"}))
    assert rig.token(f"T{number}").json == first
    refused = rig.token(f"T{short}")
    assert (refused.status, int(refused.headers["retry-after"]) > 20) == (503, True)
    assert rig.token(f"T{number}").json == first
    forget_the_wait(rig)
    rig.github.fail(Canned(422))
    assert rig.token(f"T{number}").status == 503  # what GitHub refuses is told at once
    assert rig.token(f"T{number}").json["token"] != first["token"]


def forget_the_wait(rig: Rig) -> None:
    with rig.database() as database:
        database.execute("UPDATE broker_githubstate SET blocked_until = NULL, clock_skew = 0")


def test_the_end_of_a_token_is_judged_by_githubs_clock_when_ours_is_slow(rig: Rig) -> None:
    number = rig.task("repo")
    rig.github.clock_skew, rig.github.lifetime = 480, 590  # not so slow that GitHub would refuse
    try:
        first = rig.token(f"T{number}").json["token"]
        assert rig.token(f"T{number}").json["token"] != first
    finally:
        rig.github.clock_skew, rig.github.lifetime = 0, 3600
        forget_the_wait(rig)


def test_a_mint_in_flight_while_the_type_becomes_one_that_may_do_less_reaches_nobody(rig: Rig) -> None:
    number = rig.task("repo")
    live = len(rig.github.live)
    while rig.github.minting.acquire(blocking=False):
        pass
    rig.github.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(rig.token, f"T{number}", permissions={"contents": "write"})
        assert rig.github.minting.acquire(timeout=10)
        assert rig.register(number, "repo", lobster_type="research").status == 200
        rig.github.gate.set()
        answer = asked.result()
    assert answer.status == 403
    assert "contents" in answer.json["error"]
    assert len(rig.github.live) == live


def test_the_agents_type_decides_over_permissions(rig: Rig) -> None:
    number = rig.task()
    rig.register(number, "repo", lobster_type="research")
    assert made_for(rig, f"T{number}").permissions == {"contents": "read", "metadata": "read"}
    rig.register(number, "repo", lobster_type="triage")
    assert made_for(rig, f"T{number}").permissions == {"issues": "write", "metadata": "read"}


def test_a_caller_may_ask_for_less_and_never_gets_more(rig: Rig) -> None:
    number = rig.task("repo")
    wide = rig.token(f"T{number}").json["token"]
    narrow = rig.token(f"T{number}", permissions={"contents": "read"}).json["token"]
    assert narrow != wide
    made = rig.github.token(f"token {narrow}")
    assert made is not None
    assert made.permissions == {"contents": "read", "metadata": "read"}
    assert rig.token(f"T{number}").json["token"] == wide
    for more in ({"contents": "admin"}, {"administration": "read"}):
        answer = rig.token(f"T{number}", permissions=more)
        assert answer.status == 403
        assert next(iter(more)) in answer.json["error"]


def made_for(rig: Rig, task_id: str) -> Any:
    made = rig.github.token(f"token {rig.token(task_id).json['token']}")
    assert made is not None
    return made


def test_a_listed_service_gets_a_token_for_all_repositories(rig: Rig) -> None:
    answer = rig.post("/api/v1/service-token", {"service": "lobboss"})
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    made = rig.github.token(f"token {answer.json['token']}")
    assert made is not None
    assert made.repositories is None
    assert rig.post("/api/v1/service-token", {"service": "lobboss"}).json == answer.json
    newest = rig.get("/api/token/audit?task_id=lobboss").json[0]
    assert (newest["action"], newest["task_id"], newest["repos"]) == ("service_token_issued", "lobboss", ["*"])
    mints = rig.github.mints
    refused = rig.post("/api/v1/service-token", {"service": "evil"})
    assert (refused.status, rig.github.mints) == (403, mints)
    assert rig.audit("?task_id=evil")[0]["outcome"] == "refused"


def test_a_service_that_is_taken_off_while_its_token_is_made_does_not_get_it(rig: Rig) -> None:
    with rig.database() as database:
        database.execute("INSERT INTO broker_allowedservice (name, note) VALUES ('passing', '')")
    live = len(rig.github.live)
    while rig.github.minting.acquire(blocking=False):
        pass
    rig.github.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(rig.post, "/api/v1/service-token", {"service": "passing"})
        assert rig.github.minting.acquire(timeout=10)
        with rig.database() as database:
            database.execute("DELETE FROM broker_allowedservice WHERE name = 'passing'")
        rig.github.gate.set()
        answer = asked.result()
    assert answer.status == 403
    assert len(rig.github.live) == live
