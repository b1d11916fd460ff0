"""Runs on several nodes: by label, each once, with output and aborts across them, and what is left of a dead runner."""

from __future__ import annotations

import pathlib
import signal
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models.functions import Now
from procrastinate.contrib.django.models import ProcrastinateJob

from core.timestamps import utc_now
from jobs import services
from jobs.execution import dead_runners, output, output_files, output_shipping, queue_reasons, runs
from jobs.execution.dead_runners import DeadRunners
from jobs.execution.process import boot_id
from jobs.execution.queues import queue
from jobs.execution.queues.distributed import DistributedQueue
from jobs.execution.runs import Ending, Process
from jobs.models import Concurrency, Job, JobRun, Node, NodeKind, OutputPiece, State, Trigger
from tests.support.installation import wait_for
from tests.support.jobs import NEVER, Capture, is_running
from tests.support.runners import Runners, ended, node_of, pid_of, running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
WAITS = 'echo begun; echo $$ > "$HERE/pid-$LOBWIFE_RUN_ID"; until [ -e "$HERE/go" ]; do sleep 0.05; done; echo over\n'
TALKS = 'echo $$ > "$HERE/pid-$LOBWIFE_RUN_ID"; while :; do echo a line; sleep 0.1; done\n'
TRIVIAL = 'echo "$LOBWIFE_RUN_ID" >> "$HERE/done"\n'


def request(job: Job) -> JobRun:
    return runs.request_run(name=job.name, trigger=Trigger.COMMAND, requested_by="olga")


def request_many(job: Job, count: int) -> list[JobRun]:
    """As a schedule that catches up does."""
    new = [runs.new_run(job, Trigger.CATCH_UP, utc_now()) for _ in range(count)]
    with transaction.atomic():
        runs.insert(new)
    return new


def jobs_of(run: JobRun) -> list[tuple[str, str]]:
    """State and queue of what procrastinate has of a run."""
    rows = ProcrastinateJob.objects.filter(args__run_id=run.pk)
    return list(rows.values_list("status", "queue_name"))


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[Runners]:
    """One that serves `gpu` and one that serves `build`; both serve `any`."""
    with Runners(tmp_path_factory.mktemp("runners")) as made:
        made.start("gpu,any")
        made.start("build,any,default")
        yield made


@pytest.fixture
def both(runners: Runners) -> Iterator[Runners]:
    runners.wait_until_up()
    yield runners
    JobRun.objects.all().delete()
    for path in runners.here.iterdir():
        path.unlink()


# --- across processes
def test_a_runner_executes_the_runs_of_its_labels(both: Runners) -> None:
    jobs = [both.job(f"on-{label or 'none'}", "echo $0", runs_on=label) for label in ("gpu", "build", "")]
    done = [ended(request(job)) for job in jobs]
    assert [run.state for run in done] == ["success"] * 3, both.log()
    assert [pid_of(run) for run in done] == [both.processes[place].pid for place in (0, 1, 1)]
    wait_for(lambda: not ProcrastinateJob.objects.exists(), what="procrastinate has nothing of them")


def test_a_command_waits_for_a_run_of_a_runner_where_no_daemon_is_up(both: Runners) -> None:
    job = both.job("waited-for", "exit 3", runs_on="gpu")
    with pytest.raises(SystemExit) as ended_by:
        call_command("trigger", job.name, "--wait")
    assert ended_by.value.code == 3
    lonely = both.job("waited-for-in-vain", TRIVIAL, runs_on="tpu")
    with pytest.raises(CommandError, match="no runner for tpu is up"):
        call_command("trigger", lonely.name, "--wait")


def test_a_label_that_nobody_serves_keeps_a_run_waiting_and_says_so(both: Runners) -> None:
    run = request(both.job("lonely", TRIVIAL, runs_on="tpu"))
    assert "a runner for tpu" in (queue_reasons.for_run(run) or "")
    runs.abort_run(run_id=run.pk, actor="olga")
    assert jobs_of(run) == []


