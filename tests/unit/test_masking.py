"""Secrets never reach a run's file: what is looked for, and output cut anywhere."""

from __future__ import annotations

import base64
import pathlib
import sys

import pytest

from jobs import supervisor

sys.path.insert(0, str(pathlib.Path(supervisor.__path__[0])))

from capture import Capture  # type: ignore[import-not-found]  # noqa: E402

LETTERS = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxMjM0NSJ9.c2lnbmF0dXJlLW9mLXRoaXM"
TOKENS = [
    *(f"gh{kind}_{LETTERS}" for kind in "pousr"),
    f"github_pat_11ABCDEFG0{LETTERS[:12]}_{LETTERS}{LETTERS[:23]}",
    f"ghs_{JWT}",
    "v1." + "1f699f1069f60xabc"[:12].replace("x", "0") + "0123456789abcdef0123456789ab",
    f"lw_{LETTERS}",
    JWT,
]
PEM_BODY = base64.b64encode(bytes(range(256)) * 6).decode()
PEM_LINES = "\n".join(PEM_BODY[at : at + 64] for at in range(0, len(PEM_BODY), 64))
KINDS = ["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY"]
KINDS.append("PGP PRIVATE KEY BLOCK")


def kept(folder: pathlib.Path, pieces: list[bytes], secrets: list[bytes] | None = None) -> str:
    """What lies on disk after the pieces were written."""
    path = folder / "runs" / "1.log"
    capture = Capture(str(path), 10 * 2**20, secrets or [])
    for piece in pieces:
        capture.write(piece)
    capture.close()
    return path.read_text()


def cut_everywhere(text: str) -> list[list[bytes]]:
    data = text.encode()
    return [[data[:at], data[at:]] for at in range(1, len(data))] + [[data[at : at + 1] for at in range(len(data))]]


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_of_any_format_is_masked_wherever_a_piece_cuts_it(tmp_path: pathlib.Path, token: str) -> None:
    for pieces in cut_everywhere(f"pushing with {token} now\n"):
        text = kept(tmp_path, pieces)
        assert text == "pushing with [masked] now\n", pieces


@pytest.mark.parametrize("kind", KINDS)
def test_a_private_key_is_masked_wherever_a_piece_cuts_its_lines(tmp_path: pathlib.Path, kind: str) -> None:
    key = f"-----BEGIN {kind}-----\n{PEM_LINES}\n-----END {kind}-----\n"
    data = f"before\n{key}after\n".encode()
    for step in (1, 7, 64, 1000):
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        assert kept(tmp_path, pieces) == "before\n[masked]\nafter\n"


def test_a_private_key_on_one_line_is_masked(tmp_path: pathlib.Path) -> None:
    key = f"-----BEGIN RSA PRIVATE KEY-----\\n{PEM_BODY}\\n-----END RSA PRIVATE KEY-----"
    assert kept(tmp_path, [f'{{"key": "{key}"}}\n'.encode()]) == '{"key": "[masked]"}\n'


def test_a_key_that_never_ends_does_not_swallow_the_rest(tmp_path: pathlib.Path) -> None:
    rest = "".join(f"line {number}\n" for number in range(5000))
    text = kept(tmp_path, [b"-----BEGIN PRIVATE KEY-----\n", rest.encode()])
    assert text.endswith("line 4999\n")


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer [masked]"),
        ('{"authorization": "token abcdef0123456789"}', '{"authorization": "token [masked]"}'),
        ("curl -H 'authorization: basic dXNlcjpwYXNz'", "curl -H 'authorization: basic [masked]'"),
        (
            "authorization: basic dXNlcjpwYXNz and more words after it",
            "authorization: basic [masked] and more words after it",
        ),
        ("bearer\tabc.def-ghi~jkl+mno/pqr==", "bearer\t[masked]"),
        ("git clone https://user:pa55word@example.com/x", "git clone https://user:[masked]@example.com/x"),
    ],
)
def test_what_authorizes_is_masked_wherever_a_piece_cuts_it(tmp_path: pathlib.Path, line: str, masked: str) -> None:
    for pieces in cut_everywhere(f"{line}\n"):
        assert kept(tmp_path, pieces) == f"{masked}\n", pieces


def test_the_values_of_secret_variables_are_masked_wherever_a_piece_cuts_them(tmp_path: pathlib.Path) -> None:
    secrets = [b"correct horse battery staple", b"first-line-of-it\nsecond-line-of-it\n", b"short"]
    for pieces in cut_everywhere("is correct horse battery staple, second-line-of-it, short\n"):
        assert kept(tmp_path, pieces, secrets) == "is [masked], [masked], short\n", pieces


@pytest.mark.parametrize("separator", [b" ", b'"'])
def test_a_secret_in_a_line_that_never_ends_is_masked_at_the_edge_of_what_is_held(
    tmp_path: pathlib.Path, separator: bytes
) -> None:
    token = f"ghp_{LETTERS}"
    for before in (57340, 57350, 65530, 65536, 65540, 131070):
        data = b"x" * before + separator + token.encode() + separator + b"y" * 70000
        pieces = [data[at : at + 65536] for at in range(0, len(data), 65536)]
        text = kept(tmp_path, pieces)
        assert token[8:] not in text
        assert "[masked]" in text


def test_a_progress_bar_is_stored_each_time_it_is_rewritten(tmp_path: pathlib.Path) -> None:
    capture = Capture(str(tmp_path / "runs" / "1.log"), 2**20, [])
    capture.write(b"10 %\r20 %\r30")
    assert (tmp_path / "runs" / "1.log").read_bytes() == b"10 %\r20 %\r"
    capture.close()


def test_characters_stay_whole_wherever_a_piece_cuts_them(tmp_path: pathlib.Path) -> None:
    for pieces in cut_everywhere("größe 🦞 ok\n"):
        assert kept(tmp_path, pieces) == "größe 🦞 ok\n"


def test_bytes_that_are_not_utf8_are_replaced(tmp_path: pathlib.Path) -> None:
    assert kept(tmp_path, [b"caf\xe9 \xff\xfe ok\n"]) == "caf\ufffd \ufffd\ufffd ok\n"
