"""Migrations that rebuild a table of a database in use: ids and references stay right."""

from __future__ import annotations

import pytest

from tests.support import old_service
from tests.support.installation import Installation

pytestmark = pytest.mark.sqlite("its tables are rebuilt")

REBUILD = """
import django; django.setup()
from django.db import connection, models
from tasks.models import Task, TaskEvent
for model in (Task, TaskEvent):
    before = model._meta.get_field("slug" if model is Task else "actor")
    after = models.TextField(default="x"); after.set_attributes_from_name(before.name); after.model = model
    with connection.schema_editor() as editor:
        editor.alter_field(model, before, after)
"""


NEW_ORPHAN = """
import django; django.setup()
from django.db import connection
from django.db.utils import IntegrityError
try:
    with connection.schema_editor() as editor:
        editor.execute("DELETE FROM tasks WHERE id = 1")
except IntegrityError as error:
    assert "of task_events would refer to a row of tasks" in str(error), error
else:
    raise SystemExit("not refused")
"""


def test_a_schema_change_that_orphans_rows_is_rolled_back(fresh: Installation) -> None:
    database = old_service.make_database(fresh.state, 2)
    fresh.manage("migrate", "-v0")
    before = old_service.dump(database)
    fresh.run("-c", NEW_ORPHAN, check=True)
    assert old_service.dump(database) == before


@pytest.mark.parametrize("emptied", [False, True])
def test_a_rebuilt_table_never_gives_an_id_out_again(fresh: Installation, emptied: bool) -> None:
    database = old_service.make_database(fresh.state, 2)
    fresh.manage("migrate", "-v0")
    if emptied:
        with fresh.database() as opened:
            opened.execute("DELETE FROM task_events")
            opened.execute("DELETE FROM tasks")
    before = old_service.dump(database)["sqlite_sequence"]
    fresh.run("-c", REBUILD, check=True)
    assert old_service.dump(database)["sqlite_sequence"] == before
    with fresh.database() as opened:
        assert "NOT NULL" in opened.execute("SELECT sql FROM sqlite_master WHERE name = 'tasks'").fetchone()[0]
        assert opened.execute("INSERT INTO tasks (name, slug) VALUES ('next', '')").lastrowid == 8
