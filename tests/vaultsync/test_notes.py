"""Notes as people write them: only the database's own lines change, the rest survives byte for byte."""

from __future__ import annotations

import os
import pathlib

import pytest
import yaml

from tests.support.git_remote import World, change, note_of, task
from vaultsync.models import NoteProblem

pytestmark = [pytest.mark.django_db, pytest.mark.git]

HEAD = "id: {id}\nname: Old name\nstatus: queued\n"
TRAPS = {
    "a local time": "at: 2024-05-01T09:30:00",
    "a time of day": "t: 12:30",
    "leading zeros": "n: 007",
    "a version": "v: 1.10",
    "a key that is a truth": "on: off",
    "a key that is a number": "2024: x",
    "a link": "up: [[Note A]]",
    "a value that is a comment": "tags: #todo",
    "an empty key": "assignee:",
    "emoji": "mood: 🎉 👩‍💻\n🎯: yes",
    "comments": "# mine\nkey: value   # and mine\n\n# last",
    "a literal block": "text: |\n  # no comment\n  line\n\n  status: done\n  ---\n",
    "a folded block": "text: >-\n  folded\n  text\nnext: 1",
    "a long line": "long: " + "word " * 400 + "end",
    "duplicate keys": "tags: a\ntags: b",
    "quotes": "a: 'it''s'\nb: \"x\\ty\"",
    "nested": "a:\n  status: deep\n  id: [1, {b: 2}]\nlist:\n  - name: x\n    type: y",
    "an anchor": "base: &b {x: 1}\nother: *b",
    "a date": "due: 2024-13-45",
    "aliases": 'aliases: [Ünïcode, עברית, "a: b"]',
    "trailing blanks": "key: value  \t ",
    "a separator of lines": 'key: "a\u2028 b"',
}
BODIES = {
    "plain": "\nBody.\n",
    "no final newline": "\nBody",
    "begins with ---": "---\nnot: frontmatter\n---\nBody\n",
    "empty": "",
    "CRLF within": "\nline\r\nline\r\n",
    "trailing blanks": "\n\n  Body  \n\n\n",
}
REPORTED = {
    "a colon in a value": "---\nid: {id}\ntitle: a: b\nstatus: queued\n---\nBody\n",
    "tabs": "---\nid: {id}\na:\n\tb: 1\nstatus: queued\n---\nBody\n",
    "no closing delimiter": "---\nid: {id}\nstatus: queued\n\nBody\n",
    "text": "---\njust text\n---\nBody\n",
    "braces": "---\n{{id: 1, status: queued}}\n---\nBody\n",
    "a key in the long form": "---\n? id\n: x\n---\nBody\n",
    "two documents": "---\nid: {id}\n--- more\n---\nBody\n",
    "deep nesting": "---\nx: " + "[" * 50000 + "\n---\n",
}


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path, remote=False)


def others(content: bytes) -> bytes:
    """A note without the lines that the database owns."""
    owned = (b"id:", b"name:", b"type:", b"status:", b"created:", b"priority:", b"assigned_to:")
    return b"".join(line for line in content.splitlines(keepends=True) if not line.startswith(owned))


def change_three_times(world: World, notes: list) -> None:
    for changes in ({"status": "active", "assigned_to": "lobster-1"}, {"priority": "high"}, {"assigned_to": None}):
        for made in notes:
            change(made, **changes)
        world.synced()


