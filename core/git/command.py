"""git by its command line: an environment of our own, time-outs, and a token that nobody else sees.

Standard library only: the fleet's scripts use it without Django.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import itertools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

Item = TypeVar("Item")
BRANCH = "main"
SYMLINK, GITLINK = "120000", "160000"
_MOST_PATHS = 2000  # in the arguments of a command
_BATCH = 1000  # items whose contents are held at once
_MOST_RECENT, _SMALL = 2 * 2**20, 4096  # bytes: of all contents that are remembered, and of one
_KEPT_MEMORY = str(16 * 2**20)  # bytes: glibc gives less back to the system with each object, two thirds of fast-import
_NICENESS = 10  # whoever waits for an answer of web goes first
LOCAL_SECONDS = 120.0
NETWORK_SECONDS = 90.0
IDENTITY = {"name": "lobwife sync", "email": "lobwife@lobmob.local"}
_IDENTITY = {
    f"GIT_{role}_{name.upper()}": value for role in ("AUTHOR", "COMMITTER") for name, value in IDENTITY.items()
}
_COMMITTER = f"{IDENTITY['name']} <{IDENTITY['email']}>".encode()
_INHERITED_ENVIRONMENT = (
    *("PATH", "HOME", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"),
)
_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.fsync": "committed",
    "core.fsyncMethod": "batch",
    "core.quotePath": "false",
    "core.autocrlf": "false",
    "core.excludesFile": "/dev/null",
    "core.attributesFile": "/dev/null",
    "advice.addEmbeddedRepo": "false",
    "merge.conflictStyle": "merge",
    "merge.directoryRenames": "false",
    "merge.renameLimit": "1000",
    "pack.compression": "1",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "push.recurseSubmodules": "no",
    "push.followTags": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "20",
    "protocol.ext.allow": "never",
}
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]*@")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class GitError(Exception):
    """git failed or took too long; the text is for people and holds no credential."""

    def __init__(self, sentence: str, *, stdout: str = "", stderr: str = "") -> None:
        super().__init__(sentence)
        self.stdout = stdout
        self.stderr = stderr


class Entry(NamedTuple):
    """A file in a tree."""

    mode: str
    id: str

    @property
    def is_file(self) -> bool:
        return self.mode.startswith("100")


class Change(NamedTuple):
    """A path that differs between two trees; None where it is absent."""

    path: str
    old: Entry | None
    new: Entry | None


Changes = dict[str, bytes | Entry | None]  # of a tree: a file's content, an entry, or None to remove the path


class Git:
    """git in one working copy.

    `lock` is the descriptor of the vault's lock, which children keep open: it is free when the last of them is gone.
    `environment` names variables that git's own helpers need beside the usual ones.
    """

    largest = 32 * 2**20  # a blob over it is not read
    batch_bytes = 8 * 2**20  # of contents that are held at once

    def __init__(self, path: pathlib.Path, *, lock: int | None = None, environment: Sequence[str] = ()) -> None:
        self.path = path
        self.lock = lock
        self.status, self.stderr = 0, ""  # of the last command
        self.object_format = "sha1"
        self._recent: dict[str, bytes] = {}  # contents that were read or written last, by their ids
        self._recent_bytes = 0
        self._last_diff: tuple[str | None, str | None, list[Change]] = (None, None, [])
        self._ancestors: dict[tuple[str, str], bool] = {}  # whether the first is an ancestor of the second
        self._inherited_environment = (*_INHERITED_ENVIRONMENT, *environment)

    # --- running
    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        timeout: float = LOCAL_SECONDS,
        config: Mapping[str, str] | None = None,
        secret: str | None = None,
        prefix: Sequence[str] = (),
        accept: Sequence[int] = (0,),
    ) -> bytes:
        """Return the output; raises GitError for an exit code that is not in `accept`, or when time is up."""
        try:
            process = subprocess.Popen(
                [*prefix, "git", "--literal-pathspecs", *arguments],  # noqa: S607 the git of the PATH is the one to use
                cwd=self.path,
                env=self._environment(config or {}),
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=() if self.lock is None else (self.lock,),
            )
        except OSError as error:
            raise GitError(f"git can't be run: {error.strerror}") from None
        with contextlib.suppress(OSError):  # it is over, or has a lower priority already
            os.setpriority(os.PRIO_PGRP, process.pid, _NICENESS)
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            raise GitError(f"git {arguments[0]} took longer than {timeout:g} s") from None
        except BaseException:
            _kill_group(process)
            raise
        self.status, self.stderr = process.returncode, _scrub(err.decode(errors="surrogateescape"), secret)
        if self.status not in accept:
            stdout = _scrub(out[:10_000].decode(errors="replace"), secret)
            raise GitError(f"git {arguments[0]}: {_summary(self.stderr)}", stdout=stdout, stderr=self.stderr)
        return out

    def text(self, *arguments: str, **options: object) -> str:
        """Return the output of `run` as text without the blanks around it."""
        run: Callable[..., bytes] = self.run
        return run(*arguments, **options).decode(errors="surrogateescape").strip()

    def _environment(self, config: Mapping[str, str]) -> dict[str, str]:
        settings = {**_CONFIG, "safe.directory": str(self.path), **config}
        numbered = {
            f"GIT_CONFIG_{part}_{number}": text
            for number, pair in enumerate(settings.items())
            for part, text in zip(("KEY", "VALUE"), pair, strict=True)
        }
        return {
            **{name: os.environ[name] for name in self._inherited_environment if name in os.environ},
            **_IDENTITY,
            "LC_ALL": "C",
            "MALLOC_TRIM_THRESHOLD_": _KEPT_MEMORY,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=15",
            "GIT_EDITOR": "/bin/false",
            "GIT_CEILING_DIRECTORIES": str(self.path.parent),
            "GIT_CONFIG_COUNT": str(len(settings)),
            **numbered,
        }

    # --- reading
    def resolve(self, name: str) -> str | None:
        """Return the commit that a name stands for; None when there is none."""
        return self.text("rev-parse", "-q", "--verify", f"{name}^{{commit}}", accept=(0, 1, 128)) or None

    def is_ancestor(self, old: str, new: str) -> bool:
        if old == new or self._ancestors.get((new, old)):
            return old == new
        if (old, new) not in self._ancestors:
            self.run("merge-base", "--is-ancestor", old, new, accept=(0, 1, 128))
            self._ancestors[old, new] = self.status == 0
        return self._ancestors[old, new]

    def merge_base(self, one: str, other: str) -> str | None:
        if self._ancestors.get((one, other)):
            return one
        return self.text("merge-base", one, other, accept=(0, 1)) or None

    def tip_above(self, ref: str, commit: str) -> str | None:
        """Return the commit of a ref whose history holds another commit; None when it does not."""
        tip = self.text("for-each-ref", "--format=%(objectname)", "--contains", commit, ref, accept=(0, 129)) or None
        self._ancestors |= {(commit, tip): True} if tip else {}
        return tip

    def tree_of(self, commit: str | None) -> str:
        """Return a commit's tree; the empty one where there is no commit."""
        if commit is None:
            return self.text("hash-object", "-t", "tree", "-w", "--stdin", stdin=b"")
        return self.text("rev-parse", f"{commit}^{{tree}}")

    def refs(self) -> dict[str, str]:
        """Return the ids of our branch, of the remote's, and of the refs of the sync's own."""
        names = (f"refs/heads/{BRANCH}", f"refs/remotes/origin/{BRANCH}", "refs/lobwife")
        lines = self.text("for-each-ref", "--format=%(refname) %(objectname)", *names).splitlines()
        return dict(line.split(" ") for line in lines)

    def set_refs(self, values: Mapping[str, str], delete: Sequence[str] = ()) -> None:
        """Set and delete refs, all or none of them."""
        stdin = "".join(f"update {name} {commit}\n" for name, commit in values.items())
        stdin += "".join(f"delete {name}\n" for name in delete)
        self.run("update-ref", "-m", "sync", "--stdin", stdin=stdin.encode())

    def entries(self, tree: str | None, paths: Sequence[str] = (), *, recursive: bool = False) -> dict[str, Entry]:
        """Return what a tree or commit has at paths, of which `folder/` is all that is in it; everything without them.

        git looks through whole folders: with hundreds of paths it takes seven times as long for 100,000 files.
        """
        if tree is None:
            return {}
        arguments = ["-z", *(["-r"] if recursive else []), tree, "--"]
        folders = {f"{folder}/" if folder else path for path in paths for folder in [path.rpartition("/")[0]]}
        wanted = None if any(path.endswith("/") for path in paths) else frozenset(paths)
        lines = (
            (attributes, path)
            for line in os.fsdecode(self.run("ls-tree", *arguments, *_bounded(sorted(folders)))).split("\0")
            for attributes, _, path in [line.partition("\t")]
            if path and (not wanted or path in wanted)
        )
        return {path: Entry(*attributes.split(" ")[::2]) for attributes, path in lines}

    def last_blobs(self, since: str | None, commit: str) -> dict[str, str]:
        """Return the last blob that each path got in the commits after `since`, the newest first."""
        # -m: what a merge made of a file is in none of its parents
        options = ("--format=", "--topo-order", "-m", "--raw", "-z", "--no-abbrev", "--no-renames", "--diff-filter=AM")
        fields = self.run("log", *options, f"{since}..{commit}" if since else commit, "--").split(b"\0")
        blobs: dict[str, str] = {}
        for attributes, path in itertools.pairwise(fields):
            if attributes.lstrip(b"\n").startswith(b":"):
                blobs.setdefault(os.fsdecode(path), attributes.split(b" ")[3].decode())
        return blobs

    def diff(self, old: str | None, new: str | None) -> list[Change]:
        """Return the paths that differ between two trees or commits; None is one with nothing in it."""
        if old == new:
            return []
        if self._last_diff[:2] != (old, new):
            changes = self._changes("diff-tree", "-r", *(side or self.tree_of(None) for side in (old, new)))
            if len(changes) > _MOST_PATHS:
                return changes
            self._last_diff = (old, new, changes)
        return self._last_diff[2]

    def index_diff(self, commit: str | None) -> list[Change]:
        """Return the paths at which the index differs from a commit."""
        return self._changes("diff-index", "--cached", commit or self.tree_of(None))

    def _changes(self, *arguments: str) -> list[Change]:
        # with ignore-submodules git does not read .gitmodules, which may be hostile
        options = ("-z", "--raw", "--no-renames", "--ignore-submodules=none")
        fields = self.run(arguments[0], *options, *arguments[1:], "--").split(b"\0")
        changes = []
        for attributes, path in zip(fields[::2], fields[1::2], strict=False):
            old_mode, new_mode, old, new, _ = attributes[1:].decode().split(" ")
            sides = (
                Entry(mode, blob) if mode.strip("0") else None for mode, blob in ((old_mode, old), (new_mode, new))
            )
            changes.append(Change(os.fsdecode(path), *sides))
        return changes

    def sizes(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the sizes of blobs in bytes; one that is missing is left out."""
        asked = set(ids)
        sizes = {blob: len(self._recent[blob]) for blob in asked & self._recent.keys()}
        wanted = sorted(asked - sizes.keys())
        if not wanted:
            return sizes
        out = self.text("cat-file", "--batch-check", stdin="".join(f"{blob}\n" for blob in wanted).encode())
        fields = (line.split(" ") for line in out.splitlines())
        checked = (each for each in fields if len(each) == 3)
        return sizes | {blob: int(size) for blob, kind, size in checked if kind == "blob"}

    def blobs(self, ids: Iterable[str], most: int | None = None) -> dict[str, bytes]:
        """Return the contents of a few blobs; one that is missing, or larger than `most`, is left out."""
        return next((contents for _, contents in self.batches([list(ids)], list, most)), {})

    def batches(
        self, items: Sequence[Item], ids_of: Callable[[Item], Iterable[str]], most: int | None = None
    ) -> Iterator[tuple[list[Item], dict[str, bytes]]]:
        """Yield items, in their order, with the contents of their blobs, as many as may be held at once.

        A blob that is missing, or larger than `most` (or than `largest`), is left out.
        """
        most = self.largest if most is None else most
        ids = [tuple(ids_of(item)) for item in items]
        sizes = self.sizes(itertools.chain.from_iterable(ids))
        part: list[Item] = []
        wanted: set[str] = set()
        total = 0
        for item, asked in zip(items, ids, strict=True):
            blobs = {blob for blob in asked if sizes.get(blob, most + 1) <= most}
            size = sum(sizes[blob] for blob in blobs)
            if part and (len(part) == _BATCH or total + size > self.batch_bytes):
                yield part, self._contents(wanted)
                part, wanted, total = [], set(), 0
            part.append(item)
            wanted |= blobs
            total += size
        if part:
            yield part, self._contents(wanted)

    def _contents(self, ids: Collection[str]) -> dict[str, bytes]:
        contents = {blob: self._recent[blob] for blob in ids if blob in self._recent}
        wanted = sorted(set(ids) - contents.keys())
        if not wanted:
            return contents
        out = self.run("cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in wanted).encode())
        position = 0
        for blob in wanted:
            end = out.index(b"\n", position)
            header = out[position:end].split(b" ")
            position = end + 1
            if len(header) == 3:
                size = int(header[2])
                if header[1] == b"blob":
                    contents[blob] = out[position : position + size]
                    self._remember(blob, contents[blob])
                position += size + 1
        return contents

    def _remember(self, blob: str, content: bytes) -> None:
        """Have a small content at hand: what a commit of notes reads and writes, its checkout needs again."""
        if len(content) <= _SMALL:
            if self._recent_bytes > _MOST_RECENT:
                self._recent.clear()
                self._recent_bytes = 0
            self._recent[blob] = content
            self._recent_bytes += len(content)

    # --- writing objects
    def blob_id(self, content: bytes) -> str:
        algorithm = getattr(hashlib, self.object_format)  # hashlib.new takes five times as long
        return str(algorithm(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest())

    def write_blob(self, content: bytes) -> str:
        return self.text("hash-object", "-w", "--no-filters", "--stdin", stdin=content)

    def commit_tree(self, tree: str, parents: Sequence[str], message: str = "") -> str:
        flags = [part for parent in parents for part in ("-p", parent)]
        return self.text("commit-tree", tree, *flags, "-F", "-", stdin=message.encode())

    def commit_files(self, changes: Changes, parents: Sequence[str], message: str, *, tree: str = "") -> str:
        """Return a commit of the first parent's tree, or of `tree`, with changes.

        One fast-import makes blobs, trees and commit: 4,000 notes take 0.1 s, where objects of their own take 2 s.
        """
        text = message.encode()
        stream = io.BytesIO()
        stream.write(b"commit refs/lobwife/new\nmark :1\n")  # nothing reads that ref: the mark says what was made
        stream.write(b"committer %s now\ndata %d\n%s\n" % (_COMMITTER, len(text), text))
        for number, parent in enumerate(parents):
            stream.write(f"{'merge' if number else 'from'} {parent}\n".encode())
        if tree:
            stream.write(f'M 040000 {tree} ""\n'.encode())
        stream.writelines(b"D %s\n" % quote_path(path) for path, new in changes.items() if new is None)
        for path, new in changes.items():
            if isinstance(new, bytes):
                stream.write(b"M 100644 inline %s\ndata %d\n%s\n" % (quote_path(path), len(new), new))
                self._remember(self.blob_id(new), new)
            elif new:
                stream.write(b"M %s %s %s\n" % (new.mode.encode(), new.id.encode(), quote_path(path)))
        stream.write(b"\nget-mark :1\ndone\n")
        options = ("--quiet", "--force", "--done", "--date-format=now")
        commit = self.text("fast-import", *options, stdin=stream.getvalue())
        self._ancestors |= {(parent, commit): True for parent in parents}
        return commit

    def merge_text(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        """Return three versions of a text merged line by line; None when they conflict."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [pathlib.Path(folder, name) for name in ("ours", "base", "theirs")]
            for path, content in zip(paths, (ours, base, theirs), strict=True):
                path.write_bytes(content)
            merged = self.run("merge-file", "-p", *map(str, paths), accept=range(256))
            return merged if self.status == 0 else None

    def config(self) -> dict[str, str]:
        """Return the repository's own configuration; names in lower case, of several values the last."""
        fields = self.run("config", "-z", "--list", "--show-scope").decode(errors="surrogateescape").split("\0")
        own = [line for scope, line in zip(fields[::2], fields[1::2], strict=False) if scope in ("local", "worktree")]
        return {name.lower(): value for name, _, value in (line.partition("\n") for line in own)}

    # --- the remote
    def remote_url(self) -> str | None:
        return self.text("config", "--local", "--get", "remote.origin.url", accept=(0, 1)) or None

    def network(self, *arguments: str, url: str, token: str | None, timeout: float = NETWORK_SECONDS) -> bytes:
        """Run a command that talks to the remote, with the token for the URL's host alone."""
        prefix = _die_with_parent()
        return self.run(*arguments, timeout=timeout, config=credentials(url, token), secret=token, prefix=prefix)


def _bounded(paths: Sequence[str]) -> Sequence[str]:
    """Return what of the paths goes into a command's arguments: nothing of too many."""
    return paths if len(paths) <= _MOST_PATHS else ()


def quote_path(path: str) -> bytes:
    """Return a path as git's line protocols take it."""
    text = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"%s"' % text


def takes_token(url: str) -> bool:
    """Return True when a token may be sent to this remote: over https, or over http to this machine."""
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    return bool(parts.hostname) and (parts.scheme == "https" or is_local)


def credentials(url: str, token: str | None) -> dict[str, str]:
    """Return the configuration that gives a token to git for one host."""
    parts = urlsplit(url)
    if not token or not takes_token(url) or not parts.hostname:
        return {}
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    scope = f"http.{parts.scheme}://{host}{port}/.extraHeader"
    return {scope: f"Authorization: Basic {_basic(token)}", "credential.helper": ""}


def _basic(token: str) -> str:
    return base64.b64encode(f"x-access-token:{token}".encode()).decode()


@functools.cache
def _die_with_parent() -> tuple[str, ...]:
    """Return the prefix of a command that ends when the process that started it is gone, and removes its locks."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


def _scrub(text: str, secret: str | None) -> str:
    """Remove the secret, and what stands before the host in URLs."""
    text = _USERINFO.sub("", text)
    return text.replace(secret, "***").replace(_basic(secret), "***") if secret else text


def _summary(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "!"))]
    return " ".join((errors or lines or ["it failed without a word"])[:3])[:500]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
