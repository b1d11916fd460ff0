"""docs/configuration.md and the environment variables that the code reads."""

from __future__ import annotations

import re

from tests.support.installation import ROOT

READ = re.compile(r'\benv\.(?:text|integer|boolean|choice|path|words)\(\s*"([A-Z_]+)"')


def test_every_variable_that_is_read_is_documented() -> None:
    sources = [
        path
        for app in ("lobwife", "ops", "access", "broker", "jobs", "vaultsync", "webhooks", "tasks", "events", "core")
        for path in (ROOT / app).rglob("*.py")
    ]
    read = {name for path in sources for name in READ.findall(path.read_text())}
    assert "LOBWIFE_STATE_DIR" in read
    documented = set(re.findall(r"`([A-Z_]+)`", (ROOT / "docs" / "configuration.md").read_text()))
    assert read - documented == set()
