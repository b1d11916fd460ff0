"""The project's errors: a sentence and an HTTP status each, which lobwife/error_responses.py turns into responses."""


class LobwifeError(Exception):
    """Base of every error that callers get to see; `str(error)` is the sentence, `code` names the case for programs."""

    status = 500

    def __init__(self, sentence: str, *, retry_after: int | None = None, code: str | None = None) -> None:
        super().__init__(sentence)
        self.retry_after, self.code = retry_after, code


class Invalid(LobwifeError):
    """The request is malformed, or a value has the wrong type."""

    status = 400


class Unauthorized(LobwifeError):
    """The caller sent no credential, or one that isn't valid."""

    status = 401


class Forbidden(LobwifeError):
    """The caller is known and may not do this."""

    status = 403


class NotFound(LobwifeError):
    """The requested thing does not exist."""

    status = 404


class Conflict(LobwifeError):
    """The state of the thing does not allow this now."""

    status = 409


class Gone(LobwifeError):
    """What was asked for was there and is removed."""

    status = 410


class PreconditionFailed(LobwifeError):
    """The thing was changed since the caller read it."""

    status = 412


class TooLarge(LobwifeError):
    """The request is larger than allowed."""

    status = 413


class Unprocessable(LobwifeError):
    """The request is well-formed, but its content is refused."""

    status = 422


class TooManyRequests(LobwifeError):
    """A rate limit is reached; `retry_after` is in seconds."""

    status = 429


class Upstream(LobwifeError):
    """A service that this one depends on sent a response that can't be used."""

    status = 502


class Unavailable(LobwifeError):
    """Not possible now: not configured, or something it needs is down. `retry_after` is in seconds."""

    status = 503
