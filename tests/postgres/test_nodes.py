"""The nodes, as pages, metrics and the doctor have them, and what a leader's threads may commit."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import time_machine
from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.db.utils import OperationalError
from django.test import Client

from core.database.clock import clock, database_now
from core.timestamps import utc_now
from jobs import nodes
from jobs.models import Daemon as DaemonRow
from jobs.models import Job, Node, NodeKind
from jobs.services import define_job, set_enabled
from lobwife.daemon.leadership import Lead
from lobwife.daemon.process import Daemon
from ops.checks import fleet, state
from tasks.models import Task
from tests.support.jobs import NEVER

pytestmark = pytest.mark.django_db(transaction=True)


def beating(kind: NodeKind, **values: object) -> nodes.Heartbeat:
    heartbeat = nodes.Heartbeat(kind)
    heartbeat.beat(leads=bool(values.pop("leads", False)))
    assert heartbeat.node is not None
    Node.objects.filter(pk=heartbeat.node.pk).update(**values)
    return heartbeat


def ago(**span: float) -> object:
    return Now() - timedelta(**span)


def test_the_overview_and_metrics_have_the_nodes(operator_client: Client) -> None:
    beating(NodeKind.DAEMON, leads=True, name="machine-1/7")
    beating(NodeKind.DAEMON, name="machine-2/8")
    beating(NodeKind.RUNNER, name="machine-3/9", beat_at=ago(minutes=2))
    page = operator_client.get("/admin/").content.decode()
    assert "machine-1/7" in page
    assert "Daemon, leads" in page
    assert "The runner machine-3/9 has not given a sign of life." in page
    lines = operator_client.get("/metrics").content.decode().splitlines()
    assert 'lobwife_nodes{kind="daemon"} 2.0' in lines
    assert 'lobwife_nodes{kind="runner"} 0.0' in lines
    assert "lobwife_leaders 1.0" in lines


def test_an_older_version_and_trouble_are_named_and_one_that_is_long_gone_is_not() -> None:
    beating(NodeKind.WEB, name="a/1", version="0.9")
    beating(NodeKind.RUNNER, name="b/2", trouble="the disk is full")
    beating(NodeKind.WEB, name="c/3", beat_at=ago(hours=2))
    sentences = [finding.sentence for finding in fleet.nodes(state.nodes())]
    assert sentences == ["The runner b/2 says: the disk is full", "The web a/1 runs version 0.9."]


def test_a_label_that_no_living_node_serves_is_named_with_its_jobs() -> None:
    Job.objects.all().delete()
    for name, label in (("render", "gpu"), ("train", "gpu"), ("pack", "build"), ("any", ""), ("off", "old")):
        define_job(fields={"name": name, "script": "a.sh", "schedule": NEVER, "runs_on": label}, actor="olga")
    set_enabled(name="off", enabled=False, actor="olga")
    beating(NodeKind.DAEMON, labels=["default"])
    beating(NodeKind.RUNNER, labels=["build"])
    beating(NodeKind.RUNNER, labels=["gpu"], beat_at=ago(minutes=1))
    sentences = [finding.sentence for finding in fleet.labels(state.nodes())]
    assert sentences == ["No runner serves gpu: runs of render, train wait."]


def test_a_node_whose_clock_is_far_off_says_so_and_knows_the_databases() -> None:
    try:
        with time_machine.travel(utc_now() + timedelta(seconds=40)):
            beating(NodeKind.WEB, name="a/1")
            assert abs(utc_now() - database_now() - timedelta(seconds=40)) < timedelta(seconds=2)
        (finding,) = fleet.nodes(state.nodes())
        assert (
            finding.sentence
            == "The web a/1 says: its machine's clock is 40 s ahead of the database's: keep both by NTP"
        )
    finally:
        clock().ahead = timedelta(0)


def test_a_node_comes_back_that_was_removed_and_is_gone_once_it_left() -> None:
    heartbeat = beating(NodeKind.WEB, beat_at=ago(days=2))
    assert nodes.prune() == 1
    heartbeat.beat()
    assert Node.objects.get().version == settings.VERSION
    heartbeat.leave()
    assert not Node.objects.exists()


def test_a_beat_waits_for_no_writer() -> None:
    heartbeat = beating(NodeKind.WEB)

    def beat() -> None:
        heartbeat.beat(running=3)
        connection.close()

    thread = threading.Thread(target=beat)
    with transaction.atomic():
        Task.objects.create(name="under way")
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert Node.objects.get().running == 3


def test_a_node_whose_work_waits_for_writers_in_vain_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OperationalError("the database is locked by another writer")

    runner = Daemon(NodeKind.RUNNER, ["gpu"])
    monkeypatch.setattr(runner.runner, "tick", fail)
    for _ in range(2):
        Node.objects.update(beat_at=ago(minutes=1))
        runner._beaten = 0.0
        with pytest.raises(OperationalError):
            runner.tick()
        assert Node.objects.alive().get().kind == NodeKind.RUNNER


def test_what_an_earlier_leader_writes_is_not_committed() -> None:
    first = Lead(nodes.begin_term())
    with first.bound(), transaction.atomic():
        Task.objects.create(name="in its term")
    nodes.begin_term()
    with first.bound():
        with pytest.raises(OperationalError, match="another daemon leads since"), transaction.atomic():
            Task.objects.create(name="in a transaction")
        with pytest.raises(OperationalError, match="another daemon leads since"):
            Task.objects.create(name="on its own")
    Task.objects.create(name="not as the leader")
    assert set(Task.objects.values_list("name", flat=True)) == {"in its term", "not as the leader"}
    assert DaemonRow.load().term == (first.term or 0) + 1
