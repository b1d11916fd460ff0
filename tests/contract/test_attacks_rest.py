"""Attacks on the REST interface: what is injected, oversized, malformed or replayed."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support.access import make_key
from tests.support.installation import Answer, Installation

SECRET = "a-key-for-tests"
NASTY = "\x1b[31mred\x1b[0m\r\nInjected: yes\n<script>alert(1)</script>'; DROP TABLE tasks; --"


def raw(server: Installation, data: bytes) -> bytes:
    """Bytes as no client library would send them."""
    with socket.create_connection(("127.0.0.1", server.api_port), timeout=15) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def is_a_problem(answer: Answer, status: int) -> bool:
    return answer.status == status and set(answer.json) == {"error"} and b"\n" not in answer.body


def test_deeply_nested_json_is_refused_with_the_reason(server: Installation) -> None:
    for body in (b"[" * 100_000, b'{"a":' * 100_000, b'{"name": "x", "pad": ' + b"[" * 40 + b"]" * 40 + b"}"):
        assert is_a_problem(server.post("/api/v1/tasks", body), 400)
    deep = server.post("/api/v1/tasks", b'{"name": "x", "pad": ' + b"[" * 40 + b"]" * 40 + b"}")
    assert deep.json["error"] == "the JSON is nested deeper than 32 levels"
    many = {"name": "flat", "pad": [[1]] * 5000}
    assert server.post("/api/v1/tasks", many).status == 201


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("name", "x" * 10_001, "name must be at most 10000 characters long"),
        ("slug", "x" * 1001, "slug must be at most 1000 characters long"),
        ("actor", "x" * 1001, "actor must be at most 1000 characters long"),
        ("repos", ["org/repo"] * 1001, "repos must be at most 1000 names of at most 300 characters"),
        ("repos", ["x" * 301], "repos must be at most 1000 names of at most 300 characters"),
        ("estimate_minutes", 2**63, "estimate_minutes must be a whole number"),
        ("name", "a\0b", "name must not contain a NUL character"),
    ],
)
def test_what_is_over_a_limit_is_refused_with_the_reason(
    server: Installation, field: str, value: object, reason: str
) -> None:
    refused = server.post("/api/v1/tasks", {"name": "x", field: value})
    assert is_a_problem(refused, 400)
    assert refused.json["error"] == reason


def test_a_body_may_be_a_mebibyte_and_not_a_byte_more(server: Installation) -> None:
    start = b'{"name": "large", "workflow": "'
    full = start + b"x" * (2**20 - len(start) - 2) + b'"}'
    assert server.post("/api/v1/tasks", full).status == 201
    assert is_a_problem(server.post("/api/v1/tasks", full + b" "), 413)
    head = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    assert b" 413 " in raw(server, head + chunk * 40).splitlines()[0]


def test_what_the_broker_is_sent_has_limits_too(server: Installation) -> None:
    number = server.post("/api/v1/tasks", {"name": "Its own"}).json["id"]
    agent = make_key(server, "long-winded", "agent", "--task", f"T{number}")
    long = {"repos": ["org/repo"], "lobster_type": "x" * 1001}
    for path, body, headers in (
        (f"/api/v1/tasks/{number}/register", long, {}),
        ("/api/tasks/by-name/register", long, {}),
        ("/api/token", {"task_id": "x" * 10_001}, {}),
        ("/api/token", {"task_id": "x" * 10_001}, agent),
        ("/api/v1/service-token", {"service": "x" * 1001}, {}),
    ):
        refused = server.post(path, body, headers=headers)
        assert is_a_problem(refused, 400), path
        assert "characters long" in refused.json["error"], path


@pytest.mark.parametrize(
    "body", [b'{"name": "\xff\xfe"}', b"\x00\x01", b'{"name": "\\ud800"}', b'{"name": NaN}', b'"text"', b"[]", b""]
)
def test_what_is_no_utf_8_json_object_is_a_400(server: Installation, body: bytes) -> None:
    assert is_a_problem(server.post("/api/v1/tasks", body), 400)


@pytest.mark.parametrize("path", ["/api/v1/tasks/%ff", "/api/v1/tasks/%00", "/api/jobs/%ff%fe", "/api/%c0%ae"])
def test_invalid_utf_8_in_a_path_is_a_4xx(server: Installation, path: str) -> None:
    assert 400 <= server.get(path).status < 500


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["large header", "long line", "many headers", "two lengths", "length and chunks", "nonsense"],
)
def test_a_malformed_or_oversized_head_is_a_4xx(server: Installation, head: bytes) -> None:
    assert raw(server, head).startswith(b"HTTP/1.1 4")
    assert server.get("/health").status == 200


def test_what_is_injected_into_events_and_notes_comes_back_as_text(server: Installation) -> None:
    number = server.post("/api/v1/tasks", {"name": NASTY, "workflow": NASTY, "actor": NASTY}).json["id"]
    server.post(f"/api/v1/tasks/{number}/events", {"event_type": NASTY, "detail": NASTY, "actor": NASTY})
    for path in (f"/api/v1/tasks/{number}", f"/api/v1/tasks/{number}/events"):
        answer = server.get(path)
        assert "injected" not in answer.headers
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert b"\n" not in answer.body
        assert b"\x1b" not in answer.body
    assert server.get(f"/api/v1/tasks/{number}").json["name"] == NASTY
    assert server.get(f"/api/v1/tasks/{number}/events").json[0]["detail"] == NASTY
    log = server.log()
    assert "\x1b" not in log
    assert "\nInjected" not in log


@pytest.mark.parametrize("field", ["status", "type", "limit", "order", "sort"])
@pytest.mark.parametrize(
    "attack", ["' OR '1'='1", "1; DROP TABLE tasks", "x' UNION SELECT digest FROM lobwife_apikey--"]
)
def test_sql_in_a_filter_finds_nothing(server: Installation, field: str, attack: str) -> None:
    answer = server.get("/api/v1/tasks?" + "&".join([f"{field}={attack.replace(' ', '%20')}", "type=none-such"]))
    assert answer.status in {200, 400}
    assert not answer.json or "error" in answer.json
    assert server.get("/api/v1/tasks").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/jobs/..%2f..%2fetc%2fpasswd",
        "/api/jobs/../../etc/passwd",
        "/api/jobs/%2e%2e%2f%2e%2e%2fsecret-key",
        "/api/v1/runs/..%2f..%2fsecret-key/output",
        "/static/../secret-key",
        "/static/..%2f..%2f..%2fstate%2fsecret-key",
        "/static/%2e%2e/%2e%2e/manage.py",
    ],
)
def test_a_path_that_climbs_leads_nowhere(server: Installation, path: str) -> None:
    answer = server.get(path)
    assert 400 <= answer.status < 500
    assert b"root:" not in answer.body
    assert b"django" not in answer.body.lower()


def test_nothing_that_is_read_changes_anything(server: Installation) -> None:
    number = server.post("/api/v1/tasks", {"name": "still"}).json["id"]
    before = server.get("/api/v1/tasks").json
    for path in ("/api/jobs/task-manager/trigger", "/api/jobs/task-manager/disable", "/api/v1/sync/trigger"):
        assert server.get(path).status in {404, 405}
        assert server.request("HEAD", path).status in {404, 405}
    for path in ("/", "/health", f"/api/v1/tasks/{number}", "/api/jobs", "/api/docs", "/admin/logout/"):
        server.get(path + "?status=cancelled&_method=DELETE")
        server.get(path, headers={"X-HTTP-Method-Override": "DELETE"})
    assert server.get("/api/v1/tasks").json == before
    assert server.get("/api/jobs/task-manager").json["enabled"] is True


def test_no_page_and_no_error_shows_a_secret(server: Installation) -> None:
    key = make_key(server, "shown-nowhere", "operator")["Authorization"]
    pages = ["/api/docs", "/api/openapi.json", "/api/none", "/none", "/admin/none", "/api/v1/tasks/x", "/health"]
    for path in pages:
        for headers in ({}, {"Authorization": key}, {"Cookie": "sessionid=x"}):
            body = server.get(path, headers=headers).body.decode()
            assert SECRET not in body
            assert key[10:] not in body
            assert str(server.state) not in body
            assert "Traceback" not in body
            assert "DEBUG" not in body
    assert key[10:] not in server.log()


def test_a_revoked_key_is_replayed_in_vain(server: Installation) -> None:
    headers = make_key(server, "short-lived", "operator")
    assert server.get("/api/v1/tasks", headers=headers).status == 200
    server.manage("apikey", "revoke", "short-lived")
    for _ in range(10):
        assert server.get("/api/v1/tasks", headers=headers).status == 401


def test_forwarding_headers_make_nobody_local(server: Installation) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host", "Via"):
        for value in ("127.0.0.1", "for=127.0.0.1", "::1", ""):
            assert server.get("/api/v1/tasks", headers={name: value}).status == 401, (name, value)


def test_answers_carry_the_headers_that_bind_a_browser(server: Installation) -> None:
    answer = server.get("/api/v1/tasks")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    for path in ("/admin/login/", "/api/docs"):
        headers = server.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "geolocation=()" in headers["permissions-policy"]


def test_errors_are_json_even_for_what_is_not_understood(server: Installation) -> None:
    for method, path in (("BREW", "/api/v1/tasks"), ("TRACE", "/health"), ("OPTIONS", "/api/v1/tasks")):
        assert json.loads(server.request(method, path).body)["error"]
