"""`.ci/audit` fails for a known vulnerability alone, and never says that it looked when it could not."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from tests.support.installation import ROOT

DJANGO, X = '{"name": "django", "vulns": []}', '{"name": "x", "skip_reason": "Dependency not found"}'
WELL = f'{{"dependencies": [{DJANGO}, {X}]}}'
SKIPPED = '{"dependencies": [{"name": "django", "skip_reason": "Dependency not found on PyPI"}]}'
HOLE = '{"dependencies": [{"name": "django", "vulns": [{"id": "PYSEC-1", "fix_versions": ["5.2.1"]}]}]}'


def audit(folder: pathlib.Path, pip_audit: str) -> tuple[int, str]:
    """Run it with a program in the place of Python, which says what pip-audit would."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{pip_audit}")
    python.chmod(0o755)
    process = subprocess.run([".ci/audit", str(python)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return process.returncode, process.stdout + process.stderr


@pytest.mark.parametrize(
    ("pip_audit", "code", "words"),
    [
        (f"echo '{WELL}'", 0, "no known vulnerability in 1 requirements"),
        (f"echo '{SKIPPED}'", 0, "not done, since PyPI here says nothing"),
        ("echo 'ServiceError: ConnectionError'; exit 1", 0, "not done, since PyPI can't be reached"),
        (f"echo '{HOLE}'; exit 1", 1, "PYSEC-1"),
        ("echo 'Traceback'; exit 2", 1, "Traceback"),
    ],
)
def test_only_a_vulnerability_fails_the_audit(tmp_path: pathlib.Path, pip_audit: str, code: int, words: str) -> None:
    returned, said = audit(tmp_path, pip_audit)
    assert returned == code
    assert words in said


def test_tests_begin_with_the_audit() -> None:
    listed = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ".ci/audit" in listed
    assert "--select S" not in listed, "which overrides what the configuration ignores"
