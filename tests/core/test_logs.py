"""Logs: text or JSON, and one id from the request to the end of the run that it asked for."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import signal
from collections.abc import Iterator

import pytest

from core.logs import JsonFormatter, LineFormatter
from tests.support.installation import ROOT, Installation, wait_for
from tests.support.jobs import define


@pytest.fixture
def logging_json(tmp_path: pathlib.Path) -> Iterator[Installation]:
    """Web and daemon under their supervisor, prepared by that start."""
    made = Installation(tmp_path, LOBWIFE_LOG_FORMAT="json")
    made.script("told.sh", 'echo "asked by $LOBWIFE_REQUEST_ID"; exit 3')
    made.migrate()
    made.fork(str(ROOT / "manage.py"), "serve")
    yield made
    made.stop()


def told(installation: Installation) -> list[dict[str, object]]:
    """Every line of the output, but for one that is being written."""
    return [json.loads(line) for line in installation.log().splitlines(keepends=True) if line.endswith("\n")]


def messages(installation: Installation, logger: str) -> str:
    return "\n".join(str(each["message"]) for each in told(installation) if each["logger"] == logger)


def test_every_line_is_json_and_the_id_of_a_request_crosses_from_web_to_the_run_and_its_script(
    logging_json: Installation,
) -> None:
    wait_for(lambda: "the daemon starts" in messages(logging_json, "lobwife.daemon.process"), 60, "the daemon runs")
    wait_for(lambda: "web answers on" in messages(logging_json, "lobwife.web"), 60, "web answers")
    assert "password" in messages(logging_json, "lobwife")
    define(logging_json, {"name": "told", "script": "told.sh"})
    answer = logging_json.post("/api/jobs/told/trigger", headers={"X-Request-ID": "order-66"})
    assert answer.status == 200, answer.body
    assert answer.headers["x-request-id"] == "order-66"
    wait_for(lambda: any("ended: failed" in str(each["message"]) for each in told(logging_json)), 60, "the end")
    about = [each for each in told(logging_json) if each.get("request_id") == "order-66"]
    steps = [word for each in about for word in ("asked for", "started", "ended") if word in str(each["message"])]
    assert sorted(steps) == ["asked for", "ended", "started"]
    assert {each["job"] for each in about} == {"told"}
    assert len({each["run"] for each in about}) == 1
    assert logging_json.get("/api/jobs/told").json["last_output"] == "asked by order-66"
    daemon_log = (logging_json.state / "daemon.log").read_text().splitlines()
    assert all(json.loads(line)["level"] for line in daemon_log)
    with logging_json.database() as database:
        daemon = database.execute("SELECT pid FROM jobs_daemon").fetchone()["pid"]
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: "exited: daemon" in messages(logging_json, "supervisord"), 60, "the supervisor's word")


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "né"])
def test_an_id_that_can_not_be_used_is_replaced(server: Installation, sent: str) -> None:
    headers = {"X-Request-ID": sent} if sent else {}
    first = server.get("/health", headers=headers).headers["x-request-id"]
    second = server.get("/health", headers=headers).headers["x-request-id"]
    assert first != second
    assert len(first) == 32


def test_text_has_the_id_at_the_end_of_the_line(server: Installation) -> None:
    server.script("hello.sh", "echo hello")
    define(server, {"name": "hello", "script": "hello.sh"})
    server.post("/api/jobs/hello/trigger", headers={"X-Request-ID": "order-67"})
    wait_for(lambda: "[order-67]" in server.log(), what="the line")
    (line,) = [each for each in server.log().splitlines() if each.endswith(" [order-67]")]
    assert "run 1 of job hello was asked for" in line


def test_what_a_message_quotes_makes_no_line_of_its_own() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "no %s", ("a\n2026 INFO forged \x1b[31m\udcff",), None)
    assert LineFormatter("%(message)s").format(record) == "no a 2026 INFO forged  [31m "
    assert json.loads(JsonFormatter().format(record).encode())["message"] == "no a\n2026 INFO forged \x1b[31m?"


def test_a_format_that_is_none_is_a_sentence(tmp_path: pathlib.Path) -> None:
    done = Installation(tmp_path, LOBWIFE_LOG_FORMAT="xml").manage("check", check=False)
    assert done.returncode == 1
    assert "LOBWIFE_LOG_FORMAT is 'xml': set it to one of text, json." in done.stderr
    assert "Traceback" not in done.stderr
