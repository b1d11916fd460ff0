"""`lobwife-agent run` as a real process, beside an installation: its key, its log, what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

from tests.support.installation import ROOT, Installation, wait_for

PROGRAM = [sys.executable, str(ROOT / "deploy" / "bin" / "lobwife-agent")]


class AgentRunner:
    """Starts runners that work for an installation; `stop()` ends all of them."""

    def __init__(self, folder: pathlib.Path, installation: Installation, key: str, **environment: str) -> None:
        self.folder = folder
        self.log_file = folder / "runner.log"
        self.state = folder / "state"
        folder.mkdir(parents=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LOBWIFE_URL": f"http://127.0.0.1:{installation.api_port}",
            "LOBWIFE_API_KEY": key,
            "LOBWIFE_AGENT_STATE": str(self.state),
            **environment,
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start `lobwife-agent run` with these arguments."""
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                [*PROGRAM, "run", *arguments],
                env={**self.environment, **environment},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self, *arguments: str, timeout: float = 30, **environment: str) -> int:
        """Run one task to its end; return the runner's exit code."""
        process = self.start("--once", *arguments, **environment)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.log()) from None

    def status(self) -> list[dict[str, Any]]:
        runners: list[dict[str, Any]] = json.loads(self.command("status", "--json").stdout)["runners"]
        return runners

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*PROGRAM, *arguments], env=self.environment, capture_output=True, text=True, timeout=30)

    def script(self, name: str, text: str) -> str:
        """A command for tasks, in Python or in what its first line says; returns its path."""
        path = self.folder / name
        path.write_text(text if text.startswith("#!") else f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
        return str(path)

    def file(self, name: str) -> str:
        """The content of a file that a command writes, once it is there."""
        path = self.folder / name
        wait_for(lambda: path.exists() and path.read_text(), 15, f"{name}: {self.log()}")
        return path.read_text()

    def output(self, number: int) -> pathlib.Path:
        """The output of the last command for a task."""
        return sorted((self.state / "work").glob(f"T{number}.*/output.log"), key=lambda path: path.stat().st_mtime)[-1]

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(15)
        self.processes.clear()
