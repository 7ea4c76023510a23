"""What the machine lends to connections: open files, trusted certificates, a proxy."""

from __future__ import annotations

import ssl
import urllib.request
from functools import cache
from urllib.parse import urlsplit

import certifi

#: What is reckoned with where there is no limit, or none can be asked for.
_OPEN_FILES = 1 << 10


def open_file_limit(*, hard: bool = False) -> int:
    """Return how many files this process may have open, or may at most raise that to."""
    try:
        import resource
    except ImportError:  # not a Unix
        return _OPEN_FILES
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[hard]
    return _OPEN_FILES if limit == resource.RLIM_INFINITY else limit


def tls_of(endpoint: str) -> ssl.SSLContext | None:
    """Return what an endpoint is to be trusted by; None for one without TLS."""
    return _trusted() if urlsplit(endpoint).scheme == "https" else None


@cache
def _trusted() -> ssl.SSLContext:
    """Trust what certifi and the machine trust; reading all that takes 60 ms."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


def proxy_of(endpoint: str) -> str | None:
    """Return the URL of the environment's proxy for an endpoint, if there is one."""
    parts = urlsplit(endpoint)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
