"""Tokens, JWTs and keys are nowhere but with those whom they are for."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.broker_rig import Rig
from tests.support.github import Canned, pem, pem_base64


def everything_written(rig: Rig) -> bytes:
    return b"".join(path.read_bytes() for path in rig.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_nothing_that_was_written_holds_a_token_a_jwt_or_the_key(tmp_path: pathlib.Path, level: str) -> None:
    rig = Rig(tmp_path, LOBWIFE_LOG_LEVEL=level, LOBWIFE_DEBUG="1")
    output = b""
    try:
        rig.start_web()
        number, other = rig.task("repo"), rig.task("repo")
        output += rig.get("/health").body
        tokens = [rig.token(f"T{number}").json["token"]]
        tokens.append(rig.post("/api/v1/service-token", {"service": "lobwife"}).json["token"])
        echo = b'{"message": "bad credentials %s"}' % tokens[0].encode()
        for trouble in (Canned(500, echo), Canned(422, echo), Canned(302, echo), Canned(201, echo), Canned(close=True)):
            rig.github.fail(trouble, trouble, trouble)
            output += rig.token(f"T{other}").body
            rig.github.canned.clear()
        rig.github.change = lambda answer: answer.update(repository_selection="all")
        output += rig.token(f"T{other}").body
        rig.github.fail(Canned(500), Canned(500), Canned(500))
        rig.request("DELETE", f"/api/v1/tasks/{number}")
        rig.tick()
        for path in (
            "/api/v1/audit",
            "/api/token/audit",
            "/api/tasks",
            f"/api/v1/tasks/{number}/events",
            "/api/status",
        ):
            output += rig.get(path).body
        output += rig.manage("broker", "--skip-checks", "check", f"T{other}", check=False).stdout.encode()
        output += rig.manage("broker", "--skip-checks", "status").stdout.encode()
        output += everything_written(rig)
        secrets = [token.text for token in rig.github.tokens] + rig.github.jwts
        secrets += ["".join(pem_base64(1).split()), *pem(1).splitlines()[1:-1]]
        assert len(rig.github.tokens) >= 3
        assert [secret[:20] for secret in secrets if secret.encode() in output] == []
        assert tokens[0][:40].encode() not in output
    finally:
        rig.stop()
