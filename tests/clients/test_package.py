"""The package in clients/python as others install it: standard library alone, quick to import, one HTTP client."""

from __future__ import annotations

import ast
import importlib
import os
import pathlib
import subprocess
import sys
import tomllib

import pytest

from jobs.execution import script_paths
from tests.support.installation import ROOT

PACKAGE = ROOT / "clients" / "python" / "lobwife_client"
HTTP = {"http", "httpx2", "requests", "urllib.request", "aiohttp"}
# Each would cost a tenth of the import or more, and none is needed to make calls.
SLOW = {
    "argparse",
    "asyncio",
    "concurrent.futures",
    "dataclasses",
    "inspect",
    "subprocess",
    "tempfile",
    "urllib.request",
}


def imported(path: pathlib.Path) -> set[str]:
    """The modules that a file imports, without those of its own package."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return names


def test_it_needs_the_standard_library_alone() -> None:
    # Programs in folders of their own import their neighbours.
    beside = {path.stem for path in (PACKAGE, *PACKAGE.rglob("*.py"))}
    for path in PACKAGE.rglob("*.py"):
        tops = {name.partition(".")[0] for name in imported(path)}
        assert tops <= sys.stdlib_module_names | beside, path


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=variables, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_it_loads_nothing_slow() -> None:
    assert {name.partition(".")[0] for name in loaded_by("import lobwife_client")} <= {
        "importlib",
        "lobwife_client",
        "warnings",
        "_warnings",
    }
    loaded = loaded_by("from lobwife_client import Client")
    assert "lobwife_client.transport" in loaded
    assert loaded & SLOW == set()


def test_each_of_its_names_is_there_when_it_is_used() -> None:
    package = importlib.import_module("lobwife_client")
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="Nobody"):
        package.Nobody  # noqa: B018


def test_scripts_of_jobs_can_import_it() -> None:
    environment = script_paths.script_environment(ROOT / "jobs" / "scripts" / "hello.py")
    command = [sys.executable, "-c", "import lobwife_client; print(lobwife_client.__file__)"]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(PACKAGE / "__init__.py")


def test_its_programs_exist() -> None:
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    programs = settings["project"]["scripts"]
    assert set(programs) == {"lobwife-agent", "git-credential-lobwife"}
    for place in programs.values():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
    assert (PACKAGE / "py.typed").exists()


def test_there_is_no_other_client_of_lobwife_in_scripts_and_wrappers() -> None:
    scripts = [path for path in (ROOT / "jobs" / "scripts").rglob("*.py") if path.name != "discord.py"]
    wrappers = [ROOT / "deploy" / "bin" / name for name in ("gh", "git-credential-lobwife", "lobwife-agent")]
    own = [path for path in PACKAGE.rglob("*.py") if path.name != "transport.py"]
    for path in (*scripts, *wrappers, *own):
        assert not {name for name in imported(path) if name in HTTP or name.startswith("http.")}, path
    for wrapper in wrappers:
        assert len(wrapper.read_text().splitlines()) < 20
