"""The operations of lobwife's REST API, a method each. Bodies and answers are those that `/api/docs` describes."""

from __future__ import annotations

import copy
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload
from urllib.parse import parse_qsl, quote, urlsplit

from .errors import LobwifeError
from .lease import Lease
from .transport import DEFAULT_URL, RETRY_SECONDS, TIMEOUT_SECONDS, Answer, Transport, check_credential, read_credential

Json = dict[str, Any]
TaskId = int | str  # 42, "42" or "T42"
_LONGEST_WAIT = 60
_PAGE = 500
_NEXT = re.compile(r"<([^>]+)>; *rel=\"next\"")
_ROUNDING = 0.5  # waits are whole seconds
_OF_GITHUB = (502, 503)  # without a time to wait: GitHub's answer, or a setting of the broker


class Client:
    """A client of one lobwife; threads may share it.

    `url` is LOBWIFE_URL unless it is said, `key` LOBWIFE_API_KEY or what the file LOBWIFE_TOKEN_PATH holds ("" for
    none), `ca_file` LOBWIFE_CA_FILE. A call is tried again for `retry_seconds` where that can't do a thing twice; then
    it raises Unreachable. What lobwife refuses raises Refused or one of its kinds; both are LobwifeErrors.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        ca_file: str | None = None,
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self.url = (url or os.environ.get("LOBWIFE_URL", "").strip() or DEFAULT_URL).rstrip("/")
        self.ca_file = ca_file or os.environ.get("LOBWIFE_CA_FILE", "").strip() or None
        credential: Callable[[], str] = read_credential
        if key is not None:
            text = check_credential(key.strip())
            credential = lambda: text  # noqa: E731
        credential()  # one that can't be used is an error at once
        self.transport = Transport(self.url, credential, ca_file=self.ca_file, retry_seconds=retry_seconds)

    def within(self, retry_seconds: float) -> Client:
        """Return the same client with calls that are tried for so long; 0 is once."""
        other = copy.copy(self)
        other.transport = copy.copy(self.transport)
        other.transport.retry_seconds = max(0.0, retry_seconds)
        return other

    def with_key(self, key: str) -> Client:
        """Return the same client with another key."""
        return Client(self.url, key, self.ca_file, retry_seconds=self.transport.retry_seconds)

    # --- tasks
    def tasks(self, *, order: str | None = None, limit: int | None = None, **filters: Any) -> Iterator[Json]:
        """Yield tasks, newest first or by `order="queue"`, page by page as they are taken; `limit` is of all.

        Filters are status, type, priority, assigned_to, repo, q, updated_after and before_id.
        """
        page_size = min(limit or _PAGE, _PAGE)
        return itertools.islice(self._pages("/api/v1/tasks", limit=page_size, order=order, **filters), limit)

    def task_counts(self) -> Json:
        return self._get("/api/v1/tasks/counts")

    def task(self, task: TaskId) -> Json:
        """Return a task with all fields, and its `etag` for `update_task`."""
        return _with_etag(self.transport.call("GET", _task(task)))

    def create_task(self, name: str, **fields: Any) -> Json:
        """Create a task: body, type, priority, repos, depends_on, parent, group, not_before, actor…"""
        return self._post("/api/v1/tasks", {"name": name, **fields})

    def update_task(self, task: TaskId, *, if_match: str | None = None, **fields: Any) -> Json:
        """Set fields; None empties one. With `if_match`, the task's etag, only if nobody changed it since (412)."""
        return _object(self.transport.call("PATCH", _task(task), fields, headers=_if_match(if_match)))

    def cancel_task(self, task: TaskId) -> Json:
        return _object(self.transport.call("DELETE", _task(task)))

    def task_events(self, task: TaskId) -> Iterator[Json]:
        """Yield a task's history, newest first."""
        return self._pages(f"{_task(task)}/events")

    def add_event(self, task: TaskId, event_type: str, detail: str | None = None, *, actor: str | None = None) -> Json:
        """Append to a task's history."""
        return self._post(f"{_task(task)}/events", {"event_type": event_type, "detail": detail}, actor)

    def note(self, task: TaskId) -> Json:
        """Return the text of a task's note, and its `etag` for `write_note`."""
        return _with_etag(self.transport.call("GET", f"{_task(task)}/note"))

    def write_note(self, task: TaskId, text: str, *, if_match: str | None = None, actor: str | None = None) -> Json:
        """Write the text of a task's note; with `if_match`, the note's etag, only if nobody changed it since (412)."""
        body = {"text": text, "actor": actor}
        return _object(
            self.transport.call(
                "PUT", f"{_task(task)}/note", body, headers=_if_match(if_match), is_repeatable=if_match is None
            )
        )

    def add_link(self, task: TaskId, url: str, kind: str = "other", *, actor: str | None = None) -> Json:
        """Add a link of a kind: pull, branch, commit, issue or other. The same one is added once."""
        return self._post(f"{_task(task)}/links", {"kind": kind, "url": url}, actor)

    def set_result(self, task: TaskId, summary: str, data: Json | None = None, *, actor: str | None = None) -> Json:
        """Write what a task ended with; the last one counts."""
        return self._post(f"{_task(task)}/result", {"summary": summary, "data": data}, actor)

    # --- leases
    @overload
    def claim(
        self,
        *,
        types: Sequence[str] | None = None,
        repos: Sequence[str] | None = None,
        runner: str = "",
        lease_seconds: int = 900,
        wait_seconds: None = None,
    ) -> Lease: ...

    @overload
    def claim(
        self,
        *,
        types: Sequence[str] | None = None,
        repos: Sequence[str] | None = None,
        runner: str = "",
        lease_seconds: int = 900,
        wait_seconds: float,
    ) -> Lease | None: ...

    def claim(
        self,
        *,
        types: Sequence[str] | None = None,
        repos: Sequence[str] | None = None,
        runner: str = "",
        lease_seconds: int = 900,
        wait_seconds: float | None = None,
    ) -> Lease | None:
        """Claim the next task that fits. Waits until there is one, or for `wait_seconds` and returns None.

        Its heartbeats begin with `with`. A claim whose answer was lost is made again; the task that the lost one took
        is queued again when that lease ends.
        """
        wanted = {"types": types and list(types), "repos": repos and list(repos), "runner": runner}
        body: Json = {**wanted, "lease_seconds": lease_seconds}
        until = None if wait_seconds is None else time.monotonic() + wait_seconds
        while True:
            left = _LONGEST_WAIT if until is None else max(0.0, until - time.monotonic())
            seconds = min(round(left), _LONGEST_WAIT)
            begun = time.monotonic()
            answer = self.transport.call(
                "POST",
                "/api/v1/tasks/claim",
                {**body, "wait_seconds": seconds},
                is_repeatable=True,
                timeout=seconds + TIMEOUT_SECONDS,
            )
            if answer.data is not None:
                return Lease(self, _object(answer), seconds=lease_seconds)
            if until is not None and time.monotonic() + 1 > until:
                return None
            time.sleep(max(0.0, begun + 1 - time.monotonic()))  # one that stops answers waiting claims at once

    def heartbeat(
        self, task: TaskId, fence: int, progress: str | None = None, *, timeout: float = TIMEOUT_SECONDS
    ) -> Json:
        """Renew a lease; the answer says whether to `stop`, and has `messages`."""
        body = {"fence": fence, "progress": progress}
        return _object(
            self.transport.call("POST", f"{_task(task)}/heartbeat", body, is_repeatable=True, timeout=timeout)
        )

    def release(self, task: TaskId, fence: int, outcome: str, reason: str | None = None) -> Json:
        """Hand a task back as completed, failed, queued or blocked."""
        return self._post(f"{_task(task)}/release", {"fence": fence, "outcome": outcome, "reason": reason})

    # --- questions
    def ask(self, task: TaskId, text: str, choices: Sequence[str] | None = None, *, actor: str | None = None) -> Json:
        """Ask people about a task; `choices` are the answers they pick from, such as Approve and Reject."""
        return self._post(f"{_task(task)}/questions", {"text": text, "choices": list(choices or ())}, actor)

    def questions(self, task: TaskId) -> list[Json]:
        """Return the questions of a task."""
        return list(self._get(f"{_task(task)}/questions")["questions"])

    def open_questions(self, **filters: Any) -> list[Json]:
        """Return the questions of all tasks that nobody has answered; filters are limit and before_id."""
        return list(self._get("/api/v1/questions", open="true", **filters)["questions"])

    def question(self, question: int, *, wait_seconds: float = 0) -> Json:
        """Return a question, as soon as it is answered, at the latest after `wait_seconds` (60 at most)."""
        wait = max(0, min(round(wait_seconds), _LONGEST_WAIT))
        query = {"wait_seconds": wait or None}
        path = f"/api/v1/questions/{question}"
        return _object(self.transport.call("GET", path, query=query, timeout=wait + TIMEOUT_SECONDS))

    def answer_question(self, question: int, answer: str, *, actor: str | None = None) -> Json:
        return self._post(f"/api/v1/questions/{question}/answer", {"answer": answer}, actor)

    # --- costs
    def costs(self, **filters: Any) -> list[Json]:
        """Return reports; filters are task_id, type, model, repo, since, limit and before_id."""
        return self._list("/api/v1/costs", **filters)

    def cost_summary(self, days: int | None = None) -> Json:
        return self._get("/api/v1/costs/summary", days=days)

    def report_cost(self, task: TaskId, model: str, **fields: Any) -> Json:
        """Report what a task used since its last report: input_tokens, output_tokens, cost_usd, source…"""
        return self._post("/api/v1/costs", {"task_id": task, "model": model, **fields})

    # --- tokens
    def token(self, task: TaskId, permissions: Json | None = None) -> Json:
        """Return a GitHub token for a task's repositories: `token` and `expires_at`."""
        body: Json = {"task_id": f"T{task}" if isinstance(task, int) else task}
        if permissions is not None:
            body["permissions"] = permissions
        return self._token("/api/token", body)

    def service_token(self, service: str) -> Json:
        """Return a GitHub token of a service: `token` and `expires_at`."""
        return self._token("/api/v1/service-token", {"service": service})

    def register(self, task: TaskId, repos: Sequence[str], lobster_type: str | None = None) -> Json:
        """Allow a task tokens for these repositories."""
        body: Json = {"repos": list(repos)}
        if lobster_type is not None:
            body["lobster_type"] = lobster_type
        return self._post(f"{_task(task)}/register", body)

    def deregister(self, task: TaskId) -> Json:
        """End a task's registration for tokens."""
        name = f"T{task}" if isinstance(task, int) else task
        return _object(self.transport.call("DELETE", f"/api/tasks/{quote(name, safe='')}", is_repeatable=True))

    def audit(self, **filters: Any) -> Json:
        """Return a page of the audit; filters are task_id, action, outcome, identity, address, before and limit."""
        return self._get("/api/v1/audit", **filters)

    # --- jobs and runs
    def jobs(self) -> dict[str, Json]:
        """Return the jobs by name."""
        return self._get("/api/jobs")

    def job(self, name: str) -> Json:
        return self._get(_job(name))

    def trigger_job(self, name: str) -> Json:
        return self._post(f"{_job(name)}/trigger")

    def enable_job(self, name: str) -> Json:
        return self._post(f"{_job(name)}/enable")

    def disable_job(self, name: str) -> Json:
        return self._post(f"{_job(name)}/disable")

    def next_firings(self, name: str, count: int | None = None) -> Json:
        return self._get(f"/api/v1/jobs/{quote(name, safe='')}/next", count=count)

    def create_run(self, job: str, arguments: Sequence[str] | None = None) -> Json:
        """Run a job now, with other arguments if there are any."""
        body = {} if arguments is None else {"arguments": list(arguments)}
        return self._post(f"/api/v1/jobs/{quote(job, safe='')}/runs", body)

    def runs(self, **filters: Any) -> list[Json]:
        """Return runs, newest first; filters are job, state, since, until, before_id and limit."""
        return self._list("/api/v1/runs", **filters)

    def run(self, run: int) -> Json:
        return self._get(f"/api/v1/runs/{run}")

    def run_output(self, run: int, offset: int = 0) -> Json:
        """Return output from an offset on; go on at `next_offset` until it is `complete`."""
        return self._get(f"/api/v1/runs/{run}/output", offset=offset)

    def abort_run(self, run: int) -> Json:
        return self._post(f"/api/v1/runs/{run}/abort")

    def retry_run(self, run: int) -> Json:
        return self._post(f"/api/v1/runs/{run}/retry")

    def pause_runs(self) -> Json:
        return self._post("/api/v1/runs/pause")

    def resume_runs(self) -> Json:
        return self._post("/api/v1/runs/resume")

    # --- the service
    def events(
        self,
        after: int | None = None,
        *,
        types: Sequence[str] | None = None,
        task: TaskId | None = None,
        wait_seconds: float | None = None,
    ) -> Iterator[Json]:
        """Yield the events of the feed after a cursor, or from now on, and wait for more; `id` is the next cursor.

        Ends when nothing came for `wait_seconds`, if that is said. Raises CursorGone where events were removed.
        """
        wait = _LONGEST_WAIT if wait_seconds is None else max(0, min(round(wait_seconds), _LONGEST_WAIT))
        query: Json = {"types": ",".join(types) if types else None, "task": task}
        if after is None:
            after = int(self._get("/api/v1/events", **query)["next"])
        last = time.monotonic()
        while True:
            query |= {"after": after, "wait": wait or None}
            answer = self.transport.call("GET", "/api/v1/events", query=query, timeout=wait + TIMEOUT_SECONDS)
            page = _object(answer)
            for event in page["events"]:
                yield event
                last = time.monotonic()
            after = int(page["next"])
            if wait_seconds is not None and not page["events"] and time.monotonic() - last > wait_seconds - _ROUNDING:
                return

    def health(self) -> Json:
        return self._get("/health")

    def status(self) -> Json:
        return self._get("/api/status")

    def sync(self) -> Json:
        """Return the status of the vault's sync."""
        return self._get("/api/v1/sync")

    def trigger_sync(self) -> Json:
        return _object(self.transport.call("POST", "/api/v1/sync/trigger", headers=_idempotent(), unless=(503,)))

    # --- how calls are made
    def _get(self, path: str, **query: Any) -> Json:
        return _object(self.transport.call("GET", path, query=query))

    def _list(self, path: str, **query: Any) -> list[Json]:
        return _array(self.transport.call("GET", path, query=query))

    def _pages(self, path: str, **query: Any) -> Iterator[Json]:
        while True:
            answer = self.transport.call("GET", path, query=query)
            yield from _array(answer)
            following = _NEXT.search(answer.headers.get("link", ""))
            if following is None:
                return
            query = dict(parse_qsl(urlsplit(following[1]).query))

    def _post(self, path: str, body: Json | None = None, actor: str | None = None) -> Json:
        """Make a change once: a repetition has the same Idempotency-Key."""
        if actor is not None:
            body = {**(body or {}), "actor": actor}
        return _object(self.transport.call("POST", path, body, headers=_idempotent()))

    def _token(self, path: str, body: Json) -> Json:
        return _object(self.transport.call("POST", path, body, is_repeatable=True, unless=_OF_GITHUB))


def _object(answer: Answer) -> Json:
    if not isinstance(answer.data, dict):
        raise LobwifeError("lobwife answered something else than an object")
    return answer.data


def _array(answer: Answer) -> list[Json]:
    if not isinstance(answer.data, list):
        raise LobwifeError("lobwife answered something else than a list")
    return answer.data


def _with_etag(answer: Answer) -> Json:
    return {**_object(answer), "etag": answer.headers.get("etag")}


def _idempotent() -> dict[str, str]:
    return {"Idempotency-Key": os.urandom(16).hex()}


def _if_match(etag: str | None) -> dict[str, str]:
    return {} if etag is None else {"If-Match": etag}


def _task(task: TaskId) -> str:
    return f"/api/v1/tasks/{quote(str(task), safe='')}"


def _job(name: str) -> str:
    return f"/api/jobs/{quote(name, safe='')}"