def test_what_people_wrote_survives(world: World) -> None:
    world.synced()
    written = {}
    for trap, text in TRAPS.items():
        for kind, body in BODIES.items():
            made = task(f"{trap}, {kind}")
            written[made] = f"---\n{text}\n{HEAD.format(id=made.task_id)}mine: last\n---\n{body}".encode()
    for made, content in written.items():
        world.write(note_of(made), content)
    change_three_times(world, list(written))
    assert not NoteProblem.objects.filter(kind="unreadable").exists()
    for made, content in written.items():
        now = world.read(note_of(made))
        assert others(now) == others(content), made.name
        lines = now.decode().splitlines()
        assert "status: active" in lines
        assert "priority: high" in lines
        assert f"name: {made.name}" in lines or f"name: '{made.name}'" in lines


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("\ufeff---\nmine: 1\nstatus: queued\n---\nB", "\ufeff---\nmine: 1\nstatus: active\n"),
        ("---\r\nmine: 1\r\nstatus: queued\r\nx: |\r\n  y\r\n---\r\nB\r\n", "---\r\nmine: 1\r\nstatus: active\r\n"),
        ("---\nmine: 1\nstatus: queued\n...\nB\n---\n", "---\nmine: 1\nstatus: active\n"),
        ("---  \nmine: 1\nstatus: queued # why\n--- \nB", "---  \nmine: 1\nstatus: active # why\n"),
        ("---\nmine: 1\n'status': \"queued\"\n---\nB", "---\nmine: 1\nstatus: active\n"),
        ("---\nmine: 1\nstatus:\n  queued\n---\nB", "---\nmine: 1\nstatus: active\n"),
        ("---\nmine: 1\nstatus: >\n  queued\n\n# mine\n---\nB", "---\nmine: 1\nstatus: active\n"),
        ("---\nmine: 1\nstatus: queued\nstatus: active\n---\nB", "---\nmine: 1\nstatus: active\n"),
    ],
    ids=["BOM", "CRLF", "dots", "comment", "quoted", "below", "folded", "duplicate"],
)
def test_other_forms_of_frontmatter_are_spliced(world: World, before: str, after: str) -> None:
    made = task("Name", status="active")
    world.synced()
    world.write(note_of(made), before)
    world.synced(full=True)
    now = world.read(note_of(made)).decode()
    assert now.startswith(after.split("mine")[0])
    assert "mine: 1" in now
    assert after.split("mine: 1")[1] in now
    assert now.count("status:") == 1
    closing = next(mark for mark in ("\n---\r\n", "\n...\n", "\n--- \n", "\n---\n") if mark in before)
    assert now.endswith(closing + before.split(closing, 1)[1])


@pytest.mark.parametrize("kind", REPORTED)
def test_what_can_not_be_read_safely_is_reported_and_left_alone(world: World, kind: str) -> None:
    made, other = task(), task("Other")
    world.synced()
    content = REPORTED[kind].format(id=made.task_id).encode()
    world.write(note_of(made), content)
    for changes in ({"status": "active"}, {"priority": "high"}, {"status": "completed"}):
        change(made, **changes)
        change(other, **changes)
        world.synced()
    assert world.read(note_of(made)) == content
    problem = NoteProblem.objects.get()
    assert (problem.path, problem.kind) == (note_of(made), "unreadable")
    assert "status: completed" in world.text(note_of(other, "completed"))
    world.write(note_of(made), "---\nmine: 1\n---\nMended\n")
    world.synced()
    assert not NoteProblem.objects.exists()
    assert world.text(note_of(made, "completed")).endswith("---\nMended\n")


def test_a_note_that_is_not_utf8_is_left_alone(world: World) -> None:
    made = task()
    world.synced()
    world.write(note_of(made), b"---\nmine: caf\xe9\n---\n")
    change(made, priority="high")
    world.synced()
    assert world.read(note_of(made)) == b"---\nmine: caf\xe9\n---\n"
    assert "UTF-8" in NoteProblem.objects.get().sentence


def test_a_note_that_is_a_symlink_is_left_alone(world: World, tmp_path: pathlib.Path) -> None:
    made = task()
    world.synced()
    outside = tmp_path / "outside.md"
    outside.write_text("---\nstatus: queued\n---\n")
    path = world.path / note_of(made)
    path.unlink()
    path.symlink_to(outside)
    change(made, status="completed")
    world.synced()
    assert outside.read_text() == "---\nstatus: queued\n---\n"
    assert path.is_symlink()
    assert "symlink" in NoteProblem.objects.get().sentence


