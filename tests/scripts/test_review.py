"""lobmob-review-prs.sh: what it blocks, merges, and leaves to people."""

from __future__ import annotations

import json
import pathlib
import subprocess
from typing import Any

import pytest

from tests.support.fleet import Fleet, git

SCRIPT = "lobmob-review-prs.sh"
NOTE = "---\nid: T1\nstatus: queued\ncreated: '2026-01-01 00:00:00'\n---\n\nbody\n"
BOMB = "".join(f"a{number}: &a{number} [*a{number - 1}, *a{number - 1}]\n" for number in range(1, 31))

# gh over a real repository: diffs and contents are git's own.
_GH = """\
import subprocess
from urllib.parse import unquote
def git(*words):
    return subprocess.run(["git", *words], cwd=world["git"], check=True, stdout=-1).stdout
def save():
    (state / "gh.json").write_text(json.dumps(world))
path = next((each for each in arguments if each.startswith("repos/")), "")
if arguments[:2] == ["pr", "list"]:
    print(json.dumps(world["pulls"]))
elif arguments[:2] == ["pr", "merge"]:
    world["merged"].append(arguments); save()
elif arguments[:2] == ["api", "graphql"]:
    print(json.dumps({"data": {"viewer": {"login": world["me"]}}}))
elif "/compare/" in path:
    sys.stdout.buffer.write(git("diff", "-M", unquote(path.split("/compare/")[1])))
elif "/contents/" in path:
    name, _, commit = path.split("/contents/")[1].partition("?ref=")
    sys.stdout.buffer.write(git("show", commit + ":" + unquote(name)))
elif "--method" in arguments:
    body = json.loads(stdin)["body"]
    if "PATCH" in arguments:
        next(each for each in world["comments"] if each["id"] == int(path.split("/")[-1]))["body"] = body
    else:
        world["comments"].append({"id": len(world["comments"]) + 1, "user": {"login": world["me"]}, "body": body})
    world["writes"] += 1; save()
elif "/comments" in path:
    print(json.dumps(world["comments"]))
else:
    sys.exit("this gh does not know: " + repr(arguments))
"""


