"""lobmob-status-reporter.py: what is known, and unknown where it is not."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from tests.support.fleet import Fleet
from tests.support.installation import Installation, moment
from tests.support.receiver import receiver

SCRIPT = "lobmob-status-reporter.py"


@pytest.fixture
def fleet(tmp_path: pathlib.Path, server: Installation) -> Fleet:
    with server.database() as database:
        for table in ("task_events", "tasks", "jobs_jobrun"):
            database.execute(f"DELETE FROM {table}")
    return Fleet(tmp_path / "fleet", server)


def facts(fleet: Fleet, *, code: int = 0, **environment: str) -> dict[str, Any]:
    done = fleet.run(SCRIPT, "--format", "json", **environment)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def pod(name: str, phase: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "status": {"phase": phase}}


def test_the_report_says_what_the_fleet_does(fleet: Fleet, server: Installation) -> None:
    for status in ("queued", "active", "active", "failed"):
        server.post("/api/v1/tasks", {"name": f"a {status} one", "status": status})
    with server.database() as database:
        database.execute("UPDATE tasks SET created_at = ? WHERE status = 'queued'", (moment(minutes=-90),))
    fleet.kubectl = {
        "pods": [pod("lobster-swe-t1", "Running"), pod("lobster-image-gen-t2", "Running"), pod("x", "Pending")],
        "nodes": [{"metadata": {"name": name}} for name in "abc"],
    }
    fleet.kubectl["pods"][2]["metadata"]["labels"] = {"lobmob.io/lobster-type": "research"}
    fleet.gh["repos"]["org/vault"] = {"pulls": [{"number": 1}, {"number": 2}]}
    fleet.save()
    report = facts(fleet)
    assert report["agents"] == {"running": {"swe": 1, "image-gen": 1}, "pending": {"research": 1}}
    assert {name: count for name, count in report["tasks"].items() if count} == {"queued": 1, "active": 2, "failed": 1}
    assert report["oldest_queued"]["minutes"] == pytest.approx(90, abs=2)
    assert [each["name"] for each in report["failed_since_last_report"]] == ["a failed one"]
    assert report["open_pull_requests"] == 2
    assert (report["tokens_issued"], report["jobs_failing"]) == (0, [])
    assert report["monthly_cost_usd"] == 96
    assert facts(fleet, LOBMOB_NODE_MONTHLY_USD="10")["monthly_cost_usd"] == 40
    text = fleet.run(SCRIPT).stdout
    for words in ("2 active", "running: 2 (image-gen 1, swe 1)", "pending: 1 (research 1)", "96 USD", "a failed one"):
        assert words in text


def test_more_tasks_than_a_page_are_counted_exactly(fleet: Fleet, server: Installation) -> None:
    with server.database() as database:
        database.executemany("INSERT INTO tasks (name, status) VALUES (?, 'queued')", [("many",)] * 1203)
    assert facts(fleet)["tasks"]["queued"] == 1203


def test_a_failure_is_in_one_report_only(fleet: Fleet, server: Installation) -> None:
    number = server.post("/api/v1/tasks", {"name": "old", "status": "failed"}).json["id"]
    assert len(facts(fleet)["failed_since_last_report"]) == 1
    with server.database() as database:
        database.execute("UPDATE tasks SET updated_at = ? WHERE id = ?", (moment(minutes=-31), number))
    assert facts(fleet)["failed_since_last_report"] == []


@pytest.mark.parametrize("trouble", ["missing", "failing", "garbage"])
def test_what_is_not_known_is_not_called_zero(fleet: Fleet, trouble: str) -> None:
    for tool in ("gh", "kubectl"):
        if trouble == "missing":
            fleet.remove(tool)
        else:
            setattr(fleet, tool, {"exit": 1} if trouble == "failing" else {"answer": "<html>"})
    fleet.save()
    report = facts(fleet, code=0 if trouble == "missing" else 1)
    for name in ("agents", "open_pull_requests", "nodes", "monthly_cost_usd"):
        assert report[name] == "unknown"
    assert report["tasks"]["queued"] == 0
    assert "agents running: unknown" in fleet.run(SCRIPT).stdout


def test_the_report_is_posted_where_a_bot_and_a_channel_are_set(fleet: Fleet) -> None:
    with receiver() as discord:
        bot = {"DISCORD_BOT_TOKEN": "bot-secret-word", "DISCORD_API_URL": f"http://127.0.0.1:{discord.port}"}
        for environment in (bot, {**bot, "SWARM_LOGS_CHANNEL_ID": "0"}):
            assert "not posted" in fleet.run(SCRIPT, **environment).stdout
        fleet.run(SCRIPT, "--dry-run", SWARM_LOGS_CHANNEL_ID="42", **bot)
        assert discord.paths == []
        done = fleet.run(SCRIPT, SWARM_LOGS_CHANNEL_ID="42", **bot)
        assert done.returncode == 0
        assert "posted to Discord" in done.stdout.splitlines()[-1]
        fleet.run(SCRIPT, SWARM_LOGS_CHANNEL_ID="42", DISCORD_CHANNEL_SWARM_LOGS="43", **bot)
        assert discord.paths == ["/channels/42/messages", "/channels/43/messages"]
        assert "Fleet at" in json.loads(discord.bodies[0])["content"]
        discord.status = 500
        done = fleet.run(SCRIPT, SWARM_LOGS_CHANNEL_ID="42", **bot)
        assert done.returncode == 1
        assert "Discord answered 500" in done.stderr
        assert "bot-secret-word" not in done.stdout + done.stderr
        discord.status, discord.raw = 200, b"who is there?\r\n"
        done = fleet.run(SCRIPT, SWARM_LOGS_CHANNEL_ID="42", **bot)
        assert (done.returncode, done.stderr) == (1, "Discord: the answer is not HTTP\n")
        for address in ("http://[", "http://person:bot-secret-word@host", "http://127.0.0.1:9/a b"):
            done = fleet.run(SCRIPT, SWARM_LOGS_CHANNEL_ID="42", **bot | {"DISCORD_API_URL": address})
            assert (done.returncode, done.stderr) == (1, "Discord: DISCORD_API_URL can't be used as an address\n")


@pytest.mark.parametrize("address", ["host", "http://host:abc", "http://127.0.0.1:99999", "http://[", "http://a..b"])
def test_an_address_of_lobwife_that_is_none_is_told_in_a_sentence(tmp_path: pathlib.Path, address: str) -> None:
    fleet = Fleet(tmp_path / "fleet")
    done = fleet.run(SCRIPT, LOBWIFE_URL=address)
    assert (done.returncode, done.stderr) == (1, "LOBWIFE_URL must be an address such as http://127.0.0.1:8081\n")


def test_a_lobwife_that_is_away_is_a_failure_in_a_sentence(fleet: Fleet) -> None:
    done = fleet.run(SCRIPT, LOBWIFE_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "lobwife does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert "--format" in fleet.run(SCRIPT, "--help").stdout
