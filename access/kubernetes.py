"""Kubernetes service account tokens, checked by the cluster's TokenReview."""

from __future__ import annotations

import hashlib
import pathlib
import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from django.db import close_old_connections

from core.callers import Caller, Role
from core.errors import Forbidden, Unavailable
from tasks.models import Task

AUDIENCE = "lobwife"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9.-]{1,253}):([a-z0-9.-]{1,253})", re.ASCII)
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_LONGEST_TOKEN = 8192
# The name of a job's pod: `name-x7k2p`, or `name-0-x7k2p` if the job is indexed.
_POD_OF_JOB = re.compile(r"(?P<job>.+?)(-\d{1,5})?-[a-z0-9]{5}", re.ASCII)
_TIMEOUT_SECONDS = 3.0
_CACHE_SECONDS = 60.0
_REFUSAL_CACHE_SECONDS = 10.0
_MOST_CACHED = 1000


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The service account of a token; `pod` is empty for a token that is not bound to a pod."""

    name: str
    pod: str

    @property
    def identity(self) -> str:
        return f"k8s:{self.name}/{self.pod}" if self.pod else f"k8s:{self.name}"


class Cluster:
    """The cluster's API. Its answers are cached for a minute, so a deleted pod is refused after that."""

    def __init__(self, url: str, credentials: pathlib.Path, roles: Mapping[str, str]) -> None:
        self._url = f"{url}/apis/authentication.k8s.io/v1/tokenreviews"
        self._credentials = credentials
        self._roles = roles
        self._lock = threading.Lock()
        self._cache: dict[bytes, tuple[float, ServiceAccount | None]] = {}
        self._client: httpx2.Client | None = None

    def authenticate(self, token: str, address: str) -> Caller | None:
        """Return the caller of a token; None if the cluster doesn't confirm it.

        Raises Forbidden for an account without a role, Unavailable if the cluster doesn't answer.
        """
        if len(token) > _LONGEST_TOKEN or not _JWT.fullmatch(token):
            return None
        account = self._account_of(token)
        if account is None:
            return None
        try:
            role = Role(self._roles[account.name])
        except KeyError:
            raise Forbidden(
                f"the service account {account.name} has no role here; an operator gives it one in"
                " LOBWIFE_KUBERNETES_ROLES"
            ) from None
        if role is Role.AGENT:
            return Caller(account.identity, role, address, task_id=task_of_pod(account.pod))
        service = account.name.partition("/")[2] if role is Role.SERVICE else ""
        return Caller(account.identity, role, address, service=service)

    def _account_of(self, token: str) -> ServiceAccount | None:
        key = hashlib.sha256(token.encode()).digest()
        now = time.monotonic()
        with self._lock:
            until, account = self._cache.get(key, (0.0, None))
        if now < until:
            return account
        account = _confirmed_account(self._review(token))
        with self._lock:
            if len(self._cache) >= _MOST_CACHED:
                self._cache.clear()
            self._cache[key] = (now + (_CACHE_SECONDS if account else _REFUSAL_CACHE_SECONDS), account)
        return account

    def _review(self, token: str) -> Any:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        try:
            own_token = (self._credentials / "token").read_text().strip()  # the kubelet replaces it every hour
            close_old_connections()  # others use it meanwhile
            response = self._connected().post(self._url, json=body, headers={"Authorization": f"Bearer {own_token}"})
            response.raise_for_status()
            return response.json()
        except (OSError, ValueError, httpx2.HTTPError) as error:
            kind = type(error).__name__
            raise Unavailable(f"the cluster can't check the token now ({kind}); try again", retry_after=5) from None

    def _connected(self) -> httpx2.Client:
        with self._lock:
            if self._client is None:
                context = ssl.create_default_context(cafile=self._credentials / "ca.crt")
                self._client = httpx2.Client(verify=context, timeout=_TIMEOUT_SECONDS, trust_env=False)
            return self._client


def task_of_pod(pod: str) -> int | None:
    """Return the task assigned to the Kubernetes job of a pod: the newest that is not over, else the newest.

    The pod `name-0-x7k2p` belongs to the job `name-0` if that has a task, else to pod 0 of the job `name`.
    """
    match = _POD_OF_JOB.fullmatch(pod)
    if match is None:
        return None
    for name in dict.fromkeys([pod.rpartition("-")[0], match["job"]]):
        task = Task.objects.filter(assigned_to=name).only("pk").current()
        if task is not None:
            return task.pk
    return None


def _confirmed_account(review: Any) -> ServiceAccount | None:
    """Return the account of a TokenReview that confirms a token for our audience; None otherwise."""
    status = review.get("status") if isinstance(review, dict) else None
    if not isinstance(status, dict) or status.get("authenticated") is not True or status.get("error"):
        return None
    if AUDIENCE not in (status.get("audiences") or ()):
        return None
    user = status.get("user") or {}
    match = _ACCOUNT.fullmatch(str(user.get("username", "")))
    if match is None:
        return None
    pods = (user.get("extra") or {}).get(_POD_NAME) or [""]
    return ServiceAccount(f"{match[1]}/{match[2]}", str(pods[0]))
