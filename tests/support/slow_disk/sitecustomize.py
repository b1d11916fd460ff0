"""Read by every Python process of a test with a slow disk: a COMMIT takes the seconds that stand in a file.

So does a write outside of a transaction, which is one of its own.

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


def _wait() -> None:
    _libc.usleep(int(float(_FILE.read_text()) * 1e6))


@functools.cache
def _slow(cursor: type[pysqlite3.dbapi2.Cursor]) -> type[pysqlite3.dbapi2.Cursor]:
    class Slow(cursor):  # type: ignore[misc,valid-type]
        def execute(self, sql: str, *parameters: object) -> object:
            if sql.startswith(("INSERT", "UPDATE", "DELETE")) and not self.connection.in_transaction:
                _wait()
            return super().execute(sql, *parameters)

    return Slow


class _Connection(pysqlite3.dbapi2.Connection):  # type: ignore[misc]
    def cursor(self, factory: type[pysqlite3.dbapi2.Cursor] = pysqlite3.dbapi2.Cursor) -> pysqlite3.dbapi2.Cursor:
        return super().cursor(_slow(factory))

    def commit(self) -> None:
        _wait()
        super().commit()


pysqlite3.dbapi2.connect = functools.partial(pysqlite3.dbapi2.connect, factory=_Connection)
