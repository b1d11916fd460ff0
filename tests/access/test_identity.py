"""Who is calling: local programs, keys, people; and what `open` lets in."""

from __future__ import annotations

import http.client
import json
import pathlib
import re
from urllib.parse import urlencode

import pytest

from tests.support.access import ELSEWHERE, bearer, make_key
from tests.support.installation import Answer, Installation, wait_for

PASSWORD = "correct-horse-battery"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "lobwife.lobmob.svc.cluster.local:8081"},
    ],
)
def test_a_program_on_this_machine_needs_no_credential(server: Installation, headers: dict[str, str]) -> None:
    sent = {name: value.format(port=server.api_port) for name, value in headers.items()}
    assert server.post("/api/v1/tasks", {"name": "local"}, headers=sent).status == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},  # another port of this host is another origin
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"X-Forwarded-Proto": "https"},
    ],
)
def test_a_page_of_another_site_and_a_proxy_are_not_local(server: Installation, headers: dict[str, str]) -> None:
    refused = server.post("/api/v1/tasks", {"name": "x"}, headers=headers)
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


def test_a_foreign_host_is_refused_and_health_answers_any(server: Installation) -> None:
    for path in ("/api/v1/tasks", "/api/docs", "/admin/login/"):
        assert server.get(path, headers={"Host": "rebound.evil.example"}).status == 400, path
    for host in ("rebound.evil.example", "10.42.0.17:8080", "lobwife"):
        assert server.get("/health", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "10.42.0.17:8081",  # the pod
        "10.43.7.7:8081",  # the Service
        "203.0.113.9:30081",  # a node
        "[fd00::7]:8081",
        "lobwife:8081",
        "lobwife.lobmob",
        "lobwife.lobmob.svc",
        "lobwife.lobmob.svc.cluster.local.:8081",
        "localhost:1",
    ],
)
def test_addresses_and_the_services_names_are_hosts(server: Installation, host: str) -> None:
    assert server.get("/api/v1/tasks", headers={"Host": host}).status == 200
    assert b"lobwife" in server.get("/", headers={"Host": host}, port=server.web_port).body


def test_an_alias_is_a_host_but_not_local(server: Installation) -> None:
    """Somebody on the same network can make such a name, and point it at a port-forward."""
    assert server.get("/api/v1/tasks", headers={"Host": "cron:8081"}).status == 401
    server.manage("apikey", "access", "open")
    try:
        assert server.get("/api/v1/tasks", headers={"Host": "cron:8081"}).status == 200
    finally:
        server.manage("apikey", "access", "required")


def test_a_refused_host_names_the_setting(server: Installation) -> None:
    answer = server.get("/api/v1/tasks", headers={"Host": "rebound.evil.example"})
    assert answer.json["error"].startswith("this is not called 'rebound.evil.example': add the name to LOBWIFE_HOSTS")
    page = server.get("/", headers={"Host": "rebound.evil.example"}, port=server.web_port)
    assert (page.status, b"LOBWIFE_HOSTS" in page.body) == (400, True)


def test_named_hosts_alone_count_where_they_are_set(tmp_path: pathlib.Path) -> None:
    made = Installation(tmp_path, LOBWIFE_HOSTS="ops.example.com,127.0.0.1")
    try:
        made.migrate()
        made.start_web()
        assert made.get("/api/v1/tasks", headers={"Host": "ops.example.com"}).status == 200
        for host in ("10.42.0.17:8081", "cron"):
            assert made.get("/api/v1/tasks", headers={"Host": host}).status == 400, host
    finally:
        made.stop()


def test_behind_a_proxy_on_the_same_host_loopback_is_not_trusted(tmp_path: pathlib.Path) -> None:
    made = Installation(tmp_path, LOBWIFE_TRUST_LOOPBACK="0")
    try:
        made.migrate()
        made.start_web()
        assert made.get("/api/v1/tasks").status == 401
        assert made.get("/health").status == 200
    finally:
        made.stop()


