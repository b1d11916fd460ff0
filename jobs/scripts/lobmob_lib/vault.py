"""Writing into the vault beside the sync: under its lock, as a commit on top of what the remote has.

The commit is made without the working copy and pushed at once, so that a script that is killed has either pushed it or
done nothing. The working copy is brought up to date afterwards when that is simple; else the next sync does it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping

from lobwife_client import Client, LobwifeError

from core.errors import Unavailable
from core.git.command import BRANCH, Git, GitError, takes_token
from core.git.lock import vault_lock

TRACKED = f"refs/remotes/origin/{BRANCH}"
_TRIES = 5
_LOCK_WAIT_SECONDS = 60.0
_SERVICE = "lobwife-sync"
_FOR_CREDENTIAL_HELPER = ("LOBWIFE_URL", "LOBWIFE_API_KEY", "LOBWIFE_TOKEN_PATH", "SERVICE_NAME")

Read = Callable[[str], bytes | None]


class VaultError(Exception):
    """The vault could not be written now; the sentence is for people."""


class NoVault(VaultError):
    """There is no vault to write into, or it has no remote."""


class Vault:
    """A vault whose lock is held."""

    def __init__(self, git: Git, url: str, token: str) -> None:
        self.git = git
        self._url = url
        self._token = token

    def fetch(self) -> str:
        """Return the remote's newest commit; raises VaultError."""
        try:
            self._network("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", f"+refs/heads/{BRANCH}:{TRACKED}")
        except GitError as error:
            raise VaultError(f"the vault's remote: {error}") from None
        tip = self.git.resolve(TRACKED)
        if tip is None:
            raise VaultError(f"the vault's remote has no branch {BRANCH}")
        return tip

    def publish(self, write: Callable[[str, Read], tuple[Mapping[str, bytes], str]]) -> list[str]:
        """Commit files onto the remote's branch and push; again when it moved on. Returns the paths written.

        `write` is given the commit to build on and a way to read files of it; it returns files and a message, or no
        files when nothing is left to do. Raises VaultError.
        """
        try:
            for _ in range(_TRIES):
                remote, head = self.fetch(), self.git.resolve(f"refs/heads/{BRANCH}")
                # What the sync committed and did not push yet goes along: a note that it just made is built upon.
                base = head if head and self.git.is_ancestor(remote, head) else remote
                files, message = write(base, lambda path, base=base: self._read(base, path))  # type: ignore[misc]
                if not files:
                    return []
                commit = self.git.commit_files(dict(files), [base], message)
                try:
                    self._network("push", "--quiet", f"{commit}:refs/heads/{BRANCH}")
                except GitError as error:
                    if self.fetch() == remote:
                        raise VaultError(f"the vault's remote: {error}") from None
                    continue
                self._bring_up_to_date(head, commit)
                return list(files)
        except GitError as error:
            raise VaultError(str(error)) from None
        raise VaultError("the vault's remote moved on five times meanwhile")

    def unpushed_differs(self) -> bool:
        """Return True when our copy and the remote have diverged: the sync has to merge them first."""
        head, remote = self.git.resolve(f"refs/heads/{BRANCH}"), self.git.resolve(TRACKED)
        if not head or not remote:
            return False
        return not self.git.is_ancestor(remote, head) and not self.git.is_ancestor(head, remote)

    def _network(self, *arguments: str) -> None:
        *options, refspec = arguments
        self.git.network(*options, "origin", refspec, url=self._url, token=self._token)

    def _read(self, commit: str, path: str) -> bytes | None:
        entry = self.git.run("ls-tree", "-z", commit, "--", path).split(b"\0")[0]
        if not entry:
            return None
        mode, kind, blob = entry.split(b"\t")[0].decode().split()
        if kind != "blob" or not mode.startswith("100"):
            raise VaultError(f"{path} is not a regular file in the vault")
        return self.git.run("cat-file", "blob", blob)

    def _bring_up_to_date(self, head: str | None, commit: str) -> None:
        with contextlib.suppress(GitError):
            self.git.run("update-ref", TRACKED, commit)
            on_main = self.git.text("symbolic-ref", "-q", "HEAD", accept=(0, 1)) == f"refs/heads/{BRANCH}"
            if on_main and head and self.git.is_ancestor(head, commit):
                self.git.run("merge", "--quiet", "--ff-only", commit)


@contextlib.contextmanager
def opened(client: Client | None = None) -> Iterator[Vault]:
    """Open the vault of VAULT_PATH, locked; `client` gets the token that an https remote takes. Raises VaultError."""
    home = pathlib.Path.home()
    path = pathlib.Path(os.environ.get("VAULT_PATH") or home / "vault")
    if not (path / ".git").is_dir():
        raise NoVault(f"there is no vault in {path}")
    state = pathlib.Path(os.environ.get("LOBWIFE_STATE_DIR") or home / "state")
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(vault_lock(state, wait_seconds=_LOCK_WAIT_SECONDS))
            git = Git(path, lock=descriptor, environment=_FOR_CREDENTIAL_HELPER)
            url = git.remote_url()
        except Unavailable:
            raise VaultError("another process works in the vault") from None
        except GitError as error:
            raise VaultError(str(error)) from None
        except OSError as error:
            raise VaultError(f"the vault's lock can't be opened: {error.strerror}") from None
        if not url:
            raise NoVault(f"the vault in {path} has no remote")
        yield Vault(git, url, _token(url, client))


def _token(url: str, client: Client | None) -> str:
    if client is None or not takes_token(url):
        return ""
    try:
        return str(client.service_token(_SERVICE).get("token", ""))
    except LobwifeError:  # git's own credentials may do
        return ""
