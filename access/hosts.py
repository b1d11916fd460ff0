"""The names by which lobwife may be called: LOBWIFE_HOSTS, and what only this network knows."""

from __future__ import annotations

import functools
import ipaddress

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.wsgi import WSGIRequest
from django.http.request import HttpRequest, split_domain_port, validate_host


class Request(WSGIRequest):
    """A request that may also name an address, or an alias without a dot, unless LOBWIFE_HOSTS says otherwise.

    Callers use the pod's address, the Service's, the node's, and aliases of the Service. A page of a stranger that had
    its own name point here (DNS rebinding) sends that name, which is neither.
    """

    def get_host(self) -> str:
        checked: str | None = self.__dict__.get("_checked_host")
        if checked is None:
            self._checked_host = checked = self._check_host()
        return checked

    def _check_host(self) -> str:
        try:
            return super().get_host()
        except DisallowedHost:
            host: str = self.META.get("HTTP_HOST", "")
            name = split_domain_port(host)[0]
            if settings.ANY_LOCAL_HOST and name and ("." not in name or is_address(host)):
                return host
            raise


def is_ours(request: HttpRequest) -> bool:
    """Return whether the Host is an address, or a name of the settings; with every name allowed, only an address."""
    return is_our_name(request.get_host())


def is_our_name(host: str) -> bool:
    """Return what is_ours() does, of a host with or without a port."""
    return _is_our_name(host, tuple(settings.ALLOWED_HOSTS))


@functools.lru_cache(maxsize=256)
def _is_our_name(host: str, allowed: tuple[str, ...]) -> bool:
    name = split_domain_port(host)[0]
    return name == "localhost" or is_address(host) or ("*" not in allowed and validate_host(name, allowed))


def is_address(host: str) -> bool:
    """Return whether a Host is an IP address: no page can have one of its own name lead here so."""
    try:
        ipaddress.ip_address(split_domain_port(host)[0].strip("[]"))
    except ValueError:
        return False
    return True
