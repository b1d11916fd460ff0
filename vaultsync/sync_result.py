"""What came of a sync, for the status, the command and the log."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.text import one_line


@dataclass
class Outcome:
    """What a sync did. `error` is a sentence; with only `remote_error` set, everything is committed here."""

    files: int = 0
    paths: list[str] = field(default_factory=list)
    commit: str = ""
    pushed: bool = False
    full: bool = False
    disabled: str = ""
    error: str = ""
    remote_error: str = ""
    notices: list[str] = field(default_factory=list)

    def make_presentable(self) -> None:
        """Sentences quote git, remotes and names of files, which are whatever somebody made them."""
        self.disabled, self.error = one_line(self.disabled), one_line(self.error)
        self.remote_error = one_line(self.remote_error)
        self.notices = [one_line(each) for each in self.notices]
