"""Move the event log into the vault: no line lost, none doubled.

The log is renamed, and stays under its new name until every line of it is in the remote's history. The commits say how
far that is (`Flush-Of: <name> <bytes>`), so that a flush that was killed after its push, or whose push failed on the
way back, is never repeated. A renamed log that another process still has open is kept and looked at again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lobwife_client import Client, LobwifeError

from core.git.command import GitError

from .script import Report, connect, now, parser
from .vault import TRACKED, NoVault, Read, Vault, VaultError, opened

NAME = "lobmob-flush-logs"
LOG = "lobmob-events.log"
_TRAILER = re.compile(r"^Flush-Of: (\S+) (\d+)$", re.MULTILINE)
_LOBSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_MOST_BYTES = 8 * 2**20  # in one commit
_QUIET_SECONDS = 3600  # where the kernel can't say who has a file open


@dataclass
class Part:
    """Lines of one renamed log that go into a commit."""

    rest: pathlib.Path
    end: int
    lines: bytes
    whole: bool  # nothing can come after it


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code; silent when there is nothing to flush."""
    options = parser(NAME, "Append the event log to the vault, and empty it.").parse_args(arguments)
    report = Report(dry_run=options.dry_run)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # says that someone opens a file just while we hold its lease
    log = pathlib.Path(os.environ.get("LOG_DIR") or "/tmp", LOG)  # noqa: S108 the contract's default
    try:
        target = _target()
        if _size(log) == 0 and not _rests(log):
            return 0
        if report.dry_run:
            waiting = sum(_size(path) for path in (log, *_rests(log)))
            report.did("flushes", f"append up to {waiting} bytes of {log} to {target}")
            return report.last_line(NAME)
        with opened(_client()) as vault:
            flushed = _flush(vault, log, target)
    except NoVault as error:
        report.note(f"skipped: {error}; the lines wait in {log}")
    except (VaultError, GitError, OSError, ValueError) as error:
        report.fail(f"the lines wait in {log.parent}: {error}")
    else:
        if not flushed:
            return 0
        print(f"{NAME}: {flushed} lines flushed to {target}")
        return 0
    return report.last_line(NAME)


def _client() -> Client | None:
    try:
        return connect()
    except LobwifeError:  # only https remotes without credentials of their own need it
        return None


def _target() -> str:
    lobster = os.environ.get("LOBSTER_ID", "")
    if lobster and not _LOBSTER.fullmatch(lobster):
        raise ValueError("LOBSTER_ID can't be the name of a folder")
    folder = f"020-logs/lobsters/lobster-{lobster}" if lobster else "020-logs/lobboss"
    return f"{folder}/events-{now():%Y-%m-%d}.log"


def _flush(vault: Vault, log: pathlib.Path, target: str) -> int:
    """Return how many lines were pushed."""
    if _size(log) == 0 and not _parts(_rests(log), _flushed(vault, TRACKED, _rests(log))):
        _drop_done(vault, log)
        return 0
    vault.fetch()  # before anything is renamed: a remote that is away leaves the log as it is
    if _size(log) > 0:
        _rename(log)
    total, more = 0, True
    while more:
        parts: list[Part] = []

        def write(base: str, read: Read, parts: list[Part] = parts) -> tuple[Mapping[str, bytes], str]:
            rests = _rests(log)
            parts[:] = _parts(rests, _flushed(vault, base, rests))
            if not parts:
                return {}, ""
            old = read(target) or b""
            lines = b"".join(part.lines for part in parts)
            count = lines.count(b"\n")
            trailers = "\n".join(f"Flush-Of: {part.rest.name} {part.end}" for part in parts)
            glue = b"\n" if old and not old.endswith(b"\n") else b""
            return {target: old + glue + lines}, f"[flush] Append {count} event line(s)\n\n{trailers}\n"

        if not vault.publish(write):
            break
        total += sum(part.lines.count(b"\n") for part in parts)
        more = sum(len(part.lines) for part in parts) > _MOST_BYTES // 2  # else the bound cut nothing off
    _drop_done(vault, log)
    return total


def _rename(log: pathlib.Path) -> None:
    mode = log.stat().st_mode & 0o777
    log.rename(log.with_name(f"{LOG}.{now():%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(6)}"))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode)
    with contextlib.suppress(PermissionError):
        os.fchmod(descriptor, mode)  # another user may write it
    os.close(descriptor)


def _rests(log: pathlib.Path) -> list[pathlib.Path]:
    """Return the renamed logs, oldest first."""
    return sorted(path for path in log.parent.glob(f"{LOG}.*T*Z-*") if path.is_file() and not path.is_symlink())


def _flushed(vault: Vault, commit: str, rests: Sequence[pathlib.Path]) -> dict[str, int]:
    """Return how many bytes of each renamed log the history of a commit has."""
    if not rests or not vault.git.resolve(commit):
        return {}
    greps = [f"--grep=Flush-Of: {path.name} " for path in rests]
    flushed: dict[str, int] = {}
    for name, end in _TRAILER.findall(vault.git.text("log", "--format=%B", "-F", *greps, commit, "--")):
        flushed[name] = max(flushed.get(name, 0), int(end))
    return flushed


def _parts(rests: Sequence[pathlib.Path], flushed: Mapping[str, int]) -> list[Part]:
    """Return what is still to be flushed, up to a bound; a line that is not ended waits while someone may end it."""
    parts, room = [], _MOST_BYTES
    for path in rests:
        start = flushed.get(path.name, 0)
        with path.open("rb") as file:
            alone = _is_alone(file.fileno(), path)
            file.seek(start)
            content = file.read(room + 1)
        if len(content) > room:
            cut = content.rfind(b"\n", 0, room) + 1 or content.find(b"\n") + 1 or len(content)
        else:
            cut = len(content) if alone else content.rfind(b"\n") + 1
        lines = content[:cut]
        if lines:
            ended = lines if lines.endswith(b"\n") else lines + b"\n"
            parts.append(Part(path, start + cut, ended, alone))
            room -= cut
        if room <= 0:
            break
    return parts


def _drop_done(vault: Vault, log: pathlib.Path) -> None:
    """Remove renamed logs that are in the remote's history to their end and that nobody can write any more."""
    rests = _rests(log)
    flushed = _flushed(vault, TRACKED, rests)
    for path in rests:
        with path.open("rb") as file:
            if _is_alone(file.fileno(), path) and os.fstat(file.fileno()).st_size <= flushed.get(path.name, 0):
                path.unlink()


def _is_alone(descriptor: int, path: pathlib.Path) -> bool:
    """Return True when no other process has the file open: then, and only then, the kernel grants a write lease."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return False
    except OSError:  # not our file, or a file system without leases
        return time.time() - path.stat().st_mtime > _QUIET_SECONDS
    return True


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
