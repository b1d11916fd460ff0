"""The setup of a vault: an existing repository is used, else one is created for the remote or from the seed."""

from __future__ import annotations

import os
import pathlib

from core.git.command import BRANCH, IDENTITY, Git, GitError
from vaultsync.git.files import Files
from vaultsync.git.remote import remove_credentials, url_of

SEED = pathlib.Path(__file__).resolve().parent.parent / "seed"
_ATTRIBUTES = "* -text -filter -ident -working-tree-encoding"


class Disabled(Exception):
    """There is no vault to sync; the text is the reason."""


def open_vault(path: pathlib.Path, repo: str, git: Git, files: Files) -> str | None:
    """Create the repository at `path` where it is missing; returns the remote's URL. Raises Disabled."""
    try:
        _create(path, git)
        if not (path / ".git").is_dir():
            raise Disabled(f"{path} is not a repository of its own (.git is not a folder)")
        files.scratch.mkdir(exist_ok=True)
        _disable_attributes(path)
        remove_credentials(git)
        return _configure(repo, git)
    except GitError as error:
        raise Disabled(str(error)) from None
    except OSError as error:
        raise Disabled(f"the vault at {path} can't be used: {error.strerror or error}") from None


def _configure(repo: str, git: Git) -> str | None:
    """Add what the repository's configuration lacks; returns the remote's URL."""
    config = git.config()
    git.object_format = config.get("extensions.objectformat", git.object_format)
    if config.get("core.sparsecheckout") == "true":
        raise Disabled("the vault is a sparse checkout, which can't be synced: `git sparse-checkout disable` in it")
    for name, value in IDENTITY.items():
        if f"user.{name}" not in config:
            git.run("config", "--local", f"user.{name}", value)  # for scripts that commit in the vault
    if repo and "remote.origin.url" not in config:
        git.run("remote", "add", "origin", url_of(repo))
        return url_of(repo)
    return config.get("remote.origin.url")


def _create(path: pathlib.Path, git: Git) -> None:
    if path.exists() and not path.is_dir():
        raise Disabled(f"{path} is not a folder")
    path.mkdir(parents=True, exist_ok=True)
    present = set(os.listdir(path)) - {"lost+found"}
    if present and ".git" not in present:
        raise Disabled(f"{path} holds files and is not a git repository; it is left alone")
    if not present or (present == {".git"} and (path / ".git").is_dir() and not (path / ".git" / "HEAD").exists()):
        git.run("init", "--quiet", "-b", BRANCH)


def seed_files() -> dict[str, bytes]:
    """Return what a vault begins with."""
    paths = (source for source in sorted(SEED.rglob("*")) if source.is_file())
    return {source.relative_to(SEED).as_posix(): source.read_bytes() for source in paths}


def _disable_attributes(path: pathlib.Path) -> None:
    """Overrule attributes in the vault that would make git convert the bytes of files."""
    attributes = path / ".git" / "info" / "attributes"
    lines = attributes.read_text().splitlines() if attributes.exists() else []
    if _ATTRIBUTES not in lines:
        attributes.parent.mkdir(exist_ok=True)
        attributes.write_text("\n".join([*lines, _ATTRIBUTES, ""]))
