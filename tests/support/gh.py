"""The wrapper `gh` as tests run it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from tests.support.broker_rig import WRAPPERS

RECORDER = """#!{python}
import json, os, sys
json.dump({{"argv": sys.argv[1:], "environment": dict(os.environ)}}, open({path!r}, "w"))
sys.exit(7)
"""


class Gh:
    """The wrapper with a stand-in for the real gh, which writes down how it was run."""

    def __init__(self, folder: pathlib.Path, url: str) -> None:
        self.record = folder / "record.json"
        real = folder / "gh-real"
        real.write_text(RECORDER.format(python=sys.executable, path=str(self.record)))
        real.chmod(0o755)
        self.environment = {"PATH": os.environ["PATH"], "LOBWIFE_GH_REAL": str(real), "LOBWIFE_URL": url}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.record.unlink(missing_ok=True)
        everything = {**self.environment, **environment}
        return subprocess.run([WRAPPERS / "gh", *arguments], env=everything, capture_output=True, text=True)

    @property
    def seen(self) -> dict[str, str] | None:
        return json.loads(self.record.read_text())["environment"] if self.record.exists() else None
