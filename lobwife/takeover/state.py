"""What a first start needs in the state directory, and the lock that two starts share."""

from __future__ import annotations

import contextlib
import pathlib
import secrets
from collections.abc import Iterator

from core import env
from core.errors import Unavailable
from core.files import locked, write_private

LOCK = "migrate.lock"
SECRET_KEY = "secret-key"  # noqa: S105 a file's name


@contextlib.contextmanager
def prepared(folder: pathlib.Path) -> Iterator[None]:
    """The state directory with its secret key, made where missing, locked against another start.

    Raises Unavailable when it can't be made or written.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(locked(folder / LOCK))
            _make_secret_key(folder / SECRET_KEY)
        except OSError as error:
            raise Unavailable(
                f"the state directory {folder} can't be written ({error.strerror}): make it writable and see that its"
                " disk has room, or set LOBWIFE_STATE_DIR to another"
            ) from error
        yield


def _make_secret_key(path: pathlib.Path) -> None:
    if env.text("LOBWIFE_SECRET_KEY") or (path.exists() and path.stat().st_size):
        return
    write_private(path, secrets.token_urlsafe(50) + "\n")
