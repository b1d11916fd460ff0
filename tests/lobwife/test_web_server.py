"""The web server: it stops cleanly, holds nothing for idle clients, and nothing stops its loop."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from core.database.backend import is_postgres
from core.processes import raise_open_files
from tests.support.browser import OPERATOR, PASSWORD, make_operator
from tests.support.installation import ROOT, Installation, wait_for, write_locked

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connected(installation: Installation) -> socket.socket:
    return socket.create_connection(("127.0.0.1", installation.api_port), timeout=15)


def workers_of(web: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in pathlib.Path(f"/proc/{web.pid}/task/{web.pid}/children").read_text().split()]


def open_databases(installation: Installation, pid: int) -> int:
    if is_postgres():
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with installation.database() as database:
            return int(database.execute(sql).fetchone()[0])
    return sum(link.endswith("/lobmob.db") for link in open_files(pid))


def open_sockets(pid: int) -> int:
    return sum(link.startswith("socket:") for link in open_files(pid))


def open_files(pid: int) -> list[str]:
    links = []
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(entry))
    return links


def test_head_and_body_of_an_answer_come_together(server: Installation) -> None:
    with connected(server) as client:
        for _ in range(3):
            client.sendall(HEALTH)
            head, _, body = client.recv(65536).partition(b"\r\n\r\n")
            assert b"Content-Length: %d" % len(body) in head
            assert body.endswith(b"}")
        client.sendall(HEALTH.replace(b"GET", b"HEAD"))
        assert client.recv(65536).endswith(b"\r\n\r\n"), "a head without a body comes too"


def test_a_stop_answers_what_was_accepted(installation: Installation) -> None:
    web = installation.start_web()
    clients = [connected(installation) for _ in range(8)]
    clients[0].sendall(HEALTH)
    assert clients[0].recv(65536).startswith(b"HTTP/1.1 200 ")  # kept alive
    clients[1].sendall(HEALTH[:20])
    doors = 2 * len(workers_of(web))
    accepted = len(clients) + doors
    wait_for(lambda: sum(map(open_sockets, workers_of(web))) >= accepted, what="all are accepted")
    web.terminate()
    clients[1].sendall(HEALTH[20:])
    for client in clients[2:]:
        client.sendall(HEALTH)
    for client in clients[1:]:
        received = b"".join(iter(lambda: client.recv(65536), b""))  # noqa: B023
        assert received.startswith(b"HTTP/1.1 200 ")
    assert web.wait(15) == 0


def test_a_stop_does_not_wait_for_idle_clients(installation: Installation) -> None:
    web = installation.start_web()
    clients = [connected(installation) for _ in range(20)]
    for client in clients[:10]:
        client.sendall(HEALTH)
        assert client.recv(65536)
    started = time.monotonic()
    web.terminate()
    assert web.wait(15) == 0
    assert time.monotonic() - started < 10
    for client in clients:
        client.close()


def test_a_thousand_idle_clients_hold_no_connection_to_the_database(installation: Installation) -> None:
    raise_open_files()
    web = installation.start_web()
    clients = [connected(installation) for _ in range(1000)]
    for client in clients[:200]:
        client.sendall(HEALTH)
    for client in clients[:200]:
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    for client in clients[200:600]:
        client.sendall(HEALTH[:-2])
    for _ in range(20):
        assert installation.get("/health", timeout=3).status == 200
    assert all(open_databases(installation, worker) <= 17 for worker in workers_of(web))
    for client in clients:
        client.close()


def test_clients_above_the_bound_wait_until_others_are_gone(installation: Installation) -> None:
    installation.environment["LOBWIFE_WORKERS"] = "1"
    gunicorn = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "lobwife" / "web" / "gunicorn_conf.py")]
    web = installation.start("prlimit", "--nofile=300", *gunicorn)  # which leaves room for 100 of each port
    wait_for(lambda: "web answers on" in installation.log() and workers_of(web), 30, "web answers")
    (worker,) = workers_of(web)
    before = open_sockets(worker)
    clients = [connected(installation) for _ in range(130)]
    wait_for(lambda: open_sockets(worker) >= before + 100, 20, "a hundred are taken in")
    own = 4 if is_postgres() else 0  # its connections to the database
    assert open_sockets(worker) <= before + 100 + own
    for client in clients[:100]:
        client.close()
    for client in clients[100:]:
        client.sendall(HEALTH)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.close()


def test_one_busy_connection_leaves_turns_to_the_others(server: Installation) -> None:
    stop = threading.Event()

    def keep_busy() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.api_port, timeout=15)
        while not stop.is_set():
            connection.request("GET", "/api/v1/tasks")
            connection.getresponse().read()

    with ThreadPoolExecutor() as pool:
        busy = [pool.submit(keep_busy) for _ in range(4)]
        try:
            for _ in range(50):
                assert server.get("/health", timeout=2).status == 200
        finally:
            stop.set()
        assert not any(each.exception() for each in busy)


def test_nothing_that_web_does_stops_its_loop(installation: Installation, tmp_path: pathlib.Path) -> None:
    """gevent's monitor names what held a loop; here for longer than the machine's other work explains."""
    seconds = tmp_path / "commit-seconds"
    seconds.write_text("0.05")
    make_operator(installation)
    installation.environment |= {
        "GEVENT_MONITOR_THREAD_ENABLE": "true",
        "GEVENT_MAX_BLOCKING_TIME": "0.5",
        "PYTHONPATH": str(ROOT / "tests" / "support" / "slow_disk"),
        "TEST_COMMIT_SECONDS": str(seconds),
        "LOBWIFE_WORKERS": "1",
    }
    installation.start_web()
    paths = ("/", "/health", "/metrics", "/api/docs", "/api/jobs", "/api/v1/tasks", "/admin/login/")
    for path in paths:  # the first call of a page reads its templates
        assert installation.get(path).status == 200
    installation.post("/api/v1/tasks", {"name": "slow"})
    begun = len(installation.log())
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda _: sign_in(installation), range(6))) == [200] * 6
    seconds.write_text("1.5")
    assert sign_in(installation, PASSWORD) == 302, "which writes outside of a transaction too"
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(installation.post, "/api/v1/tasks", {"name": "slow"}) for _ in range(2)]
        assert [each.result().status for each in waiting] == [201] * 2
    seconds.write_text("0")
    with write_locked(installation), ThreadPoolExecutor() as pool:
        waiting = [pool.submit(installation.post, "/api/v1/tasks", {"name": "locked"}) for _ in range(4)]
        assert {each.result().status for each in waiting} == {503}
    for path in paths:
        assert installation.get(path).status == 200
    blocked = re.findall(r".*appears to be blocked[\s\S]*?\n\n", installation.log()[begun:])
    assert not blocked, blocked


def sign_in(installation: Installation, password: str = "wrong") -> int:
    """A password is hashed; a wrong one is noted and refused."""
    page = installation.get("/admin/login/")
    token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page.body)
    assert token
    cookie = page.headers["set-cookie"].partition(";")[0]
    form = f"csrfmiddlewaretoken={token[1].decode()}&username={OPERATOR}&password={password}"
    headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    return installation.post("/admin/login/", form.encode(), headers=headers).status
