"""Kernels and ports for tests that run cells."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as lent:
        lent.bind(("127.0.0.1", 0))
        port: int = lent.getsockname()[1]
        return port
