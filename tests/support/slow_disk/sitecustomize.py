"""Read by every Python process of a test with a slow disk: a COMMIT takes the seconds that stand in a file.

It waits in C, as for a disk: the interpreter's lock is free meanwhile, and gevent knows nothing of it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pathlib

import pysqlite3.dbapi2

_FILE = pathlib.Path(os.environ["TEST_COMMIT_SECONDS"])
_libc = ctypes.CDLL(None)


class _Connection(pysqlite3.dbapi2.Connection):  # type: ignore[misc]
    def commit(self) -> None:
        _libc.usleep(int(float(_FILE.read_text()) * 1e6))
        super().commit()


pysqlite3.dbapi2.connect = functools.partial(pysqlite3.dbapi2.connect, factory=_Connection)
