"""Output that lies in files when a daemon starts on PostgreSQL goes to the database, and is read from there."""

from __future__ import annotations

import pathlib

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client

from core.timestamps import utc_now
from jobs.execution import output, output_files
from jobs.execution.output_shipping import shipper
from jobs.models import Job, JobRun, State, Trigger

pytestmark = pytest.mark.django_db


def test_what_a_moved_installation_has_in_files_is_taken_in(settings: LazySettings, tmp_path: pathlib.Path) -> None:
    settings.STATE_DIR = tmp_path
    job = Job.objects.create(name="talks", script="hello.py", schedule="@daily")
    run = JobRun.objects.create(job=job, state=State.SUCCESS, trigger=Trigger.REST, queued_at=utc_now())
    text = b"a line of output\n" * 100_000
    files = {run.pk: output_files.output_path(run.pk), run.pk + 1: output_files.output_path(run.pk + 1)}
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)

    shipper().tidy()

    assert b"".join(output.whole(run.pk)) == text
    assert output.end(run.pk + 1) == 0, "there is no such run"
    assert not any(path.exists() for path in files.values())


@pytest.mark.django_db(transaction=True)
def test_a_download_holds_no_connection_while_it_is_read(
    operator_client: Client, settings: LazySettings, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STATE_DIR = tmp_path
    job = Job.objects.create(name="talks", script="hello.py", schedule="@daily")
    run = JobRun.objects.create(job=job, state=State.SUCCESS, trigger=Trigger.REST, queued_at=utc_now())
    path = output_files.output_path(run.pk)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a line of output\n" * 20_000)
    shipper().tidy()
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)  # as in web
    pieces = 0
    for _ in operator_client.get(f"/admin/jobs/jobrun/{run.pk}/output/"):
        pieces += 1
        assert connection.connection is None
    assert pieces > 1
