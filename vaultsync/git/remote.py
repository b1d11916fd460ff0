"""The remote of the vault: fetches, pushes without force, and their errors as sentences."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from core.git.command import BRANCH, Git, GitError

ACCEPTED = "refs/lobwife/remote"  # the last commit of the remote that is in our history
TRACKED = f"refs/remotes/origin/{BRANCH}"
_DENIED = re.compile(
    r"Authentication failed|could not read (Username|Password)|error: 40[13]|Permission denied|not granted",
    re.IGNORECASE,
)
_WITH_CREDENTIALS = re.compile(r"https?://[^/\s]*@", re.IGNORECASE)
_NO_BRANCH = "couldn't find remote ref"
_RACE = re.compile(r"\[rejected\]|cannot lock ref|failed to update ref|incorrect old value|stale info")


class RemoteError(Exception):
    """The remote can't be used now. `kind` is unreachable, denied, declined, rewritten or, of a push, behind."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class Remote:
    """The remote named origin; `accepted` is the last of its commits that is in our history."""

    def __init__(self, git: Git, url: str, token: Callable[[], str | None]) -> None:
        self.git = git
        self.url = url
        self._token = token

    def fetch(self, accepted: str | None) -> str | None:
        """Return its newest commit, None when it is empty; raises RemoteError, also when its history was rewritten."""
        shallow = ["--unshallow"] if (self.git.path / ".git" / "shallow").exists() else []
        refspec = f"+refs/heads/{BRANCH}:{TRACKED}"
        try:
            self._network("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *shallow, "origin", refspec)
        except GitError as error:
            if _NO_BRANCH not in error.stderr:
                raise self._error(error) from None
            if accepted:
                self.git.run("update-ref", "-d", TRACKED)
                raise RemoteError(
                    "rewritten",
                    f"the remote has no branch {BRANCH} any more (it was at {accepted[:10]}): nothing is sent; "
                    "if it was made anew on purpose, `manage.py vault accept-remote` sends everything",
                ) from None
            return None
        tip = (accepted and self.git.tip_above(TRACKED, accepted)) or self.git.resolve(TRACKED)
        if accepted and tip and not self.git.is_ancestor(accepted, tip):
            raise RemoteError(
                "rewritten",
                f"the remote's history was rewritten (was {accepted[:10]}, is {tip[:10]}): nothing is overwritten; "
                "look at it, then `manage.py vault accept-remote` merges it in",
            )
        return tip

    def push(self, head: str, accepted: str | None) -> None:
        """Send a commit; raises RemoteError, as behind when the remote has moved on, or is locked: fetch and look.

        The lease is no force: what is sent always contains the commit that the remote must still be at. Without it a
        remote that was put back to an older commit would silently get its newer ones again.
        """
        if accepted and not self.git.is_ancestor(accepted, head):
            raise RemoteError("behind", "it has commits that are not here")
        lease = f"--force-with-lease=refs/heads/{BRANCH}:{accepted or ''}"
        try:
            self._network("push", "--porcelain", "--no-verify", lease, "origin", f"{head}:refs/heads/{BRANCH}")
        except GitError as error:
            reason = "".join(re.findall(r"\[\S* ?rejected\].*", error.stdout)[:1])[:300]
            if _RACE.search(reason):
                raise RemoteError("behind", reason) from None
            if reason:
                raise RemoteError("declined", f"the remote refuses the push: {reason}") from None
            raise self._error(error) from None

    def _network(self, *arguments: str) -> bytes:
        token = None
        if urlsplit(self.url).scheme in ("http", "https"):
            try:
                token = self._token()
            except Exception as error:
                raise RemoteError("unreachable", f"there is no token for the remote: {error}") from None
        return self.git.network(*arguments, url=self.url, token=token)

    def _error(self, error: GitError) -> RemoteError:
        kind = "denied" if _DENIED.search(error.stderr) else "unreachable"
        failure = "refuses our credentials" if kind == "denied" else "can't be reached"
        return RemoteError(kind, f"the remote {failure}: {error}")


def remove_credentials(git: Git) -> None:
    """Remove credentials from the remote's URLs, where the older service left its token."""
    if _WITH_CREDENTIALS.search((git.path / ".git" / "config").read_text(errors="replace")):
        for key in ("remote.origin.url", "remote.origin.pushurl"):
            urls = git.text("config", "--local", "--get-all", key, accept=(0, 1)).splitlines()
            if urls and _WITH_CREDENTIALS.search(" ".join(urls)):
                git.run("config", "--local", "--replace-all", key, without_credentials(urls[0]))
                for url in urls[1:]:
                    git.run("config", "--local", "--add", key, without_credentials(url))


def without_credentials(url: str) -> str:
    """Return an http(s) URL without what stands before the host; others name a user there, which stays."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def url_of(repo: str) -> str:
    """Return the URL of `org/repo`; a URL or an absolute path stays as it is."""
    if "://" in repo or repo.startswith("/") or "@" in repo:
        return without_credentials(repo)
    return f"https://github.com/{repo.removesuffix('.git')}.git"
