"""What a server lacks on which this can't run, or runs wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

VERSION_AT_LEAST = 15
_SELECT = """
SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),
coalesce(has_schema_privilege(current_schema(), 'CREATE'), FALSE), current_schema(), current_user, current_database(),
pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'
"""


class Obstacle(NamedTuple):
    """What is wrong, and what to do about it, in a sentence each; the number is its own for good."""

    number: int
    sentence: str
    hint: str


def obstacles(connection: Any) -> Iterator[Obstacle]:
    """Yield what an open connection finds wrong with its database."""
    version, encoding, may_create, schema, user, database, is_read_only = connection.execute(_SELECT).fetchone()
    if version < VERSION_AT_LEAST:
        yield Obstacle(
            31,
            f"PostgreSQL is {version}: this needs {VERSION_AT_LEAST} or newer.",
            "Upgrade the server, or name a newer one in LOBWIFE_DATABASE_URL.",
        )
    if encoding != "UTF8":
        yield Obstacle(
            32,
            f"The database {database} has the encoding {encoding}: this needs UTF8.",
            f"Make it anew: CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0.",
        )
    if not may_create:
        where = f"the schema {schema}" if schema else "any schema of its search_path"
        yield Obstacle(
            33,
            f"The account {user} may not make tables in {where} of the database {database}.",
            f"Make it the owner: ALTER DATABASE {database} OWNER TO {user}.",
        )
    if is_read_only:
        yield Obstacle(
            34,
            f"The database {database} takes no writes: the server is a standby, or its transactions are read-only.",
            "Name the primary in LOBWIFE_DATABASE_URL, or several hosts with target_session_attrs=read-write.",
        )
