"""A run's output on disk: masked, valid UTF-8, and bounded; the head and the tail are kept.

The head lies in the file itself. What comes after it goes to segments beside it, named by where they begin in the
stream (`17.log.5242880`), of which the two newest are kept. So an offset stays valid while the run goes on and after.
`17.log.times` has a line for each second with output: where it begins in the stream, and the time.
"""

from __future__ import annotations

import codecs
import contextlib
import glob
import os
import time

from masking import Masker

_HELD_AT_MOST = 65536
_MOST_TIMES = 20_000


class Capture:
    """Takes bytes and never raises: `failure` says why they can't be written."""

    def __init__(self, path: str, limit: int, secrets: list[bytes]) -> None:
        self.path = path
        self.size = 0
        self.failure: str | None = None
        self._part = max(4, limit // 4)
        self._room = max(4, limit // 2)
        self._masker = Masker(secrets)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""
        self._segments: list[str] = []
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        for stale in glob.glob(glob.escape(path) + ".*"):
            os.unlink(stale)
        self._file = open(path, "wb", buffering=0, opener=_private)  # noqa: SIM115 closed by close()
        self._times = 0
        self._timed_at = 0

    def write(self, data: bytes) -> None:
        """Take output; a line is stored when it ends or is rewritten, so that no secret is cut in two."""
        self._held += data
        cut = max(self._held.rfind(b"\n"), self._held.rfind(b"\r")) + 1
        if not cut and len(self._held) > _HELD_AT_MOST:
            cut = self._masker.cut_within(self._held)
        self._store_first(cut)

    def close(self) -> None:
        self._store_first(len(self._held), final=True)
        self._file.close()

    def _store_first(self, length: int, *, final: bool = False) -> None:
        """Store the first bytes of what is held."""
        if self.failure or not (length or final):
            return
        data, self._held = self._masker.mask(self._held[:length]), self._held[length:]
        try:
            self._append(self._decoder.decode(data, final).encode())
        except OSError as error:
            self.failure = error.strerror or str(error)

    def _append(self, text: bytes) -> None:
        """Write valid UTF-8 to the newest part, and to new ones as it fills; raises OSError."""
        if text:
            self._note_time(int(time.time()))
        while text:
            if not self._room:
                self._next_segment()
            piece = text[: self._room].decode(errors="ignore").encode()  # no character is cut in two
            text = text[len(piece) :]
            self._room = 0 if text else self._room - len(piece)
            self.size += len(piece)
            while piece:
                piece = piece[self._file.write(piece) :]

    def _note_time(self, now: int) -> None:
        """Note once a second where its output begins; a disk that is full costs the times alone."""
        if now == self._timed_at or self._times >= _MOST_TIMES:
            return
        self._timed_at, self._times = now, self._times + 1
        with contextlib.suppress(OSError), open(f"{self.path}.times", "a", opener=_private) as file:
            file.write(f"{self.size} {now}\n")

    def _next_segment(self) -> None:
        self._file.close()
        name = f"{self.path}.{self.size}"
        self._segments.append(name)
        while len(self._segments) > 2:
            os.unlink(self._segments.pop(0))
        self._file = open(name, "wb", buffering=0, opener=_private)  # noqa: SIM115
        self._room = self._part


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
