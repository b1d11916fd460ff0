"""The project's errors: each is one sentence for a person and one HTTP status (lobwife/error_responses.py)."""


class LobwifeError(Exception):
    """Base of every error that a caller is told about; `str(error)` is the sentence."""

    status = 500

    def __init__(self, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class Invalid(LobwifeError):
    """What was sent can't be used: malformed, or of the wrong type."""

    status = 400


class Unidentified(LobwifeError):
    """The caller gave no credential, or one that isn't valid."""

    status = 401


class Forbidden(LobwifeError):
    """The caller is known and may not do this."""

    status = 403


class NotFound(LobwifeError):
    """What was named does not exist."""

    status = 404


class Conflict(LobwifeError):
    """The state of the thing does not allow this now."""

    status = 409


class TooLarge(LobwifeError):
    """What was sent is over a limit."""

    status = 413


class Unprocessable(LobwifeError):
    """Well-formed, but refused for what it says."""

    status = 422


class TooMany(LobwifeError):
    """A rate limit is reached; `retry_after` seconds say when to come back."""

    status = 429


class Upstream(LobwifeError):
    """A service that this one depends on gave an answer that can't be used."""

    status = 502


class Unavailable(LobwifeError):
    """Can't be done now: not configured, or something it needs is down. `retry_after` is in seconds."""

    status = 503
