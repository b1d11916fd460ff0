"""Timestamps in the forms that real files have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from core.timestamps import iso_text, parse, seconds_text

NOON = datetime(2026, 2, 16, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-16 12:00:00",
        "2026-02-16T12:00:00Z",
        "2026-02-16T12:00:00+00:00",
        "2026-02-16T14:00:00.000000+02:00",
        "2026-02-16 12:00",
        "20260216T120000",
    ],
)
def test_every_form_is_read_as_utc(text: str) -> None:
    assert parse(text) == NOON


@pytest.mark.parametrize(
    "text",
    [None, 5, "", "yesterday", "2026-13-45 99:99:99", "99999-01-01", "2026-02-16_12:00:00", "0001-01-01T00:00+23:59"],
)
def test_what_names_no_moment_is_none(text: object) -> None:
    assert parse(text) is None


def test_both_forms_are_written_in_utc() -> None:
    moment = NOON.astimezone(timezone(timedelta(hours=9))) + timedelta(microseconds=5)
    assert seconds_text(moment) == "2026-02-16 12:00:00"
    assert iso_text(moment) == "2026-02-16T12:00:00.000005+00:00"
    assert parse(iso_text(moment)) == moment
