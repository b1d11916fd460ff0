"""Connections to GitHub, with the proxy and the certificates that the environment names."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

import httpcore2
import httpx2

from core.http import Backend


def connection_pool(url: str) -> httpcore2.ConnectionPool:
    """Return a pool for an address; by https with the proxy and the certificates that the environment names.

    Connections are kept: a TLS handshake costs more than the rest of a call. Calls must be within `deadline`.
    """
    parts = urlsplit(url)
    proxy = None
    if parts.scheme == "https" and not urllib.request.proxy_bypass(parts.netloc):
        proxies = urllib.request.getproxies()
        proxy = proxies.get("https") or proxies.get("all")
    return httpcore2.ConnectionPool(
        ssl_context=httpx2.create_ssl_context(),
        proxy=_proxy(proxy) if proxy else None,
        max_connections=100,
        max_keepalive_connections=8,
        keepalive_expiry=60,
        network_backend=Backend(),
    )


def _proxy(url: str) -> httpcore2.Proxy:
    proxy = httpx2.Proxy(url if "://" in url else f"http://{url}")
    return httpcore2.Proxy(str(proxy.url), auth=proxy.raw_auth)
