"""What charts count: runs, queue, agents, tokens over time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.test import Client

from broker.models import TokenAudit
from core.timestamps import iso_text, seconds_text
from jobs.models import Job, JobRun, State
from ops import trends
from tasks.models import Task
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]
NOW = datetime(2026, 2, 16, 12, 30, tzinfo=UTC)


def span() -> trends.Span:
    return trends.Span.until(NOW, seconds=3600, count=4)


def test_steps_begin_at_round_times_and_the_last_holds_now() -> None:
    assert [moment.hour for moment in span().moments] == [9, 10, 11, 12]


def test_runs_are_counted_by_how_they_ended_and_how_long_they_took() -> None:
    jobs = list(Job.objects.all()[:2])
    for job, minutes, state, seconds in (
        *((jobs[0], 100, State.SUCCESS, 10.0) for _ in range(19)),
        (jobs[0], 100, State.SUCCESS, 300.0),
        (jobs[0], 10, State.FAILED, 1.0),
        (jobs[1], 10, State.SUCCESS, 5.0),
        (jobs[1], 10, State.SKIPPED, None),
        (jobs[1], 600, State.SUCCESS, 5.0),
    ):
        queued = NOW - timedelta(minutes=minutes)
        JobRun.objects.create(job=job, state=state, trigger="schedule", queued_at=queued, duration=seconds)
    counted = trends.runs(span())
    assert (counted.succeeded, counted.failed) == ([0, 20, 0, 1], [0, 0, 0, 1])
    assert counted.success_rate == [None, 100, None, 50]
    assert counted.median[1] == pytest.approx(10, rel=0.06)
    assert counted.p95[1] == pytest.approx(10, rel=0.06)
    assert trends.runs(span(), jobs[1].pk).succeeded == [0, 0, 0, 1]


def task(status: str, queued: int, assigned: int | None = None, ended: int | None = None, **fields: object) -> None:
    """A task with times in minutes before now."""

    def ago(minutes: int | None) -> datetime | None:
        return None if minutes is None else NOW - timedelta(minutes=minutes)

    begin, end = ago(queued), ago(ended)
    times = {
        "queued_at": seconds_text(begin),
        "created_at": seconds_text(begin),
        "updated_at": seconds_text(end or NOW),
    }
    assigned_at = iso_text(ago(assigned)) if assigned is not None else None
    completed_at = iso_text(end) if status == "completed" else None
    about = {"assigned_at": assigned_at, "completed_at": completed_at, "assigned_to": "lobster-1" if assigned else None}
    Task.objects.create(name="t", status=status, **{**times, **about, **fields})


def test_queue_agents_and_what_was_done_are_counted_from_the_tasks() -> None:
    task("completed", 170, 130, 100, type="qa", repos='["acme/web"]')  # queued from 9:40, taken 10:20, done 10:50
    task("failed", 200, 190, 25)
    task("queued", 90)  # since 11:00
    task("cancelled", 100, None, 95)
    with time_machine.travel(NOW, tick=False):
        counted = trends.tasks(span())
    assert counted.queued == [1, 0, 1, 1]
    assert counted.oldest_seconds[0] == 20 * 60
    assert counted.agents == [1, 1, 1, 1]
    assert (counted.completed, counted.failed) == ([0, 1, 0, 0], [0, 0, 0, 1])
    assert [(row.name, row.count, row.median) for row in counted.by_type] == [("qa", 1, 1800)]
    assert [row.name for row in counted.by_repository] == ["acme/web"]


def test_tokens_count_when_they_were_handed_out() -> None:
    for action, outcome in (
        ("token_issued", "issued"),
        ("token_issued", None),
        ("service_token_issued", "cached"),
        ("token_refused", "refused"),
        ("task_registered", "done"),
    ):
        at = iso_text(NOW - timedelta(minutes=70))
        TokenAudit.objects.create(task_id="T1", action=action, outcome=outcome, created_at=at)
    assert trends.tokens(span()) == [0, 0, 3, 0]


def test_the_page_has_values_on_hover_and_a_table_behind_each_chart(operator_client: Client) -> None:
    JobRun.objects.create(
        job=Job.objects.all()[0],
        state=State.SUCCESS,
        trigger="rest",
        queued_at=NOW - timedelta(minutes=5),
        duration=65.0,
    )
    with time_machine.travel(NOW, tick=False):
        for name in ("6h", "24h", "7d", "14d", "30d", "nonsense"):
            page = text(operator_client, f"/admin/charts/?range={name}")
            assert "success rate" in page.lower()
        page = text(operator_client, f"/admin/charts/?job={Job.objects.all()[0].name}")
    assert "<title>Mon 16 Feb 12:00: ended well 1, failed 0</title>" in page
    assert '<th scope="row">Mon 16 Feb 12:00</th>' in page
    assert f"Runs of {Job.objects.all()[0].name}" in page
