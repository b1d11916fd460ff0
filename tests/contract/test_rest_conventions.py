"""What holds for every call: JSON always, errors in one sentence, both ports alike (contract, "Conventions")."""

from __future__ import annotations

import http.client
import json
import socket
from urllib.parse import quote

import pytest
from django.template import loader
from django.test import Client

from core.database.backend import is_postgres
from tasks import queries
from tests.support.installation import Installation

pytestmark = pytest.mark.postgres
JSON = "application/json; charset=utf-8"
MEBIBYTE = 2**20


def made(server: Installation, **fields: object) -> int:
    answer = server.post("/api/v1/tasks", {"name": "A task", **fields})
    assert answer.status == 201, answer.body
    return answer.json["id"]


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "nonsense", ""])
def test_a_body_is_json_whatever_its_content_type(server: Installation, content_type: str) -> None:
    answer = server.post("/api/v1/tasks", {"name": "Sent by curl -d"}, headers={"Content-Type": content_type})
    assert answer.status == 201
    assert server.get(f"/api/v1/tasks/{answer.json['id']}").json["name"] == "Sent by curl -d"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"name=x",
        b"[]",
        b"[1]",
        b'"text"',
        b"null",
        b"7",
        b'{"name": NaN}',
        b'{"name": "\xff\xfe"}',
        b'{"name": "\\ud800"}',
        b"[" * 5000,
        b'{"requires_qa": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
    ids=lambda body: body[:24].decode("latin1"),
)
def test_a_body_that_is_no_json_object_is_refused(server: Installation, body: bytes) -> None:
    number = made(server)
    for method, path in (
        ("POST", "/api/v1/tasks"),
        ("PATCH", f"/api/v1/tasks/{number}"),
        ("POST", f"/api/v1/tasks/{number}/events"),
    ):
        answer = server.request(method, path, body)
        assert (answer.status, answer.json) == (400, {"error": "invalid JSON"}), (method, path)


def padded(size: int) -> bytes:
    body = json.dumps({"name": "Large", "pad": ""}).encode()
    return body[:-2] + b"x" * (size - len(body)) + b'"}'


def test_a_body_of_1_mib_is_taken_and_a_larger_one_refused(server: Installation) -> None:
    assert server.post("/api/v1/tasks", padded(MEBIBYTE)).status == 201
    answer = server.post("/api/v1/tasks", padded(MEBIBYTE + 1))
    assert (answer.status, answer.json) == (413, {"error": "the body is larger than 1 MiB"})