def test_output_is_read_while_it_is_written_and_an_abort_arrives_at_once(both: Runners) -> None:
    run = running(request(both.job("talks", TALKS, runs_on="gpu")))
    with output.growth(run.pk) as has_grown:
        wait_for(lambda: output.read(run.pk).data.startswith(b"a line\n"), what="its first line is read here")
        wait_for(has_grown, what="who waits for more hears of it")
    assert output.times(run.pk)
    asked = time.monotonic()
    runs.abort_run(run_id=run.pk, actor="olga")
    over = ended(run)
    assert time.monotonic() - asked < 10  # 2 s on a machine that is not overloaded
    assert (over.state, over.note) == ("aborted", "aborted by olga")
    assert not is_running(int((both.here / f"pid-{run.pk}").read_text()))
    wait_for(lambda: not list(both.folder.glob(f"state-*/runs/*/{run.pk}.*")), what="its files are gone")


def test_each_run_is_executed_once_and_a_job_has_no_more_at_once_than_it_may(both: Runners) -> None:
    wide = both.job("wide", TRIVIAL, runs_on="any", concurrency=Concurrency.ALLOW, max_parallel=9)
    narrow = both.job("narrow", TRIVIAL, runs_on="any", concurrency=Concurrency.QUEUE)
    asked = [*request_many(wide, 8), *request_many(narrow, 4)]
    done = [ended(run, 60) for run in asked]
    assert {run.state for run in done} == {"success"}, both.log()
    assert sorted(map(int, (both.here / "done").read_text().split())) == [run.pk for run in asked]
    in_turn = [run for run in done if run.job_id == narrow.pk]
    assert all(before.ended_at <= after.started_at for before, after in zip(in_turn, in_turn[1:], strict=False))


def test_nothing_starts_while_starts_are_paused(both: Runners) -> None:
    job = both.job("held", TRIVIAL, runs_on="any", concurrency=Concurrency.ALLOW, max_parallel=9)
    services.set_paused(paused=True, actor="olga")
    asked = request_many(job, 6)
    wait_for(lambda: ProcrastinateJob.objects.filter(status="doing").count() == 4, what="all slots hold a run")
    runs.abort_run(run_id=asked[0].pk, actor="olga")
    assert not JobRun.objects.exclude(state__in=(State.QUEUED, State.ABORTED)).exists()
    services.set_paused(paused=False, actor="olga")
    assert [ended(run).state for run in asked] == ["aborted", *["success"] * 5]


def test_what_a_killed_runner_executed_is_lost_and_tried_again_elsewhere(both: Runners, tmp_path: pathlib.Path) -> None:
    with Runners(tmp_path, both) as victims:
        victim = victims.start("victim", parallel=1)
        victims.wait_until_up()
        job = both.job("precious", WAITS, runs_on="victim", retries=1, retry_delay_seconds=0)
        run = running(request(job))
        wait_for(lambda: output.read(run.pk).data == b"begun\n")
        victim.kill()
        victim.wait()
    Job.objects.update(runs_on="any")
    script = int((both.here / f"pid-{run.pk}").read_text())
    wait_for(lambda: not is_running(script), what="nothing of it goes on")
    leader = DeadRunners(grace_seconds=0)
    leader.tick()
    assert state_of(run) == State.RUNNING  # it may have lost its connection
    Node.objects.filter(pk=run.node_row).update(beat_at=Now() - timedelta(minutes=1))
    leader.tick()
    lost = ended(run)
    assert (lost.state, lost.note) == ("lost", f"its runner {run.node} died while it ran")
    assert output.read(run.pk).data == b"begun\n"
    (both.here / "go").touch()
    again = ended(JobRun.objects.get(retry_of=run))
    assert again.state == "success"
    assert pid_of(again) in [process.pid for process in both.processes]


def state_of(run: JobRun) -> str:
    return JobRun.objects.values_list("state", flat=True).get(pk=run.pk)


