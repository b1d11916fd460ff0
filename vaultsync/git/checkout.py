"""The working copy goes from one commit to another: file by file, whole, and to be repeated after a kill."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable

from vaultsync.git.command import Change, Git
from vaultsync.git.files import Blocked, Files, blob_id
from vaultsync.git.merge import LINK, MODULE, aside_names, index_lines
from vaultsync.notes.layout import BRANCH, OWNED, task_of_path
from vaultsync.notes.merge import merge_note, merge_plain

JOURNAL = "checkout.json"
_AT_ONCE = 200


class Checkout:
    """Moves the working copy, the index and the branch. The journal says where to while it is under way.

    git's own checkout writes files in place: a kill in mid-file would leave half a note that looks like an edit.
    """

    def __init__(self, git: Git, files: Files, checkpoint: Callable[[str], None]) -> None:
        self.git = git
        self.files = files
        self.checkpoint = checkpoint
        self.journal = files.scratch / JOURNAL
        self.reported: list[tuple[str, str]] = []

    def go(self, *, tree: str, head: str | None, to: str) -> None:
        """From a tree (what the working copy holds, whatever HEAD is) to a commit."""
        entry = json.dumps({"tree": tree, "head": head, "to": to}).encode()
        self.files.write_scratch(JOURNAL, entry)
        self._follow(tree, to)

    def finish(self) -> None:
        """Complete what a killed sync began."""
        try:
            noted = json.loads(self.journal.read_bytes())
            tree, head, to = noted["tree"], noted["head"], noted["to"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            self.journal.unlink()
            return
        if self.git.resolve("HEAD") not in (head, to):
            self.journal.unlink()  # someone has moved the branch since: what lies here is theirs
            return
        self._follow(tree, to)

    def _follow(self, tree: str, to: str) -> None:
        self.checkpoint("journal")
        changes = self.git.diff(tree, to)
        for start in range(0, len(changes), _AT_ONCE):
            part = changes[start : start + _AT_ONCE]
            contents = self.git.blobs(
                each for change in part for each in (change.old, change.new) if change.new_mode != MODULE
            )
            for change in sorted(part, key=lambda each: bool(each.new)):
                try:
                    self._bring(change, contents)
                except (Blocked, FileNotFoundError, IsADirectoryError) as error:
                    self.reported.append((change.path, str(error)))
            self.checkpoint("checkout-part")
        entries = [(change.path, (change.new_mode, change.new)) for change in changes]
        self.git.run("update-index", "-z", "--index-info", stdin=b"".join(index_lines(entries, self.files.no_id)))
        self.git.run("update-index", "-q", "--refresh", accept=(0, 1))
        self.checkpoint("checked-out")
        self.git.run("update-ref", "-m", "sync", f"refs/heads/{BRANCH}", to)
        self.git.run("symbolic-ref", "-m", "sync", "HEAD", f"refs/heads/{BRANCH}")
        self.journal.unlink(missing_ok=True)

    def _bring(self, change: Change, contents: dict[str, bytes]) -> None:
        path = change.path
        if MODULE in (change.new_mode, change.old_mode):
            return
        kind = self.files.kind(path)
        if kind == "file":
            current: bytes | None = self.files.read(path)
        elif kind == "link":
            current = os.fsencode(os.readlink(self.files.at(path)))
        elif kind:
            if not change.new:
                return
            with contextlib.suppress(OSError):  # an empty one, of which git knows nothing
                os.rmdir(self.files.at(path))
            if self.files.kind(path):
                raise Blocked("a folder is where the remote has a file")
            current = None
        else:
            current = None
        found = blob_id(current, change.new or change.old) if current is not None else ""
        if found == change.new and (kind == "link") == (change.new_mode == LINK):
            return
        if current is None or found == change.old:
            self._write(change, contents.get(change.new))
        elif change.new:
            self._merge_edit(change, current, contents, kind)

    def _write(self, change: Change, content: bytes | None) -> None:
        if not change.new:
            self.files.remove(change.path)
        elif content is None:
            raise Blocked("its content is missing from the repository")
        elif change.new_mode == LINK:
            self.files.link(change.path, content)
        else:
            self.files.write(change.path, content, 0o755 if change.new_mode == "100755" else 0o644)

    def _merge_edit(self, change: Change, current: bytes, contents: dict[str, bytes], kind: str) -> None:
        """Someone edited the file since it was committed: their edit goes on top of what comes in."""
        incoming = contents.get(change.new, b"")
        if kind == "link" or change.new_mode == LINK:
            raise Blocked("a link was changed on both sides; the one that lies here is kept")

        def text_merge(first: bytes, second: bytes, third: bytes) -> bytes | None:
            return self.git.merge_text(self.files.scratch, first, second, third)

        base = contents.get(change.old)
        if task_of_path(change.path) is not None:
            merged = merge_note(base, current, incoming, owned=OWNED)
        else:
            merged = merge_plain(base, current, incoming, text_merge=text_merge)
        if merged.aside is not None:
            name = free_name(self.files, change.path, merged.aside)
            self.files.write(name, merged.aside)
            self.reported.append((change.path, f"edited on both sides; what lay here is in {name}"))
        self.files.write(change.path, merged.content)


def free_name(files: Files, path: str, content: bytes) -> str:
    """The name beside a file for a version that could not be kept; one that holds it already is used again."""
    for name in aside_names(path):
        kind = files.kind(name)
        if not kind or (kind == "file" and files.read(name) == content):
            return name
    raise Blocked("it has a thousand conflicts beside it")
