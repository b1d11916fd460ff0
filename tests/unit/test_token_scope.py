"""Repositories and permissions of tokens."""

from __future__ import annotations

import dataclasses

import pytest
from django.test.utils import override_settings

from broker.tokens.scope import (
    Scope,
    agent_permissions,
    at_most,
    bare_names,
    check_repositories,
    service_permissions,
    well_formed,
)
from core.errors import Invalid, Unprocessable


def test_agent_types_and_services_have_permissions_of_their_own() -> None:
    granted = {
        "default": {"contents": "read"},
        "research": {"contents": "write"},
        "service:lobboss": {"administration": "write"},
        "service:research": {"issues": "write"},
    }
    with override_settings(BROKER_PERMISSIONS=granted):
        assert agent_permissions("research") == {"contents": "write"}
        for agent_type in ("lobboss", "service:lobboss", "service:research", "unknown", "default"):
            assert agent_permissions(agent_type) == {"contents": "read"}, agent_type
        assert service_permissions("lobboss") == {"administration": "write"}
        assert service_permissions("research") == {"issues": "write"}
        assert service_permissions("lobsigliere") == {"contents": "read"}


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/org/repo",
        "https://github.com/org/repo.git",
        "http://www.github.com/org/repo/",
        "https://x-access-token:secret@github.com/org/repo.git",
        "git@github.com:org/repo",
        "git@github.com:org/repo.git",
        "ssh://git@github.com/org/repo.git",
        "ssh://git@github.com:22/org/repo",
        " org/repo ",
    ],
)
def test_a_repositorys_address_is_its_name(address: str) -> None:
    assert check_repositories([address, "org/repo"], "org") == ["org/repo"]
    assert bare_names([address], "org") == ["repo"]


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com.evil.example/org/repo",
        "https://evil.example/org/repo",
        "https://github.com@evil.example/org/repo",
        "git@evil.example:org/repo",
        "https://github.com/org/repo/tree/main",
        "https://github.com/org",
        "https://github.com/org/re po",
        "file:///org/repo",
    ],
)
def test_an_address_elsewhere_or_of_something_else_is_no_repository(address: str) -> None:
    with pytest.raises(Unprocessable, match="is not a repository"):
        check_repositories([address], "org")


def test_addresses_of_an_enterprises_own_github_count_there() -> None:
    with override_settings(GITHUB_API_URL="https://git.example.com/api/v3"):
        assert check_repositories(["git@git.example.com:org/repo.git"], "org") == ["org/repo"]
    with pytest.raises(Unprocessable):
        check_repositories(["git@git.example.com:org/repo.git"], "org")


def test_one_repository_has_one_name() -> None:
    assert check_repositories(["repo", "Org/Repo", " org/repo ", "other"], "org") == ["repo", "other"]
    assert bare_names(["org/repo", "Repo", "org/b"], "org") == ["repo", "b"]


@pytest.mark.parametrize(
    "name", ["a/b/c", "..", "org/.", "repo.git", "a b", "-org/repo", "org-/repo", "org//repo", "répo", "x" * 101, "a\n"]
)
def test_what_github_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(Unprocessable, match="is not a repository"):
        check_repositories([f"{name}x" if name == "a\n" else name], None)


def test_no_repository_another_owner_and_too_many_are_refused() -> None:
    with pytest.raises(Invalid):
        check_repositories([], "org")
    with pytest.raises(Unprocessable, match="does not belong to org"):
        check_repositories(["elsewhere/repo"], "org")
    with pytest.raises(Unprocessable, match="501 repositories are too many"):
        check_repositories([f"repo{number}" for number in range(501)], "org")


@pytest.mark.parametrize(
    ("level", "limit", "within"),
    [("read", "write", True), ("write", "write", True), ("admin", "write", False), ("read", None, False)],
)
def test_levels_are_ordered(level: str, limit: str | None, within: bool) -> None:
    assert at_most(level, limit) is within


@pytest.mark.parametrize("value", [None, [], {"contents": "all"}, {"Contents": "read"}, {1: "read"}, {"": "read"}])
def test_what_is_no_permission_is_malformed(value: object) -> None:
    assert not well_formed(value)


def test_the_digest_tells_scopes_apart_and_no_spelling() -> None:
    scope = Scope("task:1", 0, ("org/Repo",), {"contents": "read"}, "815")
    assert dataclasses.replace(scope, repositories=("org/repo",)).digest == scope.digest
    others = [
        dataclasses.replace(scope, key="task:2"),
        dataclasses.replace(scope, generation=1),
        dataclasses.replace(scope, repositories=None),
        dataclasses.replace(scope, permissions={"contents": "write"}),
        dataclasses.replace(scope, installation_id="816"),
    ]
    assert len({scope.digest, *(each.digest for each in others)}) == 6
