"""docs/api.md: every call that it shows works, in the order of the page."""

from __future__ import annotations

import re
import shlex

from tests.support.installation import ROOT, Installation

TEXT = (ROOT / "docs" / "api.md").read_text()
CALLS = [
    shlex.split(line.replace("$LOBWIFE_URL", ""))[1:]
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]


def test_every_call_of_the_guide_works(installation: Installation) -> None:
    installation.start_web()
    statuses = []
    for words in CALLS:
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        body = words[words.index("-d") + 1].encode() if "-d" in words else None
        [path] = [word for word in words if word.startswith("/")]
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}  # what curl -d sends
        answer = installation.request(method, path, body, headers=headers)
        statuses.append(answer.status)
        if path.endswith("limit=20"):
            assert [task["name"] for task in answer.json] == ["Write the manual"]
        if path.endswith("/events") and method == "GET":
            assert [event["event_type"] for event in answer.json] == ["note", "updated", "created"]
            assert {event["actor"] for event in answer.json} == {"planner", "agent-7"}
    assert statuses == [200, 200, 201, 200, 200, 200, 200, 201, 200, 200]
