"""lobwife: the operations centre of a fleet of coding agents."""

import sys

import pysqlite3
import pysqlite3.dbapi2

__version__ = "1.0.0"

# Debian and the python images ship SQLite 3.40 to 3.46, in which two connections that write and checkpoint at once can
# corrupt a WAL database (sqlite.org/wal.html#walresetbug). Both names must be swapped, before Django imports either.
sys.modules["sqlite3"] = pysqlite3
sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
