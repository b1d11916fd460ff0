"""The setup of a vault: an existing repository is used, else one is created for the remote or from the seed."""

from __future__ import annotations

import os
import pathlib

from vaultsync.git.command import BRANCH, IDENTITY, Git
from vaultsync.git.files import SCRATCH, Files
from vaultsync.git.remote import remove_credentials, url_of

SEED = pathlib.Path(__file__).resolve().parent.parent / "seed"
_NO_COMMIT_YET = "made-here"
_ATTRIBUTES = "* -text -filter -ident -working-tree-encoding"
_IGNORED = frozenset({"lost+found"})


class Disabled(Exception):
    """There is no vault to sync; the text is the reason."""


def open_vault(path: pathlib.Path, repo: str, git: Git, files: Files) -> tuple[bool, str | None]:
    """Create the repository at `path` where it is missing; returns True when it did, and the remote's URL.

    Raises Disabled, or GitError for a repository that git can't read.
    """
    try:
        is_new = _create(path, repo, git)
        if not (path / ".git").is_dir():
            raise Disabled(f"{path} is not a repository of its own (.git is not a folder)")
        files.prepare_scratch()
        _disable_attributes(path)
    except OSError as error:
        raise Disabled(f"the vault at {path} can't be used: {error.strerror or error}") from None
    remove_credentials(git)
    config = git.config()
    if config.get("core.sparsecheckout") == "true":
        raise Disabled("the vault is a sparse checkout, which can't be synced: `git sparse-checkout disable` in it")
    for name, value in IDENTITY.items():
        if f"user.{name}" not in config:
            git.run("config", "--local", f"user.{name}", value)  # for scripts that commit in the vault
    if repo and "remote.origin.url" not in config:
        git.run("remote", "add", "origin", url_of(repo))
        return is_new, url_of(repo)
    return is_new, config.get("remote.origin.url")


def _create(path: pathlib.Path, repo: str, git: Git) -> bool:
    if path.exists() and not path.is_dir():
        raise Disabled(f"{path} is not a folder")
    path.mkdir(parents=True, exist_ok=True)
    present = set(os.listdir(path)) - _IGNORED
    if ".git" in present:
        if (path / ".git").is_dir() and not (path / ".git" / "HEAD").exists() and present == {".git"}:
            git.run("init", "--quiet", "-b", BRANCH)
        return False
    if present:
        raise Disabled(f"{path} holds files and is not a git repository; it is left alone")
    (path / SCRATCH).mkdir(parents=True)
    (path / SCRATCH / _NO_COMMIT_YET).write_bytes(b"")
    git.run("init", "--quiet", "-b", BRANCH)
    return True


def _is_new(path: pathlib.Path) -> bool:
    return (path / SCRATCH / _NO_COMMIT_YET).exists()


def seed_files(files: Files) -> dict[str, bytes]:
    """Return what a vault that was created here begins with."""
    if not _is_new(files.root):
        return {}
    paths = (source for source in sorted(SEED.rglob("*")) if source.is_file())
    return {source.relative_to(SEED).as_posix(): source.read_bytes() for source in paths}


def mark_committed(files: Files) -> None:
    """Note that the vault has a commit: it gets no seed any more."""
    (files.scratch / _NO_COMMIT_YET).unlink(missing_ok=True)


def _disable_attributes(path: pathlib.Path) -> None:
    """Overrule attributes in the vault that would make git convert the bytes of files."""
    attributes = path / ".git" / "info" / "attributes"
    text = attributes.read_text() if attributes.exists() else ""
    if _ATTRIBUTES not in text.splitlines():
        attributes.parent.mkdir(exist_ok=True)
        with attributes.open("a") as file:
            file.write(("\n" if text and not text.endswith("\n") else "") + _ATTRIBUTES + "\n")
