"""What a Deployment of the older service sets does what it did there, through the supervisor down to the scripts."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.installation import ROOT, Installation, wait_for
from tests.support.jobs import define_scripts, ended, output_of, trigger

SHOW = 'echo "TZ=${TZ-not set} $(date -d @0 +%H) LOBMOB_ENV=${LOBMOB_ENV-not set}"\n'


@pytest.mark.parametrize(
    ("zone", "shown"),
    [("America/New_York", "TZ=America/New_York 19"), ("", "TZ=not set ")],
    ids=["with a zone", "without one"],
)
def test_scripts_see_the_time_zone_and_words_of_the_deployment(tmp_path: pathlib.Path, zone: str, shown: str) -> None:
    made = Installation(tmp_path, LOBMOB_ENV="staging", VAULT_SYNC_INTERVAL="0", **({"TZ": zone} if zone else {}))
    try:
        made.migrate()
        define_scripts(made, {"show.sh": SHOW})
        process = made.fork(str(ROOT / "manage.py"), "serve")
        wait_for(lambda: process.poll() is not None or made._answers(), 120, "it answers")
        assert process.poll() is None, made.log()
        run = trigger(made, "show")
        assert ended(made, run, 60)["state"] == "success"
        output = output_of(made, run)
        assert output.startswith(shown)
        assert "LOBMOB_ENV=staging" in output
    finally:
        made.stop()


@pytest.mark.parametrize("interval", ["0", "604800", "4000000000000"])
def test_an_interval_of_the_vault_is_taken_or_refused_before_anything_runs(
    tmp_path: pathlib.Path, interval: str
) -> None:
    done = Installation(tmp_path, VAULT_SYNC_INTERVAL=interval).manage("check", check=False)
    assert (done.returncode == 0) is (len(interval) < 10)
    if done.returncode:
        assert "VAULT_SYNC_INTERVAL is '4000000000000': set it to a whole number" in done.stderr
