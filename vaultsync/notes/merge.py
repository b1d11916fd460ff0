"""The three-way merge of one file, where git's line by line found a conflict: a note is merged key by key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from core.frontmatter import Document, Unsafe, parse, parse_bytes, splice
from vaultsync.notes.layout import OWNED, is_copy_beside, task_of_path

MergeText = Callable[[bytes, bytes, bytes], bytes | None]
_MARKERS = (b"<<<<<<< ", b"=======", b">>>>>>> ")


class Merged(NamedTuple):
    """The merged content; with `is_conflict` a part of ours is not in it, and ours belongs beside it."""

    content: bytes
    is_conflict: bool = False


def merge_file(path: str, base: bytes | None, ours: bytes, theirs: bytes, merge_text: MergeText) -> Merged:
    """Merge a file; where both sides changed the same, theirs is kept."""
    if ours == theirs or base == ours:
        return Merged(theirs)
    if base == theirs:
        return Merged(ours)
    if path.endswith(".md"):
        try:
            before, mine, other = map(parse_bytes, (base or b"", ours, theirs))
            if mine.has_frontmatter and other.has_frontmatter:
                return _merge_documents(before, mine, other, merge_text)
        except Unsafe:
            pass
    is_text = base is not None and not any(b"\0" in version for version in (base, ours, theirs))
    merged = merge_text(base or b"", ours, theirs) if is_text else None
    return Merged(theirs, is_conflict=True) if merged is None else Merged(merged)


def _merge_documents(base: Document, ours: Document, theirs: Document, merge_text: MergeText) -> Merged:
    pieces, key_conflict = _merge_pieces(_pieces(base), _pieces(ours), _pieces(theirs))
    text = "".join([theirs.head, *pieces.values(), theirs.closing])
    if _pieces(parse(text)) != pieces:
        raise Unsafe("its keys can't be merged")
    body = merge_file("", base.body.encode(), ours.body.encode(), theirs.body.encode(), merge_text)
    return Merged(text.encode() + body.content, body.is_conflict or key_conflict)


def _pieces(document: Document) -> dict[str, str]:
    """Return the frontmatter in pieces: each key as written and, under its name with `#`, what stands above it."""
    pieces: dict[str, str] = {}
    position = 0
    for key in document.keys:
        if key.name in pieces or not key.name or key.name.startswith("#"):
            raise Unsafe("a key is there twice")
        pieces[f"#{key.name}"] = "".join(document.lines[position : key.first])
        pieces[key.name] = document.raw(key)
        position = key.end
    pieces["#"] = "".join(document.lines[position:])
    return {name: piece for name, piece in pieces.items() if piece}


def _merge_pieces(
    base: Mapping[str, str], ours: Mapping[str, str], theirs: Mapping[str, str]
) -> tuple[dict[str, str], bool]:
    """Return their pieces with our changes, and True when a key of people's was changed on both sides."""
    order, place = list(theirs), 0
    for name in ours:  # what we added goes behind what stands before it in ours, a comment above its key
        if name in order:
            place = order.index(name) + 1
        else:
            key = name.removeprefix("#")
            place = order.index(key) if key in order else place
            order.insert(place, name)
            place += 1
    if "#" in order:
        order.append(order.pop(order.index("#")))
    merged = {name: _merge_piece(name, *(side.get(name, "") for side in (base, ours, theirs))) for name in order}
    pieces = {name: piece for name, (piece, _) in merged.items() if piece}
    return pieces, any(is_conflict for _, is_conflict in merged.values())


def _merge_piece(name: str, before: str, mine: str, other: str) -> tuple[str, bool]:
    if mine in (before, other):
        return other, False
    if other == before:
        return mine, False
    if not mine or not other:  # an edit counts more than a deletion
        return mine or other, False
    if name.startswith("#"):
        lines = other.splitlines(keepends=True)
        return other + "".join(line for line in mine.splitlines(keepends=True) if line not in lines), False
    return other, name not in OWNED or _comment(mine) not in ("", _comment(before), _comment(other))


def _comment(piece: str) -> str:
    """Return what may be a comment behind the value of a key."""
    return piece.partition(" #")[2].strip()


def copy_beside(path: str, content: bytes) -> bytes:
    """Return a version of a file as it lies beside it; of a task's note one that nobody can take for a task.

    It has a link to the note and none of the database's keys. Comments at those keys stay.
    """
    task = task_of_path(path)
    if task is None or is_copy_beside(path):
        return content
    link = f"> [!warning] Another version of [[T{task}]], which could not be merged."
    text = content.decode(errors="surrogateescape")
    try:
        document = parse(splice(text, {}, OWNED))
    except Unsafe:
        lines = "".join(f"    {line}" for line in text.splitlines(keepends=True))  # code: no key begins a line
        return f"{link}\n\n{lines}".encode(errors="surrogateescape")
    newline = document.newline
    front = "".join([document.head, *document.lines, document.closing]) if document.lines else ""
    return f"{front}{newline}{link}{newline}{document.body}".encode(errors="surrogateescape")


def has_conflict_markers(content: bytes) -> bool:
    """Return True for a text with git's three conflict markers, one after another, each at the begin of a line."""
    text, position = b"\n" + content, 0
    for marker in _MARKERS:
        position = text.find(b"\n" + marker, position)
        if position < 0:
            return False
        position += len(marker)
    return b"\0" not in content


def without_conflict_markers(content: bytes, labels: tuple[str, str]) -> bytes:
    """Return the lines of both sides of conflicts that git marked with these labels."""
    ours, theirs = (re.escape(label.encode()) for label in labels)
    conflict = rb"^<{7,} %s[^\n]*\n(.*?)^={7,}\r?\n(.*?)^>{7,} %s[^\n]*\n" % (ours, theirs)
    return re.sub(conflict, rb"\1\2", content, flags=re.DOTALL | re.MULTILINE)
