"""The proxy that the environment names for an address: `HTTPS_PROXY`, `NO_PROXY` and their like."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_of(url: str) -> str | None:
    """Return the URL of the proxy by which `url` is to be reached; None where it is to be reached directly."""
    parts = urlsplit(url)
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    return None if not found or proxy_bypass(parts.netloc.rpartition("@")[2]) else found
