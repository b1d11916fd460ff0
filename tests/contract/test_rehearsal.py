"""The change over from the older service, and back, as deploy/rehearse plays it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.installation import ROOT

pytestmark = pytest.mark.sqlite("the older service's file")


def rehearse(*options: str) -> list[list[str]]:
    """The table's lines, without its head; fails when one of them did."""
    command = [sys.executable, str(ROOT / "deploy" / "rehearse"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start", "again"),
    [
        ("none or 1000, old of root, fsGroup", "ok", "ok"),
        ("2000, old of 1000", "lobwife: uid 2000 may not write /home/lobwife/state", None),
    ],
)
def test_a_line_of_it(name: str, start: str, again: str | None) -> None:
    [[line, started, *results]] = rehearse("--only", name)
    assert line == name
    assert started.startswith(start)
    assert (results[-1] if results else None) == again


@pytest.mark.soak
def test_all_of_it() -> None:
    assert len(rehearse()) > 10
