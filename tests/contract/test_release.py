"""`.ci/release-check`: what keeps a version from being released is said in lines."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from tests.support.installation import ROOT

CHECK = ROOT / ".ci" / "release-check"
GOOD = {
    "lobwife/__init__.py": '__version__ = "1.2.0"\n',
    "CHANGELOG.md": "# Changelog\n\n## [1.2.0] - 2026-02-16\n\n- Colour.\n\n## [1.1.0] - 2026-01-01\n\n- Jobs.\n",
    "deploy/k8s/overlays/prod/kustomization.yaml": "images:\n  - name: x\n    newTag: 1.2.0\n",
    "docs/upgrade.md": "docker build -t ghcr.io/minsley/lobmob-lobwife:1.2.0 .\n",
    "requirements.in": "# why\nDjango>=5.2  # LTS\npyjwt[crypto]\n",
    "requirements.txt": "django==5.2.1 \\\n    --hash=sha256:00\npyjwt==2.0 \\\n    --hash=sha256:11\n",
}


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    """A commit of something that can be released as 1.2.0, after 1.1.0."""
    for name, text in GOOD.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    git(tmp_path, "tag", "v1.1.0")
    return tmp_path


def git(project: pathlib.Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=project, check=True)


def commit(project: pathlib.Path) -> None:
    git(project, "add", "-A")
    git(project, "commit", "-q", "--allow-empty", "-m", "x")


def check(project: pathlib.Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, str(CHECK)], cwd=project, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_version_with_everything_in_place_can_be_released(project: pathlib.Path) -> None:
    assert check(project) == (0, "1.2.0 can be released, once the tests pass.\n")
    git(project, "tag", "v1.2.0")
    assert check(project)[0] == 0, "and looked at again once it is tagged"


def test_every_reason_against_it_is_told_at_once(project: pathlib.Path) -> None:
    (project / "CHANGELOG.md").write_text("## [1.2.0] - unreleased\n\n## [1.1.0] - 2026-01-01\n\n- Jobs.\n")
    (project / "deploy/k8s/overlays/prod/kustomization.yaml").write_text("images:\n  - name: x\n    newTag: 1.1.0\n")
    (project / "docs/upgrade.md").write_text("docker pull ghcr.io/minsley/lobmob-lobwife:1.1.0\n")
    (project / "requirements.txt").write_text("django==5.2.1 \\\n    --hash=sha256:00\npyjwt==2.0\n")
    code, told = check(project)
    assert code == 1
    for sentence in (
        "give 1.2.0 its date in the place of 'unreleased'",
        "say what 1.2.0 changes",
        "git status",
        "newTag is 1.1.0; set it to 1.2.0",
        "docs/upgrade.md: it names the image 1.1.0",
        "pyjwt is not pinned",
    ):
        assert sentence in told
    assert told.endswith("1.2.0 can not be released yet.\n")


@pytest.mark.parametrize(("tag", "sentence"), [("v1.2.0", "is tagged already"), ("v1.10.0", "a later one is tagged")])
def test_a_version_is_released_once_and_counts_up(project: pathlib.Path, tag: str, sentence: str) -> None:
    git(project, "tag", tag)
    commit(project)
    code, told = check(project)
    assert code == 1
    assert sentence in told
