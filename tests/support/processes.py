"""What runs on this machine, told by /proc."""

from __future__ import annotations

import contextlib
import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """`started` tells it from another that got its pid later."""

    pid: int
    parent: int
    started: int
    command: str


def running() -> list[Process]:
    """Every process that has not ended; one that only waits for its parent to look has."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    found.append(Process(int(folder.name), int(fields[1]), int(fields[19]), command))
    return found


def tree(root: int) -> list[Process]:
    """A process and everything below it."""
    everything = running()
    members = [each for each in everything if each.pid == root]
    for member in members:
        members += [each for each in everything if each.parent == member.pid]
    return members


def alive(processes: list[Process]) -> list[Process]:
    """Those that still run."""
    identities = {(each.pid, each.started) for each in running()}
    return [each for each in processes if (each.pid, each.started) in identities]
