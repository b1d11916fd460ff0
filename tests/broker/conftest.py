"""Installations with a GitHub, for the tests of the broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.broker_rig import Rig


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Rig]:
    """A lobwife whose web answers, with a GitHub of its own; shared by a module's tests."""
    installation = Rig(tmp_path_factory.mktemp("broker"), **{"LOBWIFE_WORKERS": "2", **environment})
    try:
        installation.start_web()
        yield installation
    finally:
        installation.stop()
