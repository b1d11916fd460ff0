"""git in the vault, by the rules of the sync: no hooks, no prompts, no waiting for ever, no token that can be seen."""

from __future__ import annotations

import base64
import contextlib
import os
import pathlib
import re
import signal
import subprocess
from collections.abc import Mapping
from urllib.parse import urlsplit

_LOCAL_SECONDS, _NETWORK_SECONDS = 120.0, 90.0
_INHERITED = (
    *("PATH", "HOME", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"),
    *("LOBWIFE_URL", "LOBWIFE_API_KEY", "LOBWIFE_TOKEN_PATH", "SERVICE_NAME"),  # for the credential helper
)
_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "lobwife sync"), ("EMAIL", "lobwife@lobmob.local"))
}
_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.fsync": "committed",
    "core.quotePath": "false",
    "core.autocrlf": "false",
    "core.attributesFile": "/dev/null",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "commit.gpgSign": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "push.recurseSubmodules": "no",
    "push.followTags": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "20",
    "protocol.ext.allow": "never",
}
_IN_URL = re.compile(r"(?<=://)[^/\s@'\"]*@")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class GitError(Exception):
    """git said no, or took too long; the text is for people and holds no credential."""


class Git:
    """git in one working copy. Children inherit the lock's descriptor: it is free when the last of them is gone."""

    def __init__(self, path: pathlib.Path, inherited: int) -> None:
        self.path = path
        self._inherited = inherited

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        accept: tuple[int, ...] = (0,),
        environment: Mapping[str, str] | None = None,
        config: Mapping[str, str] | None = None,
        timeout: float = _LOCAL_SECONDS,
    ) -> bytes:
        """The command's output; raises GitError."""
        try:
            process = subprocess.Popen(
                ["git", "--literal-pathspecs", *arguments],  # noqa: S607 the git of the PATH is the one to use
                cwd=self.path,
                env=self._environment(config or {}) | dict(environment or {}),
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=(self._inherited,),
            )
        except OSError as error:
            raise GitError(f"git can't be run: {error.strerror}") from None
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise GitError(f"git {arguments[0]} took longer than {timeout:g} s") from None
        if process.returncode not in accept:
            raise GitError(f"git {arguments[0]}: {_told(err.decode(errors='replace'))}")
        return out

    def text(self, *arguments: str, **options: object) -> str:
        return self.run(*arguments, **options).decode(errors="surrogateescape").strip()  # type: ignore[arg-type]

    def resolve(self, name: str) -> str:
        """The commit that a name stands for; empty when there is none."""
        return self.text("rev-parse", "-q", "--verify", f"{name}^{{commit}}", accept=(0, 1, 128))

    def is_ancestor(self, old: str, new: str) -> bool:
        return self.resolve(old) == self.text("merge-base", old, new, accept=(0, 1))

    def network(self, *arguments: str, url: str, token: str) -> bytes:
        """A command that talks to the remote, with the token for the URL's host and nobody else."""
        return self.run(*arguments, timeout=_NETWORK_SECONDS, config=_credentials(url, token))

    def _environment(self, config: Mapping[str, str]) -> dict[str, str]:
        settings = {**_CONFIG, "safe.directory": str(self.path), **config}
        numbered = {
            f"GIT_CONFIG_{what}_{number}": text
            for number, pair in enumerate(settings.items())
            for what, text in zip(("KEY", "VALUE"), pair, strict=True)
        }
        return {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            **_IDENTITY,
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=15",
            "GIT_EDITOR": "/bin/false",
            "GIT_CEILING_DIRECTORIES": str(self.path.parent),
            "GIT_CONFIG_COUNT": str(len(settings)),
            **numbered,
        }


def takes_token(url: str) -> bool:
    """Whether a token may be sent to this remote: https, or http to this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    )


def _credentials(url: str, token: str) -> dict[str, str]:
    if not token or not takes_token(url):
        return {}
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else str(parts.hostname)
    port = f":{parts.port}" if parts.port else ""
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    scope = f"http.{parts.scheme}://{host}{port}/.extraHeader"
    return {scope: f"Authorization: Basic {basic}", "credential.helper": ""}


def _told(stderr: str) -> str:
    lines = [line.strip() for line in _IN_URL.sub("", stderr).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "!"))]
    return " ".join((telling or lines or ["it failed without a word"])[:3])[:500]
