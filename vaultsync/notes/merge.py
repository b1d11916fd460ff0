"""The three-way merge of one note: the database's keys come from us, all else from people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vaultsync.notes.frontmatter import Document, parse
from vaultsync.notes.yaml_keys import Unsafe

TextMerge = Callable[[bytes, bytes, bytes], bytes | None]


@dataclass(frozen=True)
class Merged:
    """The merged content; `conflict_copy` is our whole version when a part of it could not be merged."""

    content: bytes
    conflict_copy: bytes | None = None


def merge_note(
    base: bytes | None, ours: bytes, theirs: bytes, *, owned: Sequence[str], text_merge: TextMerge | None = None
) -> Merged:
    """Merge key by key, and the body as a whole (line by line with `text_merge`); theirs is kept where both differ."""
    if ours == theirs or base == ours:
        return Merged(theirs)
    if base == theirs:
        return Merged(ours)
    try:
        before, mine, other = (parse(version.decode()) for version in (base or b"", ours, theirs))
        if not (mine.has_frontmatter and other.has_frontmatter):
            raise Unsafe("no frontmatter")
        return _merge_documents(before, mine, other, ours, owned, text_merge)
    except (Unsafe, UnicodeDecodeError):
        return merge_plain(base, ours, theirs, text_merge=text_merge)


def merge_plain(base: bytes | None, ours: bytes, theirs: bytes, *, text_merge: TextMerge | None) -> Merged:
    """Merge a file that is no note: line by line where that works, else theirs, with ours as a conflict copy."""
    if ours == theirs or base == ours:
        return Merged(theirs)
    if base == theirs:
        return Merged(ours)
    is_text = not any(b"\0" in version for version in (base or b"", ours, theirs))
    merged = text_merge(base or b"", ours, theirs) if text_merge and is_text and base is not None else None
    return Merged(theirs, conflict_copy=ours) if merged is None else Merged(merged)


def _merge_documents(
    base: Document,
    ours: Document,
    theirs: Document,
    our_content: bytes,
    owned: Sequence[str],
    text_merge: TextMerge | None,
) -> Merged:
    body, body_conflict = _merge_bodies(base, ours, theirs, text_merge)
    if _header(theirs) == _header(base):
        front, key_conflict = _header(ours), False
    elif _header(ours) in (_header(base), _header(theirs)):
        front, key_conflict = _header(theirs), False
    else:
        front, key_conflict = _merge_keys(base, ours, theirs, owned)
    return Merged((front + body).encode(), our_content if body_conflict or key_conflict else None)


def _header(document: Document) -> str:
    return "".join([document.head, *document.lines, document.closing])


def _merge_bodies(base: Document, ours: Document, theirs: Document, text_merge: TextMerge | None) -> tuple[str, bool]:
    if ours.body == theirs.body or ours.body == base.body:
        return theirs.body, False
    if theirs.body == base.body:
        return ours.body, False
    if text_merge:
        merged = text_merge(base.body.encode(), ours.body.encode(), theirs.body.encode())
        if merged is not None:
            return merged.decode(), False
    return theirs.body, True


def _merge_keys(base: Document, ours: Document, theirs: Document, owned: Sequence[str]) -> tuple[str, bool]:
    """Return their frontmatter with our changes, and True when a key of people's was changed on both sides."""
    before, mine, other = _by_key(base), _by_key(ours), _by_key(theirs)
    pieces = dict(other)
    conflict = False
    for key in [*mine, *(key for key in before if key not in mine)]:
        changed_here = mine.get(key) != before.get(key)
        changed_there = other.get(key) != before.get(key)
        if not changed_here or mine.get(key) == other.get(key):
            continue
        if changed_there and key not in owned:
            conflict = True
        elif key in mine:
            pieces[key] = mine[key]
        else:
            pieces.pop(key, None)
    merged = "".join([theirs.head, *pieces.values(), theirs.closing])
    if _by_key(parse(merged)) != pieces:
        raise Unsafe("its keys can't be merged")
    return merged, conflict


def _by_key(document: Document) -> dict[str, str]:
    """Return each key's text with the comments and blank lines above it; under "" what follows the last key."""
    texts: dict[str, str] = {}
    position = 0
    for key in document.keys:
        if key.name in texts or not key.name:
            raise Unsafe("a key is there twice")
        texts[key.name] = "".join(document.lines[position : key.end])
        position = key.end
    rest = "".join(document.lines[position:])
    return texts | ({"": rest} if rest else {})
