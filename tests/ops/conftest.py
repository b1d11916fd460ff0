from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.execution import output
from jobs.models import JobRun
from ops import demo


@pytest.fixture
def fleet(db: None) -> Iterator[None]:
    """The demo's fleet, whose output lies in files."""
    demo.make_fleet()
    yield
    for pk in JobRun.objects.values_list("pk", flat=True):
        output.delete(pk)
