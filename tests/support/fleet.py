"""The edge of the machine for the fleet's scripts: gh and kubectl that keep their state in files, and a vault."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

from tests.support import commands
from tests.support.installation import ROOT, Installation

SCRIPTS = ROOT / "jobs" / "scripts"

# How every tool begins: it notes the call, and reads what the test says the world is.
_TOOL = """#!{python} -ES
import json, pathlib, sys
state = pathlib.Path({state!r})
arguments = sys.argv[1:]
stdin = sys.stdin.read() if "-" in arguments else ""
with open(state / "{tool}.calls", "a") as calls:
    calls.write(json.dumps([arguments, stdin]) + "\\n")
world = json.loads((state / "{tool}.json").read_text())
if "answer" in world:
    print(world["answer"]); sys.exit(world.get("exit", 0))
"""

_GH = """\
if world.get("exit"):
    print("HTTP 502: bad gateway", file=sys.stderr); sys.exit(world["exit"])
def option(name):
    return arguments[arguments.index(name) + 1] if name in arguments else None
repo = world["repos"].setdefault(option("--repo") or "/".join(arguments[-1].split("/")[1:3]), {})
pulls = repo.setdefault("pulls", [])
if arguments[:2] == ["pr", "list"]:
    print(json.dumps([{name: pull.get(name) for name in option("--json").split(",")} for pull in pulls]))
elif arguments[:2] == ["pr", "create"]:
    number = len(pulls) + 1
    url = f"https://github.com/{option('--repo')}/pull/{number}"
    pulls.append({"number": number, "headRefName": option("--head"), "url": url, "title": option("--title")})
    (state / "gh.json").write_text(json.dumps(world))
    print(url)
elif arguments[0] == "api" and "/branches" in arguments[-1]:
    print(json.dumps([{"name": name} for name in repo.get("branches", {})]))
elif arguments[0] == "api" and "/compare/" in arguments[-1]:
    print(json.dumps({"ahead_by": repo["branches"][arguments[-1].split("...")[1]]}))
else:
    sys.exit("this gh does not know: " + repr(arguments))
"""

_KUBECTL = """\
if world.get("exit"):
    print("Unable to connect to the server: timeout", file=sys.stderr); sys.exit(world["exit"])
print(json.dumps({"kind": "List", "items": world.get(arguments[1], [])}))
"""


def git(*arguments: str, at: pathlib.Path, stdin: str | None = None) -> str:
    """Run git as a person of the fleet would; returns what it printed."""
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "p"), ("EMAIL", "p@x"))
    }
    environment = {"PATH": os.environ["PATH"], "HOME": str(at), **identity}
    done = subprocess.run(
        ["git", "-c", "maintenance.auto=false", *arguments],
        cwd=at,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


class Fleet:
    """A folder with executables, their state, and a vault with a bare remote; runs scripts in an installation."""

    def __init__(self, folder: pathlib.Path, installation: Installation | None = None) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.logs = folder / "logs"
        self.remote = folder / "vault.git"
        self.vault = folder / "vault"
        self.state = folder / "state"
        for each in (self.bin, self.logs, self.state):
            each.mkdir(parents=True)
        self.gh: dict[str, Any] = {"repos": {}}
        self.kubectl: dict[str, Any] = {}
        self.save()
        self.install("gh", _GH)
        self.install("kubectl", _KUBECTL)
        git("init", "-q", "--bare", "-b", "main", str(self.remote), at=folder)
        git("clone", "-q", str(self.remote), str(self.vault), at=folder)
        (self.vault / "AGENTS.md").write_text("# For agents\n")
        git("checkout", "-q", "-B", "main", at=self.vault)
        git("add", ".", at=self.vault)
        git("commit", "-qm", "start", at=self.vault)
        git("push", "-q", "origin", "main", at=self.vault)
        base = installation.environment if installation else {"HOME": str(folder)}
        self.environment = {
            **base,
            "LOBWIFE_URL": f"http://127.0.0.1:{installation.api_port}" if installation else "http://127.0.0.1:9",
            "LOBWIFE_STATE_DIR": str(self.state),
            "LOBWIFE_PYTHON": sys.executable,
            "VAULT_PATH": str(self.vault),
            "VAULT_REPO": "org/vault",
            "LOG_DIR": str(self.logs),
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
        }

    def install(self, name: str, text: str) -> None:
        """A tool that does what this Python says; it has `arguments`, `stdin`, `state` and the `world` at hand."""
        path = self.bin / name
        path.write_text(_TOOL.format(python=sys.executable, state=str(self.state), tool=name) + text)
        path.chmod(0o755)

    def remove(self, name: str) -> None:
        """As if it were not installed, also where the machine has a real one."""
        (self.bin / name).write_text(f"#!/bin/sh\necho '{name}: command not found' >&2\nexit 127\n")

    def save(self) -> None:
        """Let the tools see what the test says the world is."""
        (self.state / "gh.json").write_text(json.dumps(self.gh))
        (self.state / "kubectl.json").write_text(json.dumps(self.kubectl))

    def jobs(self, *names: str) -> None:
        """The lobsters that Kubernetes has jobs for."""
        self.kubectl = {"jobs": [{"metadata": {"name": name}} for name in names]}
        self.save()

    def calls(self, tool: str) -> list[list[Any]]:
        """What a tool was called with, and what it was given on stdin."""
        path = self.state / f"{tool}.calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def pulls(self, repo: str = "org/vault") -> list[dict[str, Any]]:
        return json.loads((self.state / "gh.json").read_text())["repos"].get(repo, {}).get("pulls", [])

    def command(self, script: str, *arguments: str) -> list[str]:
        interpreter = "bash" if script.endswith(".sh") else sys.executable
        return [interpreter, str(SCRIPTS / script), *arguments]

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end; of one for bash, the module that it hands over to."""
        path = SCRIPTS / script
        module = re.search(r" -m (\S+)", path.read_text()) if path.suffix == ".sh" else None
        return commands.fork(
            *(("-m", module[1]) if module else (str(path),)),
            *arguments,
            environment={**self.environment, **environment},
            folder=self.folder,
            timeout=120,
        )

    def remote_file(self, path: str) -> str:
        """A file as the remote's main has it; empty when it is not there."""
        done = subprocess.run(["git", "show", f"main:{path}"], cwd=self.remote, capture_output=True, text=True)
        return done.stdout