def test_a_runner_that_stops_ends_its_runs_and_hands_back_what_it_has_not_started(
    both: Runners, tmp_path: pathlib.Path
) -> None:
    retries = {"retries": 1, "retry_delay_seconds": 3600}
    job = both.job("goes", WAITS, runs_on="slow", concurrency=Concurrency.ALLOW, max_parallel=9, **retries)
    with Runners(tmp_path, both) as stops:
        stops.start("slow", parallel=1)
        stops.wait_until_up()
        run = running(request(job))
        services.set_paused(paused=True, actor="olga")
        stops.stop()
        assert stops.processes[0].returncode == 0, stops.log()
        over = ended(run)
        assert (over.state, over.note) == ("aborted", "aborted by the shutdown of its runner")
        assert JobRun.objects.get(retry_of=run).state == State.QUEUED
    with Runners(tmp_path / "second", both) as stops:
        stops.start("slow", parallel=1)
        stops.wait_until_up()
        held = request(job)
        wait_for(lambda: jobs_of(held) == [("doing", "slow")], what="it is fetched")
        stops.stop()
        assert stops.processes[0].returncode == 0, stops.log()
        assert node_of(stops.processes[0]) is None
    assert jobs_of(held) == [("todo", "slow")]
    assert state_of(held) == State.QUEUED


@pytest.mark.soak
def test_four_runners_lose_and_double_none_of_400_runs(tmp_path: pathlib.Path) -> None:
    with Runners(tmp_path) as four:
        job = four.job("trivial", TRIVIAL, runs_on="many", concurrency=Concurrency.ALLOW, max_parallel=32000)
        for _ in range(4):
            four.start("many", parallel=3)
        four.wait_until_up()
        asked = request_many(job, 400)
        four.processes[0].send_signal(signal.SIGTERM)  # what it has goes to the others
        done = [ended(run, 300) for run in asked]
    executed = sorted(map(int, (four.here / "done").read_text().split()))
    assert len(executed) == len(set(executed))
    assert {run.pk for run in done if run.state == "success"} <= set(executed)
    assert {run.state for run in done} <= {"success", "aborted"}
    assert len([run for run in done if run.state == "aborted"]) <= 3


# --- within this process
@pytest.fixture
def job() -> Job:
    return services.define_job(fields={"name": "a", "script": "a.sh", "schedule": NEVER, "runs_on": "tpu"}, actor="o")


def test_a_run_and_what_procrastinate_has_of_it_are_one_transaction(job: Job) -> None:
    before = ProcrastinateJob.objects.count()
    with transaction.atomic():
        request(job)
        transaction.set_rollback(True)
    assert ProcrastinateJob.objects.count() == before
    assert jobs_of(request(job)) == [("todo", "tpu")]


def test_a_retry_is_scheduled_and_goes_when_it_gives_way(job: Job) -> None:
    Job.objects.update(retries=1, retry_delay_seconds=60)
    job.refresh_from_db()
    run = request(job)
    assert runs.record_start(run, Process(1, 1, "a boot"))
    runs.record_end(run, Ending(State.FAILED, exit_code=1))
    retry = JobRun.objects.get(retry_of=run)
    assert ProcrastinateJob.objects.get(args__run_id=retry.pk).scheduled_at == retry.not_before
    newer = request(job)
    assert jobs_of(retry) == []
    assert jobs_of(newer) == [("todo", "tpu")]


def test_a_start_counts_the_runs_of_all_nodes(job: Job) -> None:
    Job.objects.update(concurrency=Concurrency.ALLOW, max_parallel=2)
    job.refresh_from_db()
    asked = request_many(job, 3)
    started = [runs.record_start(run, Process(1, 1, "a boot"), most_at_once=2) for run in asked]
    assert started == [True, True, False]


def test_what_is_queued_without_a_job_of_procrastinate_gets_one(job: Job) -> None:
    run = request(job)
    queue().withdraw([run.pk])
    assert jobs_of(run) == []
    queue().mend()
    queue().mend()
    assert jobs_of(run) == [("todo", "tpu")]


