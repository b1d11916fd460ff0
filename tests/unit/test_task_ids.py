"""Task ids in each form that callers and people write them."""

from __future__ import annotations

import pytest

from core.errors import Invalid, NotFound
from tasks.ids import LARGEST_ID, parse_path_id, parse_task_id, parse_typed_id


@pytest.mark.parametrize(
    ("text", "exact", "typed"),
    [
        ("T42", 42, 42),
        ("t42", None, 42),
        ("42", None, 42),
        (" T42 ", None, 42),
        ("T042", 42, 42),
        (f"T{LARGEST_ID}", LARGEST_ID, LARGEST_ID),
        (f"T{LARGEST_ID + 1}", None, None),
        ("T" + "9" * 40, None, None),
        ("T", None, None),
        ("", None, None),
        ("T4²", None, None),
        ("fix-t42", None, None),
    ],
)
def test_registrations_take_the_exact_form_and_people_type_any(text: str, exact: int | None, typed: int | None) -> None:
    assert parse_task_id(text) == exact
    assert parse_typed_id(text) == typed


@pytest.mark.parametrize(("text", "number"), [("42", 42), ("T42", 42), ("0", 0), (str(LARGEST_ID), LARGEST_ID)])
def test_a_path_has_a_number_with_or_without_its_letter(text: str, number: int) -> None:
    assert parse_path_id(text) == number


@pytest.mark.parametrize("text", ["t42", "x", "", "4 2", "T-1", "+4", "٤٢"])
def test_a_path_that_is_no_number_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(Invalid, match="task id must be a whole number"):
        parse_path_id(text)


@pytest.mark.parametrize("text", ["-1", str(LARGEST_ID + 1), "T" + "9" * 60])
def test_a_path_with_a_number_that_no_row_can_have_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        parse_path_id(text)
