from __future__ import annotations

import pytest
from django.db import connection
from pytest_django import Settings

from tests.support.installation import Installation


@pytest.fixture
def in_process(installation: Installation, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions that don't use Django's connection work on the installation's database, without a process of it."""
    settings.STATE_DIR = installation.state
    monkeypatch.setitem(connection.settings_dict, "NAME", str(installation.state / "lobmob.db"))
