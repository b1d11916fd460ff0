"""TokenReviews are limited before the cluster is asked, and bounded at once."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from django.test import RequestFactory
from django.test.utils import override_settings
from django.urls import resolve

from access.gate import Gate
from access.kubernetes import Cluster
from core.callers import Caller
from core.errors import TooManyRequests, Unavailable
from tests.support.access import Kubernetes, kubernetes
from tests.support.installation import wait_for

pytestmark = pytest.mark.django_db  # connections are given back while the cluster is asked
ROLES = {"lobmob/lobboss": "service"}


@pytest.fixture
def api(tmp_path: pathlib.Path) -> Iterator[Kubernetes]:
    with kubernetes(tmp_path / "credentials") as made, override_settings(WEB_WORKERS=1):
        yield made


@pytest.fixture
def cluster(api: Kubernetes) -> Cluster:
    return Cluster(f"https://127.0.0.1:{api.environment['KUBERNETES_SERVICE_PORT']}", api.folder, ROLES)


def outcome(cluster: Cluster, token: str, address: str = "10.0.0.1") -> Caller | str | None:
    try:
        return cluster.authenticate(token, address)
    except (TooManyRequests, Unavailable) as error:
        return type(error).__name__


def test_an_address_whose_tokens_are_refused_asks_the_cluster_no_more(
    api: Kubernetes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("access.throttle.time", SimpleNamespace(monotonic=lambda: 1000.0))  # a token comes every 2 s
    outcomes = [outcome(cluster, f"made.up-{number}.token") for number in range(60)]
    assert outcomes == [None] * 30 + ["TooManyRequests"] * 30
    assert len(api.asked) == 30
    assert isinstance(outcome(cluster, api.issue("lobmob/lobboss", ""), "10.0.0.2"), Caller)


def test_tokens_that_are_confirmed_and_a_cluster_that_fails_do_not_count(api: Kubernetes, cluster: Cluster) -> None:
    for _ in range(40):
        assert isinstance(outcome(cluster, api.issue("lobmob/lobboss", "")), Caller)
    api.is_down = True
    assert {outcome(cluster, api.issue("lobmob/lobboss", "")) for _ in range(40)} == {"Unavailable"}


def test_a_slow_cluster_is_asked_a_few_things_at_once(
    api: Kubernetes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("access.kubernetes._TIMEOUT_SECONDS", 60.0)
    api.answers.clear()
    with ThreadPoolExecutor(20) as pool:
        waiting = [
            pool.submit(outcome, cluster, api.issue("lobmob/lobboss", ""), f"10.0.1.{number}") for number in range(20)
        ]
        wait_for(lambda: sum(future.done() for future in waiting) >= 12, what="those beyond the bound are sent away")
        api.answers.set()
        outcomes = [future.result() for future in waiting]
    assert api.most_in_progress <= 8
    assert outcomes.count("Unavailable") == 12


def test_refused_tokens_do_not_push_good_ones_out(
    api: Kubernetes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("access.kubernetes._MOST_CACHED", 20)
    good = api.issue("lobmob/lobboss", "")
    outcome(cluster, good)
    for number in range(50):
        outcome(cluster, f"made.up-{number}.token", f"10.0.2.{number}")
    api.asked.clear()
    assert isinstance(outcome(cluster, good), Caller)
    assert api.asked == []


def test_who_reads_a_stream_stays_while_the_cluster_fails_and_goes_when_it_refuses(
    api: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("access.kubernetes._CACHE_SECONDS", 0.0)
    address = f"https://127.0.0.1:{api.environment['KUBERNETES_SERVICE_PORT']}"
    with override_settings(KUBERNETES_API=address, KUBERNETES_CREDENTIALS=api.folder, KUBERNETES_ROLES=ROLES):
        gate = Gate()
    token = api.issue("lobmob/lobboss", "")
    request = RequestFactory().get("/api/v1/events", headers={"Authorization": f"Bearer {token}"})
    gate.admit(request, resolve(request.path))
    api.is_down = True
    assert request.is_admitted()  # type: ignore[attr-defined]
    api.is_down = False
    del api.tokens[token]
    assert not request.is_admitted()  # type: ignore[attr-defined]
