"""Values of environment variables, and the sentences about those that can't be used."""

from __future__ import annotations

import ipaddress
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from core import env

NAME = "LOBWIFE_OF_A_TEST"
Read = Callable[[str], Any]


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (env.text, "  words ", "words"),
        (env.text, "   ", ""),
        (lambda name: env.integer(name, 5), "", 5),
        (lambda name: env.integer(name, 5), " 7 ", 7),
        (lambda name: env.integer(name, 5, at_most=9), "9", 9),
        (lambda name: env.boolean(name, True), "", True),
        (lambda name: env.boolean(name, True), "Off", False),
        (lambda name: env.choice(name, "a", ("a", "b")), "b", "b"),
        (lambda name: env.choice(name, "", ("a", "b")), "", ""),
        (lambda name: env.path(name, pathlib.Path("/x")), "", pathlib.Path("/x")),
        (lambda name: env.path(name, pathlib.Path("/x")), "~/y", pathlib.Path.home() / "y"),
        (env.words, "a, b,,c ", ("a", "b", "c")),
        (lambda name: env.words(name, ("x",)), "", ("x",)),
        (env.networks, "10.0.0.0/8, ::1", (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1"))),
        (env.networks, "", ()),
        (env.json_object, '{"a": 1}', {"a": 1}),
        (env.json_object, "", {}),
        (lambda name: env.pairs(name, {}, allowed=("one", "two")), "a=one, b = two", {"a": "one", "b": "two"}),
        (lambda name: env.counts(name, {"default": 3}), "qa=5, swe = 1", {"default": 3, "qa": 5, "swe": 1}),
    ],
)
def test_values_are_read(monkeypatch: pytest.MonkeyPatch, read: Read, value: str, expected: Any) -> None:
    monkeypatch.setenv(NAME, value)
    assert read(NAME) == expected


@pytest.mark.parametrize(
    ("read", "value", "remedy"),
    [
        (lambda name: env.integer(name, 5), "many", "a whole number from 0"),
        (lambda name: env.integer(name, 5, at_most=9), "10", "from 0 to 9"),
        (lambda name: env.integer(name, 5, at_least=1), "0", "from 1"),
        (lambda name: env.integer(name, 5), "1.5", "a whole number"),
        (lambda name: env.boolean(name, True), "maybe", "set it to 1 or 0"),
        (lambda name: env.choice(name, "a", ("a", "b")), "c", "one of a, b"),
        (env.networks, "10.0.0.1/8", "separated by commas"),
        (env.networks, "proxy", "separated by commas"),
        (env.json_object, "[1]", "a JSON object"),
        (env.json_object, "[" * 100_000, "a JSON object"),
        (lambda name: env.pairs(name, {}, allowed=("one",)), "a=two", "one of one"),
        (lambda name: env.pairs(name, {}, allowed=("one",)), "=one", "write name=word"),
        (lambda name: env.counts(name, {}), "qa=0", "the number from 1 to 1000"),
        (lambda name: env.counts(name, {}), "qa=many", "write name=number"),
    ],
)
def test_a_value_that_can_not_be_used_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, read: Read, value: str, remedy: str
) -> None:
    monkeypatch.setenv(NAME, value)
    with pytest.raises(ImproperlyConfigured, match=remedy) as refused:
        read(NAME)
    assert str(refused.value).startswith(NAME)


@pytest.mark.parametrize(
    ("host", "url"),
    [("", ""), ("10.43.0.1", "https://10.43.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")],
)
def test_the_cluster_is_found_where_the_kubelet_says(monkeypatch: pytest.MonkeyPatch, host: str, url: str) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert env.kubernetes_api() == url
