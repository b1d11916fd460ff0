"""Folders that belong to a process: locked while it lives, removed by others after it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile


class OwnFolder:
    """A new folder, private and locked until close() or the end of this process."""

    def __init__(self, parent: pathlib.Path, prefix: str) -> None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = pathlib.Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=parent))
        self._lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = made.rename(parent / made.name[1:])  # only now does prune() look at it

    def close(self) -> None:
        os.close(self._lock)


def is_in_use(folder: pathlib.Path) -> bool:
    """Return whether the process that made it lives, in whatever container."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def prune(parent: pathlib.Path, keep: int) -> None:
    """Remove the folders that nobody uses any more, but for the newest."""
    with contextlib.suppress(FileNotFoundError):
        folders = [path for path in parent.iterdir() if not path.name.startswith(".") and not path.is_symlink()]
        ended = [path for path in folders if path.is_dir() and not is_in_use(path)]
        times = {}
        for path in ended:
            with contextlib.suppress(FileNotFoundError):  # another runner prunes too
                times[path] = path.stat().st_mtime
        for path in sorted(times, key=lambda each: times[each], reverse=True)[keep:]:
            remove(path)


def remove(folder: pathlib.Path) -> None:
    """Remove all of it, also what was made read-only; symbolic links are not followed."""
    for root, names, _ in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            if not os.path.islink(path):
                with contextlib.suppress(OSError):
                    os.chmod(path, 0o700)  # noqa: S103 before os.walk() lists it
    shutil.rmtree(folder, ignore_errors=True)