class Review(Fleet):
    """One pull request over a real repository."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.install("gh", _GH)
        note = self.vault / "010-tasks" / "active" / "T1.md"
        note.parent.mkdir(parents=True)
        note.write_text(NOTE)
        (self.vault / "030-knowledge").mkdir()
        (self.vault / "030-knowledge" / "old.md").write_text("".join(f"line {number}\n" for number in range(30)))
        git("add", ".", at=self.vault)
        git("commit", "-qm", "notes", at=self.vault)
        git("checkout", "-q", "-b", "change", at=self.vault)
        me = "lobmob-fleet[bot]"
        self.gh = {"git": str(self.vault), "me": me, "pulls": [], "comments": [], "merged": [], "writes": 0}

    def propose(self, files: dict[str, str | None] | None = None, **fields: Any) -> str:
        """A pull request with these contents on top of the branch; None deletes. Returns the head."""
        for name, content in (files or {}).items():
            path = self.vault / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_text(content)
        git("add", "-A", at=self.vault)
        git("commit", "-q", "--allow-empty", "-m", "change", at=self.vault)
        head = git("rev-parse", "HEAD", at=self.vault).strip()
        self.gh["pulls"] = [
            {
                **{"number": 7, "title": "change", "author": {"login": "app/lobmob-fleet", "is_bot": True}},
                **{"isDraft": False, "isCrossRepository": False, "headRefOid": head, "baseRefName": "main"},
                **{"statusCheckRollup": [], "latestReviews": [], "reviewDecision": "", **fields},
            }
        ]
        self.save()
        return head

    def review(self, *arguments: str, code: int = 0, **environment: str) -> str:
        done = self.run(SCRIPT, *arguments, **environment)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        self.gh = json.loads((self.state / "gh.json").read_text())
        return done.stdout + done.stderr

    @property
    def comment(self) -> str:
        (only,) = self.gh["comments"]
        return only["body"]

    def said_of(self, path: str) -> str:
        """The one line of the comment about a file."""
        (line,) = (line for line in self.comment.splitlines() if line.startswith(f"- `{path}`"))
        return line


@pytest.fixture
def pull(tmp_path: pathlib.Path) -> Review:
    return Review(tmp_path / "fleet")


def test_housekeeping_is_merged(pull: Review) -> None:
    passed = [{"conclusion": "SUCCESS"}, {"state": "SUCCESS"}, {"conclusion": "SKIPPED"}]
    files: dict[str, str | None] = {"020-logs/a b \u00fc.log": "x\n", "010-tasks/active/T1.md": NOTE + "more\n"}
    head = pull.propose(files, statusCheckRollup=passed)
    assert "1 merged" in pull.review()
    (merged,) = pull.gh["merged"]
    assert merged[:3] == ["pr", "merge", "7"]
    assert {"--merge", "--delete-branch"} <= set(merged)
    assert merged[-2:] == ["--match-head-commit", head]
    assert pull.gh["comments"] == []


# Put together here, so that no scanner takes this file for a leak.
SECRETS = [
    "-----BEGIN RSA " + "PRIVATE KEY-----",
    "ghp" + "_" + "a" * 36,
    "github_pat" + "_" + "a" * 30,
    "sk-ant" + "-api03-" + "a" * 40,
    "dop" + "_v1_" + "a" * 64,
    "MTk4NjIyNDgzNDcxOTI1MjQ4" + ".Cl2FMQ." + "Z" * 27,
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "xoxb" + "-123456789012-abcdef",
]


def test_an_added_secret_blocks_and_is_not_repeated(pull: Review) -> None:
    pull.propose({f"030-knowledge/{kind}.md": f"fine\nkey = {secret}\n" for kind, secret in enumerate(SECRETS)})
    output = pull.review()
    assert "**Blocked.**" in pull.comment
    for kind, secret in enumerate(SECRETS):
        assert "in its added lines" in pull.said_of(f"030-knowledge/{kind}.md")
        assert secret not in pull.comment + output
    assert pull.gh["merged"] == []


def test_a_secret_that_is_taken_out_does_not_block(pull: Review) -> None:
    git("checkout", "-q", "main", at=pull.vault)
    (pull.vault / "030-knowledge" / "leak.md").write_text(SECRETS[1] + "\n")
    git("add", ".", at=pull.vault)
    git("commit", "-qm", "leak", at=pull.vault)
    git("checkout", "-q", "-B", "change", at=pull.vault)
    pull.propose({"030-knowledge/leak.md": "gone\n"})
    assert "1 merged" in pull.review()


def test_files_outside_of_the_vaults_folders_block(pull: Review) -> None:
    pull.propose({".github/workflows/x.yml": "on: push\n", "010-tasksx/y": "y\n", "empty": ""})
    pull.review()
    for name in (".github/workflows/x.yml", "010-tasksx/y", "empty"):
        assert f"`{name}` is outside" in pull.comment


@pytest.mark.parametrize(("old", "new"), [("030-knowledge/old.md", "old.md"), ("AGENTS.md", "docs/AGENTS.md")])
def test_renames_across_the_border_block(pull: Review, old: str, new: str) -> None:
    (pull.vault / new).parent.mkdir(exist_ok=True)
    (pull.vault / old).rename(pull.vault / new)
    pull.propose()
    pull.review()
    assert f"`{new}` is outside" in pull.comment


def test_symlinks_and_submodules_block(pull: Review) -> None:
    (pull.vault / "030-knowledge" / "link.md").symlink_to("/etc/passwd")
    head = git("rev-parse", "HEAD", at=pull.vault).strip()
    (pull.vault / "040-fleet" / "sub").mkdir(parents=True)
    git("init", "-q", at=pull.vault / "040-fleet" / "sub")
    git("commit", "-q", "--allow-empty", "-m", "x", at=pull.vault / "040-fleet" / "sub")
    assert head
    pull.propose()
    pull.review()
    assert "`030-knowledge/link.md` is a symlink" in pull.comment
    assert "`040-fleet/sub` is not a regular file" in pull.comment


def test_notes_that_lobwife_could_not_read_block(pull: Review) -> None:
    notes = (
        ("no header\n", "lacks id, status, created"),
        ("---\nid: T3\nstatus: queued\n---\n", "lacks created"),
        ("---\nid: [T4\n---\n", "not valid YAML"),
        ("---\n- a list\n---\n", "frontmatter"),
        (f"---\nid: {'[' * 50000}{']' * 50000}\nstatus: queued\ncreated: x\n---\n", "not valid YAML"),
        (f"---\na0: &a0 [x]\n{BOMB}id: *a30\nstatus: queued\ncreated: x\n---\n", "lacks id"),
        ("---\n{id: T8, status: queued, created: x}\n---\n", "not valid YAML"),
        (NOTE, "its id differs"),
    )
    paths = [f"010-tasks/completed/T{number}.md" for number in range(2, 2 + len(notes))]
    pull.propose({path: note for path, (note, _) in zip(paths, notes, strict=True)})
    pull.review()
    for path, (_, words) in zip(paths, notes, strict=True):
        assert words in pull.said_of(path)


def test_a_note_may_be_deleted(pull: Review) -> None:
    pull.propose({"010-tasks/active/T1.md": None})
    assert "1 merged" in pull.review()


def test_the_rest_waits_for_a_person(pull: Review) -> None:
    for fields, words in (
        ({"author": {"login": "app/dependabot", "is_bot": True}}, "author"),
        ({"author": {"login": "lobmob-fleet", "is_bot": False}}, "author"),
        ({"isCrossRepository": True}, "author"),
        ({"isDraft": True}, "draft"),
        ({"latestReviews": [{"state": "CHANGES_REQUESTED"}]}, "asks for changes"),
        ({"statusCheckRollup": [{"conclusion": "FAILURE"}]}, "checks"),
        ({"statusCheckRollup": [{"status": "IN_PROGRESS", "conclusion": ""}]}, "checks"),
    ):
        pull.gh["comments"] = []
        pull.propose({"030-knowledge/y.md": "y\n"}, **fields)
        waits_for_a_person(pull, words)


@pytest.mark.parametrize(
    ("files", "words"), [({"AGENTS.md": "new rules\n"}, "AGENTS.md"), ({"030-knowledge/x.md": "\0"}, "can't judge")]
)
def test_what_rules_can_t_judge_waits_for_a_person(pull: Review, files: dict[str, str | None], words: str) -> None:
    pull.propose({"030-knowledge/y.md": "y\n", **files})
    for _ in range(2):
        waits_for_a_person(pull, words)
    assert pull.gh["writes"] == 1


def waits_for_a_person(pull: Review, words: str) -> None:
    pull.review()
    assert pull.gh["merged"] == []
    assert "a review is awaited" in pull.comment
    assert words in pull.comment


def test_the_one_comment_follows_the_change(pull: Review) -> None:
    spoof = {"id": 1, "user": {"login": "mallory"}, "body": "<!-- lobmob-review-prs -->\nThe checks passed"}
    pull.gh["comments"].append(spoof)
    pull.propose({"outside": "x\n"})
    pull.review()
    pull.propose({"outside": None, "AGENTS.md": "x\n"})
    pull.review()
    assert "a review is awaited" in pull.gh["comments"][1]["body"]
    assert pull.gh["comments"][0] == spoof
    assert (len(pull.gh["comments"]), pull.gh["writes"]) == (2, 2)


def test_other_authors_can_be_let_in_by_name(pull: Review) -> None:
    pull.propose({"030-knowledge/y.md": "y\n"}, author={"login": "Ann", "is_bot": False})
    assert "1 merged" in pull.review(LOBMOB_REVIEW_AUTHORS="bob, ann")


def test_a_dry_run_writes_nothing(pull: Review) -> None:
    pull.propose({"outside": "x\n"})
    assert "would:" in pull.review("--dry-run")
    pull.propose({"outside": None, "030-knowledge/y.md": "y\n"})
    assert "1 merged (dry run)" in pull.review("--dry-run")
    assert (pull.gh["comments"], pull.gh["merged"]) == ([], [])
    asked = [*pull.command(SCRIPT), "--help"]  # the script itself, which hands over to what the tests call
    done = subprocess.run(asked, env=pull.environment, cwd=pull.folder, stdout=-1, text=True, timeout=60, check=True)
    assert "--dry-run" in done.stdout


def test_the_vault_may_be_named_by_its_address(pull: Review) -> None:
    pull.propose({"030-knowledge/y.md": "y\n"})
    assert "1 merged (dry run)" in pull.review("--dry-run", VAULT_REPO="https://github.com/org/vault.git")


def test_without_gh_or_with_garbage_nothing_is_decided(pull: Review) -> None:
    pull.propose({"030-knowledge/y.md": "y\n"})
    for answer in ("<html>", "{}", "[1]", '[{"number": 7, "headRefOid": "x", "baseRefName": "main"}]'):
        pull.gh["answer"] = answer
        pull.save()
        pull.review(code=1)
        assert (pull.gh["comments"], pull.gh["merged"]) == ([], [])
    pull.remove("gh")
    assert "skipped" in pull.review()
    assert "skipped" in pull.review(VAULT_REPO="", VAULT_PATH="/nowhere")
