"""The manual's commands work: every `sh` block is run on an installation whose web and daemon run."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.installation import ROOT, Installation

DOCS = ROOT / "docs"
BLOCK = re.compile(r"^( *)```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# One installation, in this order. api.md and jobs.md have tests of their own, and test_make.py runs getting-started.md
# and the README on a fresh clone. What needs a cluster, GitHub or an hour is `console` and not run.
PAGES = ("operating.md", "upgrade.md", "database.md", "vault.md", "broker.md", "security.md", "writing-scripts.md")
ELSEWHERE = {"api.md", "jobs.md", "getting-started.md"}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("shell"))
    made.state.chmod(0o700)
    (made.state / "scripts").mkdir()
    tools = made.folder / "tools"
    tools.mkdir()
    command = tools / "manage.py"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "manage.py"}" "$@"\n')
    command.chmod(0o755)
    (tools / "python3").symlink_to(sys.executable)
    made.environment |= {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "LOBWIFE_URL": f"http://127.0.0.1:{made.api_port}",
    }
    try:
        made.migrate()
        made.start_web()
        made.start_daemon()
        made.manage("backup")
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_the_page_works(shell: Installation, name: str) -> None:
    blocks = [text for _, text in BLOCK.findall((DOCS / name).read_text())]
    assert blocks
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            env=shell.environment,
            cwd=shell.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def test_every_page_with_commands_is_run() -> None:
    with_commands = {page.name for page in DOCS.glob("*.md") if BLOCK.search(page.read_text())}
    assert with_commands == {*PAGES, *ELSEWHERE}


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in readme] == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_anchors_are_headings() -> None:
    def anchors(page: pathlib.Path) -> set[str]:
        headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    for page in DOCS.glob("*.md"):
        for target, anchor in re.findall(r"\]\(([^)#:]+\.md)#([^)]+)\)", page.read_text()):
            assert anchor in anchors(page.parent / target), f"{page.name}: {target}#{anchor}"