# --- keys
def test_a_key_is_shown_once_and_lets_its_holder_in_until_it_is_revoked(server: Installation) -> None:
    headers = make_key(server, "ci", "operator") | ELSEWHERE
    assert server.get("/api/v1/tasks", headers=headers).status == 200
    listed = json.loads(server.manage("apikey", "list").stdout.splitlines()[0])
    assert listed["name"] == "ci"
    assert listed["last_used"] is not None
    key = headers["Authorization"].removeprefix("Bearer ")
    files = [path.read_bytes() for path in server.folder.rglob("*") if path.is_file()]
    assert not [file for file in files if key[12:].encode() in file], "the secret is kept nowhere"
    server.manage("apikey", "revoke", "ci")
    assert server.get("/api/v1/tasks", headers=headers).status == 401
    again = server.manage("apikey", "revoke", "ci", check=False)
    assert again.returncode
    assert "already revoked" in again.stderr


def test_unknown_wrong_revoked_and_expired_keys_are_answered_alike(server: Installation) -> None:
    good = make_key(server, "good", "viewer")["Authorization"].removeprefix("Bearer ")
    revoked = make_key(server, "revoked", "viewer")["Authorization"].removeprefix("Bearer ")
    server.manage("apikey", "revoke", "revoked")
    expired = make_key(server, "expired", "viewer", "--days", "0.00001")["Authorization"].removeprefix("Bearer ")
    wrong = good[:-1] + ("A" if good[-1] != "A" else "B")
    unknown = "lw_00000000_" + good[12:]
    answers = {}
    wait_for(lambda: server.get("/api/v1/tasks", headers=bearer(expired)).status == 401)
    for name, key in {"wrong": wrong, "unknown": unknown, "revoked": revoked, "expired": expired, "no": "lw_"}.items():
        answer = server.get("/api/v1/tasks", headers=bearer(key) | {"X-Forwarded-For": "10.0.0.1"})
        answers[name] = (answer.status, answer.body, sorted(answer.headers))
    assert len({str(answer) for answer in answers.values()}) == 1, answers
    assert answers["wrong"][0] == 401
    assert server.get("/api/v1/tasks", headers=bearer(good)).status == 200


def test_a_local_program_with_a_wrong_key_is_not_let_in_as_local(server: Installation) -> None:
    assert server.get("/api/v1/tasks", headers=bearer("lw_nonsense")).status == 401


