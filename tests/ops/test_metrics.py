"""`/metrics`: what Prometheus reads is what the database has, and what dashboard and alerts ask for is there."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from core.database.backend import is_postgres
from tests.support.installation import ROOT, Installation
from tests.support.jobs import define

MONITORING = ROOT / "deploy" / "monitoring"
ASKED = re.compile(r"\blobwife_[a-z0-9_]+")


def scrape(installation: Installation, **options: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    answer = installation.get("/metrics", **options)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def filled(server: Installation) -> Installation:
    subprocess.run(["git", "init", "-q", "-b", "main", str(server.vault)], check=True)
    server.script("hello.sh", "echo hello")
    define(server, {"name": "nightly", "script": "hello.sh", "schedule": "0 3 * * *"})
    for number in range(3):
        server.post("/api/v1/tasks", {"name": f"task {number}"})
    server.request("PATCH", "/api/v1/tasks/1", {"status": "completed"})
    with server.database() as database:
        database.execute("INSERT INTO tasks (name, status, created_at) VALUES ('odd', 'pa\"used\\', 'yesterday')")
        database.execute("DELETE FROM job_state WHERE name = 'nightly'")
        failures = 0 if is_postgres() else "many"  # in an old file
        database.execute("INSERT INTO job_state (name, run_count, fail_count) VALUES ('nightly', 7, ?)", [failures])
        database.execute("UPDATE jobs_job SET failures_in_row = 2 WHERE name = 'nightly'")
        database.execute(
            "INSERT INTO token_audit (task_id, action, outcome, created_at) VALUES"
            " ('1', 'token_issued', 'issued', ?),"
            " ('1', 'token_issued', 'issued', '2026-01-01T00:00:00+00:00'), ('1', 'x', NULL, 'when')",
            [f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}+00:00"],
        )
    return server


def test_figures_are_those_of_the_database(filled: Installation) -> None:
    found = scrape(filled)
    assert found["lobwife_tasks", ("queued",)] == 2
    assert found["lobwife_tasks", ("completed",)] == 1
    assert found["lobwife_tasks", ('pa"used\\',)] == 1
    assert ("lobwife_tasks_oldest_age_seconds", ("completed",)) not in found
    assert 0 <= found["lobwife_tasks_oldest_age_seconds", ("queued",)] < 3600
    assert found["lobwife_job_runs_total", ("nightly",)] == 7
    assert found["lobwife_job_failures_total", ("nightly",)] == 0, "what can't be read counts as none"
    assert found["lobwife_job_failing", ("nightly",)] == 1
    assert found["lobwife_token_outcomes_last_hour", ("issued",)] == 1
    assert found["lobwife_daemon_up", ()] == 0
    assert found["lobwife_sync_enabled", ()] == 1
    assert found["lobwife_sync_pending_events", ()] >= 4
    assert found["lobwife_database_bytes", ()] > 4096
    assert found["lobwife_backup_copies", ()] == 0
    assert ("lobwife_backup_age_seconds", ()) not in found


def test_both_ports_and_any_host_are_answered(filled: Installation) -> None:
    for port in (filled.web_port, filled.api_port):
        assert scrape(filled, port=port, headers={"Host": "10.1.2.3:8080"})


@pytest.mark.sqlite("copies of the file")
def test_a_copy_and_its_trial_are_shown(filled: Installation) -> None:
    filled.manage("backup")
    code = "import django; django.setup(); from core.sqlite.restore_test import run_restore_test; run_restore_test()"
    assert filled.run("-c", code).returncode == 0
    found = scrape(filled)
    assert found["lobwife_backup_copies", ()] == 1
    assert found["lobwife_backup_age_seconds", ()] < 3600
    assert found["lobwife_backup_trial_passed", ()] == 1


def test_a_database_that_can_not_be_read_is_a_503(server: Installation) -> None:
    with server.database() as opened:
        opened.execute("ALTER TABLE tasks RENAME TO hidden")
    try:
        assert server.get("/metrics").status >= 500
    finally:
        with server.database() as opened:
            opened.execute("ALTER TABLE hidden RENAME TO tasks")
    assert server.get("/metrics").status == 200


def asked_for() -> dict[str, set[str]]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    expressions = {
        "dashboard": [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]],
        "alerts": [rule["expr"] for group in rules["groups"] for rule in group["rules"]],
    }
    return {name: {found for each in texts for found in ASKED.findall(each)} for name, texts in expressions.items()}


def test_dashboard_and_alerts_ask_only_for_what_there_is(filled: Installation) -> None:
    exposed = filled.get("/metrics").body.decode()
    there = set(re.findall(r"^# TYPE (\S+)", exposed, re.MULTILINE))
    for name, asked in asked_for().items():
        assert asked, name
        assert asked - there == set(), name


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_panels_do_not_overlap() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
