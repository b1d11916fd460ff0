"""First start: a vault is found, begun as a copy of the remote, or made from the seed that this project brings."""

from __future__ import annotations

import os
import pathlib

from vaultsync.git.command import Git
from vaultsync.git.files import SCRATCH, Blocked, Files
from vaultsync.git.remote import clean_url, url_of
from vaultsync.notes.layout import BRANCH

SEED = pathlib.Path(__file__).resolve().parent.parent / "seed"
_MADE_HERE = "made-here"
_ATTRIBUTES = "* -text -filter -ident -working-tree-encoding"
_NOTHING = frozenset({"lost+found"})


class Disabled(Exception):
    """There is no vault to sync, for this reason."""


def open_vault(path: pathlib.Path, repo: str, git: Git, files: Files) -> bool:
    """See that there is a repository at `path`; returns whether it was begun here just now. Raises Disabled."""
    try:
        made = _begin(path, repo, git, files)
        if not (path / ".git").is_dir():
            raise Disabled(f"{path} is not a repository of its own (.git is not a folder)")
        files.prepare_scratch()
        _keep_bytes(path)
    except OSError as error:
        raise Disabled(f"the vault at {path} can't be used: {error.strerror or error}") from None
    clean_url(git)
    return made


def _begin(path: pathlib.Path, repo: str, git: Git, files: Files) -> bool:
    if path.exists() and not path.is_dir():
        raise Disabled(f"{path} is not a folder")
    path.mkdir(parents=True, exist_ok=True)
    present = set(os.listdir(path)) - _NOTHING
    if ".git" in present and not (_is_ours(path) and git.remote_url() is None and repo):
        if (path / ".git").is_dir() and not (path / ".git" / "HEAD").exists() and present == {".git"}:
            git.run("init", "--quiet", "-b", BRANCH)
        return False
    if present - {".git"} and not _is_ours(path):
        raise Disabled(f"{path} holds files and is not a git repository; it is left alone")
    git.run("init", "--quiet", "-b", BRANCH)
    files.prepare_scratch()
    if git.resolve("HEAD") is None:
        (path / SCRATCH / _MADE_HERE).write_bytes(b"")
        if repo and git.remote_url() is None:
            git.run("remote", "add", "origin", url_of(repo))
    return True


def _is_ours(path: pathlib.Path) -> bool:
    return (path / SCRATCH / _MADE_HERE).exists()


def seed_if_new(git: Git, files: Files) -> bool:
    """Put the seed's files into a vault that was made here and has no commit yet; True when there is such a vault."""
    if not _is_ours(files.root):
        return False
    if git.resolve("HEAD") is not None:
        settle(files)
        return False
    for source in sorted(SEED.rglob("*")):
        name = source.relative_to(SEED).as_posix()
        if source.is_file() and not files.kind(name):
            files.write(name, source.read_bytes())
    return True


def settle(files: Files) -> None:
    """The vault has its first commit."""
    (files.scratch / _MADE_HERE).unlink(missing_ok=True)


def _keep_bytes(path: pathlib.Path) -> None:
    """No attribute in the vault may make git change a file's bytes on their way in or out."""
    attributes = path / ".git" / "info" / "attributes"
    text = attributes.read_text() if attributes.exists() else ""
    if _ATTRIBUTES not in text.splitlines():
        attributes.parent.mkdir(exist_ok=True)
        with attributes.open("a") as file:
            file.write(("\n" if text and not text.endswith("\n") else "") + _ATTRIBUTES + "\n")


def check_head(files: Files) -> bool:
    """Whether HEAD is on our branch; False when it is detached. Raises Blocked on another branch."""
    name = (files.root / ".git" / "HEAD").read_text().strip()
    if name.startswith("ref: ") and name != f"ref: refs/heads/{BRANCH}":
        raise Blocked(f"the vault is on the branch {name.removeprefix('ref: refs/heads/')}; check out {BRANCH}")
    return name.startswith("ref: ")
