"""Pods of the cluster: their service accounts have roles, and agents their tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.access import ELSEWHERE, Kubernetes, bearer, kubernetes
from tests.support.installation import Installation


# --- service accounts
@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kubernetes, Installation]]:
    folder = tmp_path_factory.mktemp("cluster")
    with kubernetes(folder / "credentials") as api:
        made = Installation(folder, **api.environment)
        try:
            made.migrate()
            made.start_web()
            yield api, made
        finally:
            made.stop()


def test_an_agents_pod_has_the_task_that_its_job_is_assigned_to(cluster: tuple[Kubernetes, Installation]) -> None:
    api, made = cluster
    made.post("/api/v1/tasks", {"name": "Foreign", "assigned_to": "lobster-t8"})
    own = made.post("/api/v1/tasks", {"name": "Own", "assigned_to": "lobster-t7", "status": "active"}).json["id"]
    headers = bearer(api.issue("lobmob/lobster", "lobster-t7-x7k2p")) | ELSEWHERE
    assert [task["id"] for task in made.get("/api/v1/tasks", headers=headers).json] == [own]
    assert made.request("PATCH", f"/api/v1/tasks/{own}", {"status": "completed"}, headers=headers).status == 200
    assert made.post("/api/v1/tasks", {"name": "x"}, headers=headers).status == 409, "its own task is over"
    asked = api.asked[-1]
    assert asked["path"] == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert asked["authorization"] == "Bearer the-pods-own-token"
    assert asked["spec"]["audiences"] == ["lobwife"]


def test_a_pod_of_a_job_with_a_number_does_not_get_the_task_of_the_job_without(
    cluster: tuple[Kubernetes, Installation],
) -> None:
    api, made = cluster
    numbered = made.post("/api/v1/tasks", {"name": "Its own", "assigned_to": "lobster-swe-12"}).json["id"]
    whole = made.post("/api/v1/tasks", {"name": "Newer", "assigned_to": "lobster-swe"}).json["id"]
    for pod, own in (("lobster-swe-12-x7k2p", numbered), ("lobster-swe-3-x7k2p", whole), ("lobster-swe-x7k2p", whole)):
        headers = bearer(api.issue("lobmob/lobster", pod)) | ELSEWHERE
        assert [task["id"] for task in made.get("/api/v1/tasks", headers=headers).json] == [own], pod


def test_a_service_account_creates_tasks_and_is_named_in_refusals(cluster: tuple[Kubernetes, Installation]) -> None:
    api, made = cluster
    headers = bearer(api.issue("lobmob/lobboss", "lobboss-6f-abcde")) | ELSEWHERE
    assert made.post("/api/v1/tasks", {"name": "By lobboss"}, headers=headers).status == 201
    refused = made.post("/api/jobs/task-manager/trigger", headers=headers)
    assert refused.status == 403
    assert "k8s:lobmob/lobboss/lobboss-6f-abcde is service" in refused.json["message"]


def test_the_cluster_is_asked_once_for_a_token_in_use(cluster: tuple[Kubernetes, Installation]) -> None:
    api, made = cluster
    token = api.issue("lobmob/lobsigliere", "")
    for _ in range(20):
        assert made.get("/api/v1/tasks", headers=bearer(token)).status == 200
    workers = 2
    assert len([asked for asked in api.asked if asked["spec"]["token"] == token]) <= workers


def test_tokens_for_others_and_of_accounts_without_a_role_are_refused(
    cluster: tuple[Kubernetes, Installation],
) -> None:
    api, made = cluster
    other_audience = api.issue("lobmob/lobboss", "lobboss-a-abcde", audiences=("https://kubernetes.default.svc",))
    assert made.get("/api/v1/tasks", headers=bearer(other_audience)).status == 401
    assert made.get("/api/v1/tasks", headers=bearer("head.never.sign")).status == 401
    stranger = made.get("/api/v1/tasks", headers=bearer(api.issue("default/default", "web-1-abcde")))
    assert stranger.status == 403
    assert "LOBWIFE_KUBERNETES_ROLES" in stranger.json["error"]


def test_a_cluster_that_fails_is_a_503_and_lets_nobody_in(cluster: tuple[Kubernetes, Installation]) -> None:
    api, made = cluster
    token = api.issue("lobmob/lobboss", "lobboss-b-abcde")
    api.is_down = True
    try:
        failed = made.get("/api/v1/tasks", headers=bearer(token))
        assert failed.status == 503
        assert "retry-after" in failed.headers
    finally:
        api.is_down = False
    assert made.get("/api/v1/tasks", headers=bearer(token)).status == 200