def test_a_folder_that_is_called_like_a_note_stops_no_other_note(world: World) -> None:
    blocked, free = task(), task()
    world.synced()
    world.write(f"010-tasks/completed/{blocked.task_id}.md/x", "a folder of that name")
    world.write("010-tasks/failed/T999.md/x", "and one of no task")
    for made in (blocked, free):
        change(made, priority="high")
    world.synced(full=True)
    assert b"priority: high" in world.read(note_of(free))
    assert "not a regular file" in NoteProblem.objects.get(path=note_of(blocked)).sentence


def test_a_note_with_a_number_that_no_task_can_have_stops_nothing(world: World) -> None:
    made = task()
    world.synced()
    world.write("010-tasks/active/T9999999999999999999.md", "---\nid: T9999999999999999999\n---\n\nA joke.\n")
    change(made, priority="high")
    world.synced()
    world.synced(full=True)
    assert "priority: high\n" in world.text(note_of(made))
    assert "A joke." in world.text("010-tasks/active/T9999999999999999999.md")


def test_names_of_files_that_are_no_text_stop_nothing_and_are_shown_as_text(world: World) -> None:
    made = task()
    world.synced()
    folder = os.fsencode(world.path / "010-tasks/active")
    for name in (b"\xff\xfe.md", b"a\x1b[31m\nline.md"):
        pathlib.Path(os.fsdecode(os.path.join(folder, name))).write_text("<<<<<<< a\n=======\n>>>>>>> b\n")
    change(made, priority="high")
    result = world.sync(full=True)
    assert result.error == ""
    assert b"priority: high" in world.read(note_of(made))
    paths = sorted(NoteProblem.objects.values_list("path", flat=True))
    assert paths == ["010-tasks/active/  .md", "010-tasks/active/a [31m line.md"]


def test_a_folder_that_is_a_symlink_is_not_followed(world: World, tmp_path: pathlib.Path) -> None:
    made = task()
    world.synced()
    outside = tmp_path / "outside"
    outside.mkdir()
    (world.path / "010-tasks/completed/.gitkeep").unlink()
    (world.path / "010-tasks/completed").rmdir()
    (world.path / "010-tasks/completed").symlink_to(outside)
    change(made, status="completed")
    world.sync()
    assert list(outside.iterdir()) == []
    assert "symlink" in NoteProblem.objects.get(kind="unreadable").sentence


NAMES = [
    "a|b",
    "two\nlines",
    'it\'s "quoted"',
    "key: value",
    "- dash",
    "-dash",
    "x" * 5000,
    "\u202eעברית 🎉",
    "# no heading",
    "1e3",
    "0o17",
    "007",
    "12:30",
    "yes",
    "~",
    "[x]",
    "{y}",
    "@x `y`",
    "%x",
    "&x *y",
    "? x",
    "> |",
    "trailing \\",
    "tab\there",
    "a #b",
    "\x07bell",
    "...",
    "---",
]


def test_any_name_is_one_line_that_reads_back_the_same(world: World) -> None:
    made = [task(name, model=name) for name in NAMES]
    world.synced()
    for each in made:
        front = world.text(note_of(each)).split("---\n", 2)[1]
        assert yaml.safe_load(front)["name"] == each.name
        assert yaml.safe_load(front)["model"] == each.name
        assert len(front.split("\n")) == 8, front
    for each in made:
        change(each, status="active", name=f"{each.name} again")
    world.synced()
    for each, name in zip(made, NAMES, strict=True):
        assert yaml.safe_load(world.text(note_of(each)).split("---\n", 2)[1])["name"] == f"{name} again"


def test_keys_of_the_database_edited_in_a_note_are_put_back_and_reported(world: World) -> None:
    made = task()
    world.synced()
    world.edit(note_of(made), "status: queued", "status: completed")
    world.synced()
    assert "status: queued\n" in world.text(note_of(made))
    made.refresh_from_db()
    assert made.status == "queued"
    problem = NoteProblem.objects.get()
    assert (problem.kind, problem.path) == ("drift", note_of(made))
    assert "status" in problem.sentence