@pytest.mark.parametrize(
    "arguments",
    [
        ("bad name!", "--role", "viewer"),
        ("a", "--role", "agent"),
        ("b", "--role", "viewer", "--task", "T1"),
        ("c", "--role", "agent", "--task", "first"),
        ("d", "--role", "viewer", "--days", "-1"),
        ("e", "--role", "viewer", "--service", "lobboss"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(server: Installation, arguments: tuple[str, ...]) -> None:
    refused = server.manage("apikey", "create", *arguments, check=False)
    assert refused.returncode
    assert refused.stderr.startswith("CommandError: ")


# --- people
class Browser:
    """Cookies and a CSRF token, nothing more."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.cookies: dict[str, str] = {}

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[Answer, list[str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.installation.web_port, timeout=20)
        try:
            cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            connection.request(method, path, body, {**ELSEWHERE, "Cookie": cookies, **headers})
            response = connection.getresponse()
            set_cookies = response.headers.get_all("Set-Cookie") or []
            for each in set_cookies:
                name, _, value = each.partition(";")[0].partition("=")
                self.cookies[name] = value
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read()), set_cookies
        finally:
            connection.close()

    def sign_in(self, username: str, password: str, **headers: str) -> Answer:
        page, _ = self.send("GET", "/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.body.decode())
        assert token is not None
        form = {"csrfmiddlewaretoken": token[1], "username": username, "password": password, "next": "/admin/"}
        form |= {"next": headers.pop("next")} if "next" in headers else {}
        return self.send(
            "POST", "/admin/login/", urlencode(form).encode(), **{"Content-Type": "application/x-www-form-urlencoded"}
        )[0]


def make_person(installation: Installation, name: str, group: str | None) -> None:
    program = f"""
from django.contrib.auth.models import Group, User
user = User.objects.create_user({name!r}, password={PASSWORD!r}, is_staff=True)
group = {group!r}
group and user.groups.add(Group.objects.get(name=group))
"""
    installation.manage("shell", "--no-imports", "-v0", "-c", program)


@pytest.mark.parametrize(("group", "may_read", "may_write"), [("Operators", 200, 201), ("Viewers", 200, 403)])
def test_people_have_the_role_of_their_group(server: Installation, group: str, may_read: int, may_write: int) -> None:
    make_person(server, f"in-{group}", group)
    browser = Browser(server)
    assert browser.sign_in(f"in-{group}", PASSWORD).status == 302
    assert browser.send("GET", "/api/v1/tasks")[0].status == may_read
    token = {"X-CSRFToken": browser.cookies["csrftoken"]}
    body = b'{"name": "By a person"}'
    assert browser.send("POST", "/api/v1/tasks", body, **token)[0].status == may_write
    users, _ = browser.send("GET", "/admin/lobwife/apikey/")
    assert users.status == 200
    add, _ = browser.send("GET", "/admin/lobwife/apikey/add/")
    assert add.status == (200 if group == "Operators" else 403)


def test_a_session_without_its_csrf_token_writes_nothing(server: Installation) -> None:
    make_person(server, "careless", "Operators")
    browser = Browser(server)
    browser.sign_in("careless", PASSWORD)
    refused, _ = browser.send("POST", "/api/v1/tasks", b'{"name": "Forged"}')
    assert refused.status == 403
    assert "CSRF" in refused.json["error"]
    names = [task["name"] for task in server.get("/api/v1/tasks").json]
    assert "Forged" not in names


def test_a_person_without_a_group_has_no_role(server: Installation) -> None:
    make_person(server, "nobody-yet", None)
    browser = Browser(server)
    browser.sign_in("nobody-yet", PASSWORD)
    refused, _ = browser.send("GET", "/api/v1/tasks")
    assert refused.status == 403
    assert "Operators or Viewers" in refused.json["error"]


# --- open or required
def test_a_new_database_requires_credentials(server: Installation) -> None:
    assert server.get("/api/v1/tasks", headers=ELSEWHERE).status == 401
    assert "lobwife.W02" not in server.manage("check").stderr


@pytest.mark.sqlite("the older service's file")
def test_a_database_in_use_before_is_open_until_an_operator_decides(tmp_path: pathlib.Path) -> None:
    made = Installation(tmp_path)
    (made.state / "lobmob.db.pre-migration").write_bytes(b"")  # what taking a database over leaves behind
    try:
        made.migrate()
        assert "lobwife.W021" in made.manage("check").stderr
        made.start_web()
        caller = {**ELSEWHERE, "User-Agent": "old-poller/1.0 (python)"}
        assert made.post("/api/v1/tasks", {"name": "From the fleet"}, headers=caller).status == 201
        foreign = made.post("/api/v1/tasks", {"name": "x"}, headers={"Origin": "https://evil.example"})
        assert foreign.status == 403, "not even an open service lets pages of other sites write"
        shown = made.manage("apikey", "access")
        assert shown.stdout.strip() == "open"
        assert "old-poller/1.0 POST /api/v1/tasks" in shown.stderr
        made.manage("apikey", "access", "required")
        assert made.post("/api/v1/tasks", {"name": "x"}, headers=caller).status == 401
        assert "lobwife.W02" not in made.manage("check").stderr
        made.manage("apikey", "access", "open")
        assert "lobwife.W020" in made.manage("check").stderr
    finally:
        made.stop()


def test_the_environment_has_the_last_word(tmp_path: pathlib.Path) -> None:
    made = Installation(tmp_path, LOBWIFE_API_AUTH="open")
    try:
        made.migrate()
        made.manage("apikey", "access", "required")
        made.start_web()
        assert made.get("/api/v1/tasks", headers=ELSEWHERE).status == 200
    finally:
        made.stop()
    made.environment["LOBWIFE_API_AUTH"] = "sometimes"
    refused = made.manage("check", check=False)
    assert "LOBWIFE_API_AUTH" in refused.stderr
