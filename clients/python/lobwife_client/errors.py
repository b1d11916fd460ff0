"""What a call may raise: one base class, and a class for each case that callers treat differently."""

from __future__ import annotations


class LobwifeError(Exception):
    """A call failed. `str(error)` is a sentence for people; `status` is that of the answer, 0 without one."""

    def __init__(self, sentence: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after  # seconds


class BadSettings(LobwifeError):
    """The address, the credential or the certificate file can't be used."""


class Unreachable(LobwifeError):
    """No answer of lobwife's came: nothing listens, it took too long, or something else answered.

    `was_sent` says that the request may have been executed all the same.
    """

    def __init__(
        self, sentence: str, status: int = 0, retry_after: float | None = None, *, was_sent: bool = True
    ) -> None:
        super().__init__(sentence, status, retry_after)
        self.was_sent = was_sent


class Untrusted(Unreachable):
    """The certificate is signed by nobody who is trusted here, or is not that host's."""


class Refused(LobwifeError):
    """lobwife answered that it does not do this, with the reason. `data` is the whole answer, if it was JSON."""

    data: object = None

    @property
    def code(self) -> str | None:
        """What names the case for programs: of a lease that is over `lease_released`, `lease_expired` and the like."""
        code = self.data.get("code") if isinstance(self.data, dict) else None
        return code if isinstance(code, str) else None


class Unauthorized(Refused):
    """401: the key is missing, wrong, revoked, or that of a lease that is over."""


class NotFound(Refused):
    """404: there is no such thing, or not for this caller."""


class Conflict(Refused):
    """409: the state of the thing does not allow this now; of a lease: it is over."""


class CursorGone(Refused):
    """410: events after the cursor were removed. Read what you follow anew, then go on after `next`."""

    def __init__(self, sentence: str, next: int) -> None:
        super().__init__(sentence, 410)
        self.next = next
