"""Callers for tests: keys of every role, and a Kubernetes API that reviews tokens."""

from __future__ import annotations

import datetime
import ipaddress
import json
import pathlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from lobwife.api import api
from tests.support.installation import Installation

# What comes through a proxy is not local, wherever the proxy is.
ELSEWHERE = {"X-Forwarded-For": "10.1.2.3"}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def make_key(installation: Installation, name: str, role: str, *options: str) -> dict[str, str]:
    """The headers of a caller with a new key."""
    return bearer(installation.manage("apikey", "create", name, "--role", role, *options).stdout.strip())


def mounted() -> Iterator[tuple[str, str]]:
    """Method and Django route of every operation that the API has, also those left out of its description."""
    for router in api._get_bound_routers():
        for pattern in router.urls_paths(router.prefix):
            path_view = router.path_operations[_path_of(router, pattern)]
            for operation in path_view.operations:
                for method in operation.methods:
                    yield method, str(pattern.pattern)


def _path_of(router: Any, pattern: Any) -> str:
    wanted = str(pattern.pattern)
    for path in router.path_operations:
        full = "/".join(part for part in (router.prefix.strip("/"), path.strip("/")) if part)
        if full.replace("{", "<").replace("}", ">") == wanted.strip("/"):
            return path
    raise LookupError(wanted)


class Kubernetes:
    """A cluster's API over TLS that knows tokens; `asked` holds what it was asked."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.tokens: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []
        self.is_down = False
        self.answers = threading.Event()  # cleared, it lets reviews wait
        self.answers.set()
        self.in_progress = self.most_in_progress = 0
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text("the-pods-own-token")
        self._make_certificate()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "ca.crt", folder / "tls.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.server.server_address[1]),
            "LOBWIFE_KUBERNETES_CREDENTIALS": str(self.folder),
        }

    def issue(self, account: str, pod: str, *, audiences: tuple[str, ...] = ("lobwife",)) -> str:
        """A token of an account, `namespace/name`, for the audiences."""
        token = f"head.{len(self.tokens):08d}.sign"
        namespace, name = account.split("/")
        extra = {"authentication.kubernetes.io/pod-name": [pod]} if pod else {}
        user = {"username": f"system:serviceaccount:{namespace}:{name}", "extra": extra}
        self.tokens[token] = {"user": user, "audiences": audiences}
        return token

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _review(self, spec: dict[str, Any]) -> dict[str, Any]:
        known = self.tokens.get(spec["token"])
        if known is None:
            return {"authenticated": False, "error": "unknown"}
        common = [each for each in spec["audiences"] if each in known["audiences"]]
        return {"authenticated": bool(common), "user": known["user"], "audiences": common}

    def _handler(outer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append({"path": self.path, "authorization": self.headers["Authorization"], **body})
                with outer._lock:
                    outer.in_progress += 1
                    outer.most_in_progress = max(outer.most_in_progress, outer.in_progress)
                outer.answers.wait(10)
                with outer._lock:
                    outer.in_progress -= 1
                answer = json.dumps({**body, "status": outer._review(body["spec"])}).encode()
                self.send_response(500 if outer.is_down else 201)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: Any) -> None:
                return

        return Handler

    def _make_certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
        now = datetime.datetime.now(datetime.UTC)
        alternatives = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(alternatives, critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        (self.folder / "ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "tls.key").write_bytes(private)


@contextmanager
def kubernetes(folder: pathlib.Path) -> Iterator[Kubernetes]:
    made = Kubernetes(folder)
    try:
        yield made
    finally:
        made.stop()
