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
from typing import Any, TypeVar

import httpx2
from django.conf import settings
from django.db import close_old_connections

from access.throttle import TokenBuckets, limited_address
from core.callers import Caller, Role
from core.errors import Forbidden, TooManyRequests, Unavailable
from tasks.models import Task

AUDIENCE = "lobwife"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9.-]{1,253}):([a-z0-9.-]{1,253})", re.ASCII)
ValueT = TypeVar("ValueT")
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_LONGEST_TOKEN = 8192
# The name of a job's pod: `name-x7k2p`, or `name-0-x7k2p` if the job is indexed.
_POD_OF_JOB = re.compile(r"(?P<job>.+?)(-\d{1,5})?-[a-z0-9]{5}", re.ASCII)
_TIMEOUT_SECONDS = 3.0
_CACHE_SECONDS = 60.0
_REFUSAL_CACHE_SECONDS = 10.0
_MOST_CACHED = 1000
# Reviews at once, and how long one more waits for its turn: a slow cluster must not keep all greenlets.
_MOST_REVIEWS = 8
_LONGEST_WAIT_SECONDS = 1.0


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
        # Refused tokens are kept apart, so that any number of them leaves the accounts of good ones where they are.
        self._accounts: dict[bytes, tuple[float, ServiceAccount]] = {}
        self._refused: dict[bytes, float] = {}
        self._reviews = threading.BoundedSemaphore(_MOST_REVIEWS)
        self._limits = TokenBuckets()
        self._client: httpx2.Client | None = None

    def authenticate(self, token: str, address: str) -> Caller | None:
        """Return the caller of a token; None if the cluster doesn't confirm it.

        Raises Forbidden for an account without a role, Unavailable if the cluster doesn't answer, TooManyRequests for
        an address whose tokens it refused too often.
        """
        if len(token) > _LONGEST_TOKEN or not _JWT.fullmatch(token):
            return None
        account = self._account_of(token, address)
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

    def _account_of(self, token: str, address: str) -> ServiceAccount | None:
        key = hashlib.sha256(token.encode()).digest()
        now = time.monotonic()
        until, account = self._accounts.get(key, (0.0, None))
        if now < until:
            return account
        if now < self._refused.get(key, 0.0):
            return None
        account = self._limited_review(token, address)
        if account is not None:
            _put(self._accounts, key, (now + _CACHE_SECONDS, account))
        else:
            _put(self._refused, key, now + _REFUSAL_CACHE_SECONDS)
        return account

    def _limited_review(self, token: str, address: str) -> ServiceAccount | None:
        """Have a token reviewed, unless the cluster refused too many of this address: only refusals count."""
        rate, address = settings.FAILED_AUTHENTICATIONS_PER_MINUTE, limited_address(address)
        wait = self._limits.take("reviews", address, rate)
        if wait:
            raise TooManyRequests(f"too many wrong credentials from {address}; try again in {wait} s", retry_after=wait)
        is_refused = False
        try:
            if not self._reviews.acquire(timeout=_LONGEST_WAIT_SECONDS):
                raise Unavailable("the cluster is slow to check tokens; try again", retry_after=2)
            try:
                account = _confirmed_account(self._review(token))
            finally:
                self._reviews.release()
            is_refused = account is None
            return account
        finally:
            if not is_refused:
                self._limits.give_back("reviews", address, rate)

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


def _put(cache: dict[bytes, ValueT], key: bytes, value: ValueT) -> None:
    if len(cache) >= _MOST_CACHED:
        cache.clear()
    cache[key] = value


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