@pytest.mark.parametrize(("size", "status"), [(200, 201), (MEBIBYTE, 201), (MEBIBYTE + 1, 413)])
def test_a_chunked_body_is_read_like_any_other(server: Installation, size: int, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.api_port, timeout=20)
    body = padded(size)
    chunks = iter([body[: size // 2], body[size // 2 :]])
    connection.request("POST", "/api/v1/tasks", chunks, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == status
    connection.close()


def test_what_is_sent_with_a_delete_is_ignored(server: Installation) -> None:
    number = made(server)
    assert server.request("DELETE", f"/api/v1/tasks/{number}", b"not json {").status == 200


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/nothing", "/api/v1/tasks/1/", "/api/v1/tasks/", "/health/", "/api/v1/tasks/1/x"]
)
def test_an_unknown_path_is_a_404_in_json(server: Installation, path: str) -> None:
    answer = server.get(path)
    assert answer.status == 404
    assert answer.headers["content-type"] == JSON
    assert list(answer.json) == ["error"]
    assert b"\n" not in answer.body


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/v1/tasks", {"GET", "HEAD", "POST"}),
        ("DELETE", "/api/v1/tasks", {"GET", "HEAD", "POST"}),
        ("POST", "/api/v1/tasks/1", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("PATCH", "/api/v1/tasks/1/events", {"GET", "HEAD", "POST"}),
        ("POST", "/health", {"GET", "HEAD"}),
        ("OPTIONS", "/health", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    server: Installation, method: str, path: str, allowed: set[str]
) -> None:
    answer = server.request(method, path)
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert list(answer.json) == ["error"]


@pytest.mark.parametrize(
    "path", ["/health", "/api/v1/tasks", "/api/v1/tasks/{id}", "/api/v1/tasks/{id}/events", "/api/v1/tasks/999999"]
)
def test_head_answers_what_get_would_without_the_body(server: Installation, path: str) -> None:
    path = path.replace("{id}", str(made(server)))
    get, head = server.get(path), server.request("HEAD", path)
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["content-type"] == JSON
    assert path == "/health" or head.headers["content-length"] == str(len(get.body))


def test_every_answer_has_its_length_and_is_not_sniffed(server: Installation) -> None:
    for path in ("/health", "/api/v1/tasks", "/api/v1/tasks/x", "/api/nothing"):
        answer = server.get(path)
        assert answer.headers["content-length"] == str(len(answer.body))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"] == JSON


@pytest.mark.parametrize("given", ["x", "1.5", "T", "Tx", "t1", "+1", "1_0", "%31%20", "--1", "T-1", "٣"])
def test_an_id_that_is_no_integer_is_a_400(server: Installation, given: str) -> None:
    path = f"/api/v1/tasks/{quote(given, safe='%')}"
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        answer = server.request(method, path, body)
        assert answer.status == 400, (method, given)
        assert "whole number" in answer.json["error"]


@pytest.mark.parametrize("given", ["-1", "999999", "9223372036854775808", "9" * 300, "T99999999999999999999"])
def test_an_id_that_no_task_can_have_is_a_404(server: Installation, given: str) -> None:
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        answer = server.request(method, f"/api/v1/tasks/{given}", body)
        assert answer.status == 404, (method, given)
        assert answer.json["error"].endswith("not found")


def test_an_id_with_a_t_is_taken_too(server: Installation) -> None:
    number = made(server, name="By its T")
    assert server.get(f"/api/v1/tasks/T{number}").json["name"] == "By its T"
    assert server.request("PATCH", f"/api/v1/tasks/T{number}", {"model": "m"}).json["task_id"] == f"T{number}"
    assert server.post(f"/api/v1/tasks/T{number}/events", {"event_type": "note"}).status == 201
    assert len(server.get(f"/api/v1/tasks/T{number}/events").json) == 3
    assert server.request("DELETE", f"/api/v1/tasks/T{number}").json["id"] == number


def test_an_encoded_slash_does_not_split_an_id(server: Installation) -> None:
    answer = server.get("/api/v1/tasks/a%2Fb")
    assert answer.status == 400
    assert "a%2Fb" in answer.json["error"]


def test_of_a_repeated_parameter_the_first_counts(server: Installation) -> None:
    for _ in range(3):
        made(server)
    assert len(server.get("/api/v1/tasks?limit=1&limit=3").json) == 1
    assert len(server.get("/api/v1/tasks?limit=2&limit=x").json) == 2


def test_both_ports_answer_alike(server: Installation) -> None:
    calls = [
        ("GET", "/api/v1/tasks?limit=1", None),
        ("GET", "/api/v1/tasks?limit=x", None),
        ("GET", "/api/v1/tasks/999999", None),
        ("POST", "/api/v1/tasks", {}),
        ("PUT", "/api/v1/tasks", None),
    ]
    for method, path, body in calls:
        api, web = (server.request(method, path, body, port=port) for port in (server.api_port, server.web_port))
        assert (api.status, api.body) == (web.status, web.body), path
    assert server.post("/api/v1/tasks", {"name": "On 8080"}, port=server.web_port).status == 201
    assert server.get("/health", port=server.web_port).status == 200


def test_health_answers_whatever_the_host_and_the_api_only_known_ones(server: Installation) -> None:
    for port in (server.api_port, server.web_port):
        assert server.get("/health", headers={"Host": "10.42.0.7:8081"}, port=port).status == 200
        assert server.get("/health", headers={"Host": "bad host!"}, port=port).status == 200
    answer = server.get("/api/v1/tasks", headers={"Host": "evil.example"})
    assert answer.status == 400
    assert list(answer.json) == ["error"]
    assert server.get("/api/v1/tasks", headers={"Host": "lobwife.lobmob.svc.cluster.local:8081"}).status == 200


def test_a_caller_with_a_session_cookie_gets_the_same_answers(server: Installation) -> None:
    cookie = {"Cookie": "sessionid=unknown"}
    for path in ("/api/v1/tasks?limit=2", "/api/v1/tasks/x", "/api/nothing", "/api/v1/tasks/1/"):
        plain, with_cookie = server.get(path), server.get(path, headers=cookie)
        assert (plain.status, plain.body) == (with_cookie.status, with_cookie.body)
        assert with_cookie.headers["content-type"] == JSON


def test_too_many_parameters_are_a_sentence_not_a_traceback(server: Installation) -> None:
    answer = server.get("/api/v1/tasks?" + "a&" * 1500)
    assert answer.status == 400
    assert list(answer.json) == ["error"]


def test_a_request_cut_short_leaves_the_server_well(server: Installation) -> None:
    with socket.create_connection(("127.0.0.1", server.api_port), timeout=10) as connection:
        connection.sendall(b'POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{"name":')
    assert server.get("/health").status == 200


@pytest.mark.django_db
def test_a_defect_is_a_500_in_json_also_where_no_page_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise LookupError("secret detail")

    monkeypatch.setattr(queries, "task_detail", broken)
    monkeypatch.setattr(loader, "render_to_string", broken)  # as without collected static files
    answer = Client(raise_request_exception=False).get("/api/v1/tasks/1")
    assert (answer.status_code, answer["Content-Type"]) == (500, JSON)
    assert answer.json() == {"error": "an unexpected error; the log of the service has the reason"}


def test_an_unexpected_failure_is_a_500_in_json(installation: Installation) -> None:
    installation.start_web()
    with installation.database() as database:
        if is_postgres():
            raises = "BEGIN RAISE EXCEPTION 'secret detail'; END"
            database.execute(f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $${raises}$$")
            body = "FOR EACH ROW EXECUTE FUNCTION fail()"
        else:
            body = "BEGIN SELECT RAISE(ABORT, 'secret detail'); END"
        database.execute(f"CREATE TRIGGER fails BEFORE INSERT ON tasks {body}")
    answer = installation.post("/api/v1/tasks", {"name": "x"})
    assert answer.status == 500
    assert answer.headers["content-type"] == JSON
    assert "log" in answer.json["error"]
    assert "secret" not in answer.json["error"]
    assert "secret detail" in installation.log()
