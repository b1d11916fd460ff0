"""Whether the bytes that came so far are a whole request: asked before a thread is given to it.

It only decides when a request is handed on. What the request means is for the server's parser alone to say, so the two
can't disagree about anything but patience.
"""

from __future__ import annotations

import enum
import re

LONGEST_HEAD = 32 * 1024
LONGEST_BODY = 2**20
# What chunks of one byte each add to a body of the longest size is not for us to carry.
_LONGEST_CHUNKED = LONGEST_BODY * 2
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:[^\r\n]*chunked", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[^\r\n]{0,200}\r\n")


class Stage(enum.Enum):
    """How far a request has come in; the last two say why it will not be taken."""

    HEAD = enum.auto()
    BODY = enum.auto()
    WHOLE = enum.auto()
    HEAD_TOO_LARGE = enum.auto()
    BODY_TOO_LARGE = enum.auto()


class RequestBuffer:
    """The bytes of one request, and perhaps of those sent right behind it."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.expects_continue = False
        self._searched = 0
        self._body_at = 0
        self._length: int | None = None  # None with a head that is whole: the body is chunked
        self._next_chunk = 0

    def add(self, data: bytes) -> Stage:
        self.data += data
        return self.stage()

    def stage(self) -> Stage:
        if not self._body_at:
            end = self.data.find(_END_OF_HEAD, max(0, self._searched - len(_END_OF_HEAD)))
            self._searched = len(self.data)
            if (end if end >= 0 else self._searched) > LONGEST_HEAD:
                return Stage.HEAD_TOO_LARGE
            if end < 0:
                return Stage.HEAD
            self._read_head(end + len(_END_OF_HEAD))
        if self._length is None:
            return self._chunked_stage()
        if self._length > LONGEST_BODY:
            return Stage.BODY_TOO_LARGE
        return Stage.WHOLE if len(self.data) >= self._body_at + self._length else Stage.BODY

    def _read_head(self, end: int) -> None:
        self._body_at = self._next_chunk = end
        head = bytes(self.data[:end])
        self.expects_continue = _EXPECTS.search(head) is not None
        if _CHUNKED.search(head) is None:
            length = _LENGTH.search(head)
            self._length = int(length[1]) if length else 0

    def _chunked_stage(self) -> Stage:
        while True:
            if len(self.data) - self._body_at > _LONGEST_CHUNKED:
                return Stage.BODY_TOO_LARGE
            line = _CHUNK.match(self.data, self._next_chunk)
            if line is None:
                # Malformed, when what stands there is too long for the line of a chunk: the parser says so.
                return Stage.WHOLE if len(self.data) - self._next_chunk > 256 else Stage.BODY
            size = int(line[1], 16)
            if size == 0:
                trailer_end = self.data.find(_END_OF_HEAD, line.end() - 2)
                return Stage.BODY if trailer_end < 0 else Stage.WHOLE
            if size > LONGEST_BODY:
                return Stage.BODY_TOO_LARGE
            if len(self.data) < line.end() + size + 2:
                return Stage.BODY
            self._next_chunk = line.end() + size + 2
