"""docs/jobs.md: what it tells people to type works."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

import pytest

from tests.support.installation import ROOT, Installation, wait_for

TEXT = (ROOT / "docs" / "jobs.md").read_text()
BLOCKS = dict.fromkeys(re.findall(r"```sh\n(.*?)```", TEXT, re.S))
LINES = [line for block in BLOCKS for line in block.splitlines()]
COMMANDS = [shlex.split(line)[1:] for line in LINES if line.startswith("manage.py ")]
CALLS = [shlex.split(line.replace("$LOBWIFE_URL", "")) for line in LINES if line.startswith("curl ")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("site"))
    try:
        made.migrate()
        [definition] = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
        (made.folder / "jobs.yaml").write_text(definition)
        made.start_web()
        made.start_daemon()
        yield made
    finally:
        made.stop()


def test_every_command_and_every_call_works_in_the_order_of_the_page(site: Installation) -> None:
    made_run = ""
    assert len(COMMANDS) == 14
    for words in COMMANDS:
        if words[0] == "abort":  # one that can be aborted, in the place of the example's number
            site.script("slow.sh", "sleep 60\n")
            (site.folder / "slow.yaml").write_text("jobs: {slow: {script: slow.sh, schedule: '@yearly'}}")
            site.manage("jobs", "import", str(site.folder / "slow.yaml"))
            site.manage("trigger", "slow")
            [run] = json.loads(site.manage("runs", "slow", "--json").stdout)
            words = ["abort", str(run["id"]), *words[2:]]
        elif words[0] == "logs" or words[:3] == ["trigger", "nightly-report", "--follow"]:
            wait_for(lambda: _latest(site) not in {"queued", "running"})
        words = [str(site.folder / word) if word.endswith(".yaml") else word for word in words]
        site.manage(*words)
    assert len(CALLS) == 9
    for _, *words in CALLS:
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        body = words[words.index("-d") + 1].encode() if "-d" in words else None
        [path] = [word for word in words if word.startswith("/api")]
        if path.endswith("/retry"):
            _wait_for_end(site, made_run)
        answer = site.request(method, path.replace("/17", f"/{made_run}"), body)
        # A run of hello.py can be over before its abort is asked for.
        assert answer.status in ({200, 201, 409} if path.endswith("/abort") else {200, 201}), (path, answer.body)
        if path.endswith("/runs") and method == "POST":
            made_run = str(answer.json["id"])


def test_the_defaults_that_the_page_names_are_those_of_the_settings() -> None:
    configuration = (ROOT / "docs" / "configuration.md").read_text()
    assert "| `LOBWIFE_KEEP_RUNS_DAYS` | runs that ended longer ago are removed | 90 |" in configuration
    assert "Runs for 90 days and at most 1,000 of a job; of all output 200 MB" in TEXT


def _latest(site: Installation) -> str:
    return str(json.loads(site.manage("runs", "nightly-report", "--limit", "1", "--json").stdout)[0]["state"])


def _wait_for_end(site: Installation, run: str) -> None:
    wait_for(lambda: site.get(f"/api/v1/runs/{run}").json["state"] not in {"queued", "running"})