def test_what_a_runner_fetched_that_died_is_offered_again_or_forgotten(job: Job) -> None:
    Job.objects.update(concurrency=Concurrency.ALLOW, max_parallel=9)
    job.refresh_from_db()
    asked = request_many(job, 3)
    assert runs.record_start(asked[1], Process(1, 1, "a boot"))
    with connection.cursor() as cursor:  # of a worker that is gone
        of_these = "queueing_lock = ANY(%s)"  # earlier tests have left others
        locks = [f"run {run.pk}" for run in asked]
        cursor.execute(f"UPDATE procrastinate_jobs SET status = 'doing', worker_id = NULL WHERE {of_these}", [locks])
    runs.record_end(asked[2], Ending(State.SKIPPED, "it was late"))
    queue().mend()
    assert [jobs_of(run) for run in asked] == [[("todo", "tpu")], [("doing", "tpu")], []]
    DeadRunners(grace_seconds=0).tick()
    assert state_of(asked[1]) == State.LOST
    assert jobs_of(asked[1]) == []


def test_a_job_that_another_has_dealt_with_meanwhile_is_no_failure(job: Job) -> None:
    (held,) = request_many(job, 1)
    job_id = ProcrastinateJob.objects.get(args__run_id=held.pk).pk
    distributed = DistributedQueue()
    distributed._delete(job_id)
    distributed._delete(job_id)
    assert jobs_of(held) == []


def test_a_runner_that_beats_again_while_its_end_waits_for_writers_keeps_its_run(job: Job) -> None:
    long_ago = utc_now() - timedelta(minutes=1)
    node = Node.objects.create(kind=NodeKind.RUNNER, name="here/1", started_at=long_ago, beat_at=long_ago)
    run = request(job)
    assert runs.record_start(run, Process(1, 1, boot_id()), node=node)
    (missed,) = dead_runners._runs_of_nobody()
    Node.objects.update(beat_at=utc_now())
    dead_runners._settle(missed)
    run.refresh_from_db()
    assert run.state == State.RUNNING
    Node.objects.update(beat_at=utc_now() - timedelta(minutes=1))
    dead_runners._settle(missed)
    run.refresh_from_db()
    assert run.state == State.LOST


def test_a_starting_node_settles_what_no_living_node_executes(job: Job) -> None:
    Job.objects.update(concurrency=Concurrency.ALLOW, max_parallel=9)
    job.refresh_from_db()
    source = queue().source(["tpu"], 1, lambda: None)
    nodes = [Node(kind=NodeKind.RUNNER, name=f"here/{pid}", pk=pid) for pid in (1, 4_000_000)]
    asked = request_many(job, 4)
    for run, node, boot in zip(
        asked, [*nodes, *nodes[1:] * 2], [boot_id(), boot_id(), "another", boot_id()], strict=True
    ):
        assert runs.record_start(run, Process(4_000_000, 1, boot), node=node)
    for run in asked[:3]:  # the last one's output is in another state directory
        path = output_files.output_path(run.pk)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("begun\n")
    assert [run.pk for run in source.leftovers()] == [asked[1].pk]


def test_output_over_its_limit_keeps_its_head_and_tail_in_the_database(job: Job) -> None:
    run = request(job)
    assert runs.record_start(run, Process(1, 1, "a boot"))
    capture, shipper, data = Capture(str(output_files.output_path(run.pk)), 8000, []), output_shipping.ToDatabase(), b""
    for number in range(100):
        lines = b"".join(b"%d.%d\n" % (number, line) for line in range(50))
        data += lines
        capture.write(lines)
        shipper._last = 0.0
        shipper.ship([run.pk])
        assert output.size_on_disk(run.pk) <= 10_000
    capture.close()
    shipper.ship_rest(run.pk)
    whole = b"".join(output.whole(run.pk))
    assert output.end(run.pk) == len(data)
    assert whole.startswith(data[:4000])
    assert whole.endswith(data[-2000:])
    assert f"\n[{len(data) - output.size_on_disk(run.pk)} bytes left out]\n".encode() in whole
    assert output.tail(run.pk, 100) == (data[-100:], True)
    runs.record_end(run, Ending(State.LOST))
    output_files.output_path(run.pk).write_bytes(b"x" * len(data) + b"late\n")
    shipper.ship_rest(run.pk)
    assert output.end(run.pk) == len(data)
    output.delete(run.pk)
    assert not OutputPiece.objects.exists()
