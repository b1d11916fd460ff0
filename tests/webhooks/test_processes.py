"""Webhooks of a real daemon that is killed, and the receiver of docs/webhooks.md."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.support.installation import ROOT, Installation, free_ports, wait_for
from tests.support.jobs import rows
from tests.support.raw_receiver import raw_receiver, read_request
from tests.webhooks.test_deliveries import happen, subscribe, turn

_MAKE = """
from webhooks import services
services.create(name="ci", fields={{"url": "http://127.0.0.1:{port}/", "types": ["task.created"]}})
from tasks.services import create_task
for name in ("a", "b"):
    create_task(fields={{"name": name}}, actor="t")
"""


def test_a_daemon_that_is_killed_in_mid_delivery_skips_nothing_and_repeats_with_the_same_id(
    installation: Installation,
) -> None:
    received: list[tuple[str, str]] = []
    hangs = True

    def handle(connection: socket.socket) -> None:
        head, _, body = read_request(connection).partition(b"\r\n\r\n")
        [message_id] = re.findall(r"webhook-id: (\S+)", head.decode())
        received.append((message_id, json.loads(body)["data"]["name"]))
        if hangs:
            connection.recv(1)
        else:
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with raw_receiver(handle) as port:
        installation.manage("shell", "--no-imports", "-c", _MAKE.format(port=port))
        daemon = installation.start_daemon()
        wait_for(lambda: received, what="a delivery that hangs")
        daemon.send_signal(signal.SIGKILL)
        daemon.wait(10)
        hangs = False
        installation.start_daemon()
        wait_for(lambda: len(received) == 3, what="both events after the crash")
        wait_for(lambda: len(rows(installation, "SELECT 1 FROM webhooks_delivery WHERE state = 'sent'")) == 2)
    first, again, second = received
    assert first == again
    assert (first[1], second[1]) == ("a", "b")


@pytest.mark.django_db
def test_the_receiver_of_the_manual_takes_what_is_signed_and_nothing_else() -> None:
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "webhooks.md").read_text(), re.DOTALL)
    (port,) = free_ports(1)
    subscription, secret = subscribe(port)
    happen("nightly")
    process = subprocess.Popen(
        [sys.executable, "-c", program.replace("9000", str(port))],
        env={**os.environ, "SECRET": secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            wait_for(lambda: _listens(port), what="the receiver")
            turn(subscription)
            assert process.stdout is not None
            assert process.stdout.readline() == "admin.changed nightly\n"
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", b"{}", timeout=10)
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
