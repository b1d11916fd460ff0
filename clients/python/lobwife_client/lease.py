"""A lease: a task that is held by heartbeats from a thread, and the sign to stop when it is not held any more."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import LobwifeError, Refused
from .transport import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from .client import Client

Json = dict[str, Any]
_MOST_BETWEEN_BEATS = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
# lobwife writes a heartbeat when a tenth of the lease or a second is over: it may end that much earlier than said.
_UNWRITTEN = 1.0
_PASSING = (429, 500, 502, 503, 504)
_ASK_SECONDS = 20.0
_LONGEST_REASON = 500
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def _now() -> float:
    """Return monotonic seconds; on Linux those of a suspended machine count, as they do for lobwife."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


class Lease:
    """A claimed task. Within `with` it is held by heartbeats; at the end of the block it is handed back.

    `stopped` is set when the holder must stop, and `stop_reason` says why: the task was cancelled or taken away, a
    budget of it is spent, or lobwife could not be reached until the lease's end. Look at it between steps, or wait for
    it. `messages` are those of heartbeats, in order, each once.

    A block that ends well releases the task as completed, one that ends by an exception as failed, by Ctrl-C or exit as
    queued; unless it was released before. Of a lease that is over nothing is reported.
    """

    def __init__(self, client: Client, task: Json, *, seconds: float) -> None:
        self.task = {name: value for name, value in task.items() if name != "key"}
        self.id: int = task["id"]
        self.fence: int = task["lease"]["fence"]
        self.key: str = task["key"]
        self.client = client.with_key(self.key)
        self.seconds = seconds
        self.stopped = threading.Event()
        self.stop_reason: str | None = None
        self.stop_code: str | None = None  # the code of lobwife's refusal, where it refused a heartbeat
        self.messages: list[Json] = []
        self.progress: str | None = None
        self.beat_seconds = min(seconds / 3, _MOST_BETWEEN_BEATS)  # between heartbeats
        self.released_as: str | None = None
        self._margin = min(_UNWRITTEN, seconds / 10)
        self._ends = _now() + seconds - self._margin
        self._is_over = False
        self._seen: set[Any] = set()
        self._no_more_beats = threading.Event()

    def __repr__(self) -> str:
        return f"<Lease of T{self.id}, fence {self.fence}>"  # without the key

    @property
    def task_id(self) -> str:
        """The task's id as people write it."""
        return f"T{self.id}"

    @property
    def seconds_left(self) -> float:
        """How long the lease lasts at least, without another heartbeat."""
        return max(0.0, self._ends - _now())

    # --- what its holder does
    def token(self, permissions: Json | None = None) -> str:
        """Return a GitHub token for the task's repositories."""
        return str(self.client.token(self.task_id, permissions)["token"])

    def note(self, text: str, event_type: str = "progress") -> None:
        """Append a line to the task's history."""
        self.client.add_event(self.id, event_type, text)

    def link(self, url: str, kind: str = "other") -> None:
        """Add a link to the task: pull, branch, commit, issue or other."""
        self.client.add_link(self.id, url, kind)

    def ask(self, text: str, choices: Sequence[str] | None = None, *, wait_seconds: float | None = None) -> str | None:
        """Ask people and wait for the answer; None when the holder is to stop, or none came within `wait_seconds`."""
        question = self.client.ask(self.id, text, choices)
        until = None if wait_seconds is None else _now() + wait_seconds
        while question["state"] == "open" and not self.stopped.is_set():
            left = _ASK_SECONDS if until is None else min(until - _now(), _ASK_SECONDS)
            if left <= 0:
                return None
            try:
                client = self.client.within(self.seconds_left)
                question = client.question(question["id"], wait_seconds=max(1, left))
            except LobwifeError:
                if not self.stopped.is_set():
                    raise
        answer = question["answer"]
        return None if answer is None else str(answer)

    def release(
        self,
        outcome: str = "completed",
        reason: str | None = None,
        *,
        summary: str | None = None,
        data: Json | None = None,
    ) -> None:
        """Hand the task back as completed, failed, queued or blocked, with a result if there is a summary.

        It is tried until the lease's end. Raises Conflict or Unauthorized for a lease that is over.
        """
        if summary is not None:
            self.client.set_result(self.id, summary, data)
        self.stop_beating()
        client = self.client.within(self.seconds_left)
        client.release(self.id, self.fence, outcome, reason and reason[:_LONGEST_REASON])
        self.released_as = outcome

    # --- holding it
    def __enter__(self) -> Lease:
        self.start_beating()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self.released_as is None and not self._is_over:
                self._hand_back(error)
        finally:
            self.stop_beating()

    def start_beating(self) -> None:
        """Begin the heartbeats, as `with` does."""
        for each in (self._beat, self._watch):
            threading.Thread(target=each, name=f"lease of {self.task_id}", daemon=True).start()

    def stop_beating(self) -> None:
        """End the heartbeats; the lease goes on until its end."""
        self._no_more_beats.set()

    def _hand_back(self, error: BaseException | None) -> None:
        if self.stopped.is_set():
            outcome, reason = "blocked", self.stop_reason
        elif error is None:
            outcome, reason = "completed", None
        elif isinstance(error, Exception):
            outcome, reason = "failed", f"{type(error).__name__}: {error}"
        else:
            outcome, reason = "queued", type(error).__name__
        try:
            self.release(outcome, reason)
        except LobwifeError:
            if error is None and not self.stopped.is_set():
                raise

    def _watch(self) -> None:
        """Stop the holder at the lease's end, also while a heartbeat waits for the network."""
        while not self._no_more_beats.wait(self.seconds_left):
            if self.seconds_left <= 0:
                self._end("lobwife could not be reached until the end of the lease")
                return

    def _beat(self) -> None:
        """Beat until told to end, or until the lease is over."""
        client, pause, wait = self.client.within(0), _FIRST_PAUSE, self.beat_seconds
        while not self._no_more_beats.wait(wait) and not self._is_over:
            sent = _now()
            try:
                limit = min(TIMEOUT_SECONDS, max(1.0, self.seconds / 4), max(0.1, self.seconds_left))
                answer = client.heartbeat(self.id, self.fence, self.progress, timeout=limit)
            except LobwifeError as error:
                if isinstance(error, Refused) and error.status not in _PASSING:
                    self.stop_code = error.code
                    self._end(str(error))
                    return
                wait = max(pause * random.uniform(0.5, 1), min(error.retry_after or 0, _LONGEST_PAUSE))  # noqa: S311
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                wait, pause = self.beat_seconds, _FIRST_PAUSE
                self._read(answer, sent)

    def _read(self, answer: Json, sent: float) -> None:
        for message in answer.get("messages") or ():
            name = message.get("question_id") if isinstance(message, dict) else None
            if name is None or name not in self._seen:
                self._seen.add(name)
                self.messages.append(message)
        if answer.get("stop"):
            self._stop(str(answer.get("reason") or "lobwife said to stop"))
        else:
            self._ends = sent + self.seconds - self._margin

    def _stop(self, reason: str) -> None:
        if not self.stopped.is_set() and not self._no_more_beats.is_set():
            self.stop_reason = reason
            self.stopped.set()

    def _end(self, reason: str) -> None:
        self._is_over = True
        self._stop(reason)
