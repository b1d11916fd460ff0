"""Compressed copies: made, thinned out, tested."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import random
import stat
from datetime import UTC, datetime, timedelta

import pytest

from core.sqlite.copies import Copy, expired, keep_copy, keep_when_due
from core.sqlite.restore_test import run_when_due
from tests.support.installation import Installation, wait_for

pytestmark = pytest.mark.sqlite("copies of the file")

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def copies_of(installation: Installation) -> list[pathlib.Path]:
    return sorted((installation.state / "backups").glob("*.db.gz"))


def made(moments: list[datetime], size: int = 1) -> list[Copy]:
    return [Copy(moment, pathlib.Path(f"/{number}"), size) for number, moment in enumerate(moments)]


def test_a_backup_is_compressed_private_and_said(installation: Installation) -> None:
    done = installation.manage("backup")
    (copy,) = copies_of(installation)
    assert done.stdout.splitlines()[0] == str(copy)
    assert "1 copies are kept" in done.stdout
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    assert gzip.decompress(copy.read_bytes()).startswith(b"SQLite format 3\0")


def test_hourly_copies_of_weeks_leave_24_of_hours_and_7_of_days() -> None:
    everything = made([NOON - timedelta(hours=hours) for hours in range(24 * 30)])
    random.Random(1).shuffle(everything)
    stay = sorted({*everything} - {*expired(everything)}, reverse=True)
    assert [each.moment for each in stay[:24]] == [NOON - timedelta(hours=hours) for hours in range(24)]
    assert [each.moment.day for each in stay[24:]] == [8, 7, 6, 5, 4]
    assert {each.moment.hour for each in stay[24:]} == {23}


def test_copies_removed_one_by_one_leave_the_same(tmp_path: pathlib.Path) -> None:
    stay: list[Copy] = []
    for hour in range(24 * 20):
        stay += made([NOON + timedelta(hours=hour)])
        gone = expired(stay)
        stay = [each for each in stay if each not in gone]
    newest = stay[-1].moment
    assert [each.moment for each in stay[-24:]] == [newest - timedelta(hours=hours) for hours in reversed(range(24))]
    assert len({each.moment.date() for each in stay}) == 7


def test_together_they_stay_below_the_limit_but_the_newest_always_stays() -> None:
    everything = made([NOON - timedelta(hours=hours) for hours in range(10)], size=30)
    stay = [each for each in everything if each not in expired(everything, most_bytes=100)]
    assert [each.moment for each in stay] == [NOON - timedelta(hours=hours) for hours in range(3)]
    huge = made([NOON, NOON - timedelta(hours=1)], size=500)
    assert expired(huge, most_bytes=100) == [huge[1]]


def test_copies_made_by_hand_are_not_thinned_out() -> None:
    by_hand = [Copy(NOON - timedelta(seconds=second), pathlib.Path(f"/h{second}"), 500, True) for second in range(3)]
    hourly = made([NOON - timedelta(hours=hours) for hours in range(3)])
    assert expired([*by_hand, *hourly], most_bytes=100) == []


@pytest.mark.usefixtures("in_process")
def test_each_copy_of_one_hour_that_was_made_by_hand_stays(installation: Installation) -> None:
    folder = installation.state / "backups"
    folder.mkdir(mode=0o700)
    for second in range(3):
        (folder / f"lobmob-20200101T10000{second}Z-by-hand.db.gz").write_bytes(b"mine")
    newest = keep_copy()
    os.utime(installation.state / "lobmob.db.bak", (0, 0))
    keep_when_due()
    names = [path.name for path in copies_of(installation)]
    assert newest.name in names
    assert sum("by-hand" in name for name in names) == 4


def test_a_backup_goes_into_a_file_and_over_none(installation: Installation, tmp_path: pathlib.Path) -> None:
    plain, packed = tmp_path / "copy.db", tmp_path / "copy.db.gz"
    for target in (plain, packed):
        assert installation.manage("backup", str(target)).stdout == f"{target}\n"
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert plain.read_bytes().startswith(b"SQLite format 3\0")
    assert gzip.decompress(packed.read_bytes()).startswith(b"SQLite format 3\0")
    refused = installation.manage("backup", str(plain), check=False)
    assert refused.returncode == 1
    assert "is there already" in refused.stderr
    assert "can't be made" in installation.manage("backup", str(tmp_path / "no" / "copy"), check=False).stderr
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db", "copy.db.gz"]


@pytest.mark.usefixtures("in_process")
def test_a_backup_removes_expired_copies(installation: Installation) -> None:
    folder = installation.state / "backups"
    folder.mkdir(mode=0o700)
    for minute in range(3):
        (folder / f"lobmob-20200101T10{minute:02}00Z.db.gz").write_bytes(b"old")
    (folder / "notes.txt").write_text("mine")
    (folder / "lobmob-20200101T110000Z.db.gz.part").write_bytes(b"of a killed process")
    keep_copy()
    assert [each.name for each in copies_of(installation)][:-1] == ["lobmob-20200101T100200Z.db.gz"]
    assert (folder / "notes.txt").exists()
    assert not list(folder.glob("*.part"))


def test_the_daemon_keeps_and_tests_copies_by_itself(installation: Installation) -> None:
    with installation.database() as database:
        database.execute("INSERT INTO tasks (name) VALUES ('one')")
    trial = installation.state / "backups" / "last-trial.json"
    installation.start_daemon()
    wait_for(lambda: copies_of(installation), what="a kept copy")
    installation.stop()
    installation.start_daemon()  # the test that came before the first copy is made up for
    wait_for(trial.exists, what="a restore test")
    outcome = json.loads(trial.read_text())
    assert outcome["passed"] is True
    assert outcome["found"].endswith("1 of them tasks")


@pytest.mark.parametrize("damage", ["cut", "garbled"])
@pytest.mark.usefixtures("in_process")
def test_the_restore_test_finds_a_copy_that_can_not_be_restored(installation: Installation, damage: str) -> None:
    keep_copy()
    (copy,) = copies_of(installation)
    content = copy.read_bytes()
    half = len(content) // 2
    copy.write_bytes(content[:half] if damage == "cut" else content[:half] + os.urandom(64) + content[half + 64 :])
    run_when_due()
    outcome = json.loads((copy.parent / "last-trial.json").read_text())
    assert outcome["passed"] is False
    assert "damaged" in outcome["found"]
    assert not list(installation.state.glob(".restore-*"))


@pytest.mark.usefixtures("in_process")
def test_the_restore_test_runs_once_a_week(installation: Installation) -> None:
    keep_copy()
    run_when_due()
    trial = installation.state / "backups" / "last-trial.json"
    first = json.loads(trial.read_text())
    run_when_due()
    assert json.loads(trial.read_text()) == first
    week_old = first | {"tried_at": "2026-01-01T00:00:00.000000+00:00"}
    trial.write_text(json.dumps(week_old))
    run_when_due()
    assert json.loads(trial.read_text())["tried_at"] > first["tried_at"]
