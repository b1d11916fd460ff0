from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterator

import pytest

# Before the settings are read: a state directory of this test run's own.
os.environ["LOBWIFE_STATE_DIR"] = tempfile.mkdtemp(prefix="lobwife-tests-")
os.environ.setdefault("LOBWIFE_SECRET_KEY", "a-key-for-tests-that-is-long-enough-for-django-and-has-some-variety-12345")

from tests.installation import Installation  # noqa: E402


@pytest.fixture
def installation(tmp_path: pathlib.Path) -> Iterator[Installation]:
    """A migrated lobwife of the test's own; nothing runs yet."""
    made = Installation(tmp_path)
    made.manage("migrate", "-v0")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A lobwife whose web answers on both ports; shared by a module's tests."""
    made = Installation(tmp_path_factory.mktemp("server"))
    made.manage("migrate", "-v0")
    made.start_web()
    yield made
    made.stop()
