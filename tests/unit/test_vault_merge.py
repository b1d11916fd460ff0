"""Conflict markers, the merge of a note's pieces, and what lies beside a note: text in, text out."""

from __future__ import annotations

import time

import pytest

from core.frontmatter import splice
from vaultsync.git.files import conflict_name, is_placeable
from vaultsync.notes.layout import OWNED
from vaultsync.notes.merge import copy_beside, has_conflict_markers, merge_file

NOTE = "010-tasks/active/T42.md"


def no_lines(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    return None


def test_conflict_markers_are_looked_for_in_linear_time() -> None:
    text = b"<<<<<<< a\n=======\n" * 50_000
    started = time.perf_counter()
    assert not has_conflict_markers(text)
    assert has_conflict_markers(text + b">>>>>>> b\n")
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        (b"<<<<<<< a\nx\n=======\ny\n>>>>>>> b\n", True),
        (b'{\n<<<<<<< a\r\n"x"\r\n=======\r\n"y"\r\n>>>>>>> b\r\n}', True),
        (b">>>>>>> b\n=======\n<<<<<<< a\n", False),
        (b"a <<<<<<< b\n=======\n>>>>>>> c\n", False),
        (b"Title\n=======\n", False),
        (b"\0<<<<<<< a\n=======\n>>>>>>> b\n", False),
    ],
)
def test_conflict_markers_are_three_and_begin_their_lines(text: bytes, marked: bool) -> None:
    assert has_conflict_markers(text) is marked


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        ("a: 1\nb: 1\n", "a: 2\nb: 1\n", "a: 1\nb: 2\n", "a: 2\nb: 2\n"),
        ("a: 1\n", "# x\na: 1\n", "new: 1\na: 1\n", "new: 1\n# x\na: 1\n"),
        ("a: 1\n", "# x\na: 1\n", "# y\na: 1\n", "# y\n# x\na: 1\n"),
        ("a: 1\nb: 1\n", "a: 1\n", "a: 1\nb: 2\n", "a: 1\nb: 2\n"),
        ("a: 1\nb: 1\n", "a: 1\nb: 2\n", "a: 1\n", "a: 1\nb: 2\n"),
        ("a: 1\nb: 1\n", "b: 1\n", "a: 1\nb: 2\n", "b: 2\n"),
        ("status: queued\n", "status: active\n", "status: failed\n", "status: failed\n"),
        ("a: 1\n", "a: 1\n# x\n", "a: 1\n# y\n", "a: 1\n# y\n# x\n"),
    ],
)
def test_keys_and_comments_are_merged_piece_by_piece(base: str, ours: str, theirs: str, merged: str) -> None:
    before, mine, other, expected = (f"---\n{keys}---\nBody\n".encode() for keys in (base, ours, theirs, merged))
    result = merge_file(NOTE, before, mine, other, no_lines)
    assert result.content == expected
    assert not result.is_conflict


def test_a_comment_behind_a_key_of_ours_that_both_changed_is_not_lost() -> None:
    versions = [
        f"---\nstatus: {value}\n---\nB\n".encode() for value in ("queued", "queued  # mine", "failed  # theirs")
    ]
    result = merge_file(NOTE, *versions, no_lines)
    assert result.is_conflict
    assert b"# theirs" in result.content


@pytest.mark.parametrize(
    "text",
    ["---\nid: T42\nstatus: queued  # why\nmine: 1\n---\n\nBody\n", "---\nid: a: b\nstatus: queued\n---\nBody\n"],
)
def test_a_copy_beside_is_no_task_and_links_to_the_note(text: str) -> None:
    copy = copy_beside(NOTE, text.encode()).decode()
    assert "[[T42]]" in copy
    assert "Body" in copy
    assert not any(line.startswith(("id:", "status:")) for line in copy.splitlines())
    assert ("# why" in text) == ("# why" in copy)


def test_comments_within_a_key_of_ours_survive_its_change() -> None:
    text = "---\nrepos: # all\n- org/a # first\n- org/b\nstatus: # why\n  queued # because\n---\nB\n"
    spliced = splice(text, {"repos": ["org/c"], "status": "active"}, OWNED)
    for comment in ("# all", "# first", "# why", "# because"):
        assert comment in spliced


@pytest.mark.parametrize("path", ["a/.git/config", "sub/.GIT/x", "a/git~1/x", "../x", "a/.git. /x", "/x", "a\\.git\\x"])
def test_paths_that_git_refuses_are_not_placed(path: str) -> None:
    assert not is_placeable(path)


@pytest.mark.parametrize("path", [".gitignore", "a/.github/x", "git/x", "a.git/x", "a\\b", "..x"])
def test_paths_that_only_look_alike_are_placed(path: str) -> None:
    assert is_placeable(path)


def test_names_of_copies_fit_into_255_bytes() -> None:
    name = conflict_name(f"k/{'字' * 84}.md", lambda name: True)
    assert len(name.removeprefix("k/").encode()) <= 255
    assert name.endswith(".conflict.md")
