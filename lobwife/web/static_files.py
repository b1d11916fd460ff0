"""The static files, collected once for each version of them."""

from __future__ import annotations

import fcntl
import hashlib
import pathlib

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

from core.errors import Unavailable

STAMP = ".collected"


def collect_if_changed() -> bool:
    """Whether they had to be collected; raises Unavailable when they must be and the folder can't be written."""
    root = pathlib.Path(settings.STATIC_ROOT)
    wanted = fingerprint()
    if _stamp(root) == wanted:
        return False
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # several installations may start from one checkout
            if _stamp(root) == wanted:
                return False
            call_command("collectstatic", interactive=False, verbosity=0)
            (root / STAMP).write_text(wanted)
    except OSError as error:
        raise Unavailable(
            f"The static files can't be collected in {root} ({error.strerror or error}):"
            " set LOBWIFE_STATIC_ROOT to a directory that this user may write."
        ) from None
    return True


def fingerprint() -> str:
    """The same as long as no file that would be collected has changed, appeared or gone."""
    digest = hashlib.sha256(settings.STORAGES["staticfiles"]["BACKEND"].encode())
    for finder in get_finders():
        for path, storage in sorted(finder.list([]), key=lambda found: str(found[0])):
            with storage.open(path) as file:
                digest.update(f"\0{path}\0".encode() + hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def _stamp(root: pathlib.Path) -> str:
    try:
        return (root / STAMP).read_text()
    except OSError:
        return ""
