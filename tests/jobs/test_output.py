"""Reading a run's output over REST, from any offset to its very end."""

from __future__ import annotations

import pathlib

import pytest
from django.conf import LazySettings
from django.test import Client

from jobs.execution import output, output_files, output_shipping, runs
from jobs.models import Job, JobRun, OutputPiece, State, Trigger
from tests.support.jobs import capture

LIMIT = 40_000
TEXT = "".join(f"line {number} größe 🦞\n" for number in range(5000)) + "THE END\n"


@pytest.fixture
def run(db: None, tmp_path: pathlib.Path, settings: LazySettings, operator_client: Client) -> JobRun:
    """A run that is over and printed more than is kept."""
    settings.STATE_DIR = tmp_path
    job = Job.objects.create(name="talks", script="talks.sh", schedule="@daily")
    run = runs.request_run(name="talks", trigger=Trigger.OPERATOR, requested_by="olga")
    capture(output_files.output_path(run.pk), TEXT, limit=LIMIT)
    output_shipping.shipper().take_in(run.pk)
    JobRun.objects.filter(job=job).update(state=State.SUCCESS, output_bytes=len(TEXT.encode()))
    return run


def read_to_the_end(client: Client, run: JobRun, offset: int) -> str:
    """What a follower prints that begins at the offset."""
    text = ""
    while True:
        answer = client.get(f"/api/v1/runs/{run.pk}/output?offset={offset}").json()
        text += answer["text"]
        if answer["complete"]:
            assert answer["next_offset"] == len(TEXT.encode())
            return text
        assert answer["next_offset"] > offset
        offset = answer["next_offset"]


@pytest.mark.parametrize("offset", [0, 1, LIMIT // 2 - 1, LIMIT // 2, LIMIT // 2 + 1, 100_000, len(TEXT.encode()) - 3])
def test_output_is_complete_only_at_its_end_whatever_the_first_offset(
    run: JobRun, operator_client: Client, offset: int
) -> None:
    assert read_to_the_end(operator_client, run, offset).endswith("THE END\n"[-3:])


def test_output_of_a_run_that_goes_on_is_not_complete(run: JobRun, operator_client: Client) -> None:
    JobRun.objects.filter(pk=run.pk).update(state=State.RUNNING)
    end = len(TEXT.encode())
    answer = operator_client.get(f"/api/v1/runs/{run.pk}/output?offset={end}").json()
    assert (answer["complete"], answer["text"], answer["next_offset"]) == (False, "", end)


def test_output_of_an_installation_that_came_back_from_postgresql_is_in_files_again(run: JobRun) -> None:
    def files() -> dict[int, bytes]:
        return {start: path.read_bytes() for start, path in output_files.parts(run.pk)}

    before = files()
    OutputPiece.objects.all().delete()
    output_files.write(run.pk, before.items(), [(0, 100), (LIMIT, 500)])  # the latter is left out
    output_shipping.ToDatabase().take_in(run.pk)
    output_files.delete(run.pk)
    output_shipping.InPlace().tidy()
    assert list(files()) == list(before)[:2], "where the head begins, and what is after the gap"
    assert b"".join(files().values()) == b"".join(before.values())
    assert output_files.times(run.pk) == [(0, 100), (list(before)[1], 500)]
    assert not OutputPiece.objects.exists()


@pytest.mark.parametrize("budget", [1, 20, 8192])
def test_the_ends_of_several_outputs_are_what_each_ends_with(run: JobRun, budget: int) -> None:
    short = JobRun.objects.create(job=run.job, state=State.FAILED, trigger=Trigger.REST, queued_at=run.queued_at)
    silent = JobRun.objects.create(job=run.job, state=State.FAILED, trigger=Trigger.REST, queued_at=run.queued_at)
    for piece in (b"a first piece, ", b"a second one\n"):
        with output_files.output_path(short.pk).open("ab") as file:
            file.write(piece)
        output_shipping.shipper().take_in(short.pk)
    tails = output.tails([run.pk, short.pk, silent.pk], budget)
    assert tails.pop(silent.pk, b"") == b""
    assert tails == {run.pk: TEXT.encode()[-budget:], short.pk: b"a first piece, a second one\n"[-budget:]}
