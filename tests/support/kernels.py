"""Real kernels that run cells, as a notebook does."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Any, Self

from jupyter_client.manager import KernelManager


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as lent:
        lent.bind(("127.0.0.1", 0))
        port: int = lent.getsockname()[1]
        return port


class Kernel:
    """A kernel of this Python, and one client of it; a context manager.

    Parameters
    ----------
    folder : Path
        Where its cells run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manager = KernelManager(kernel_name="python3")

    def __enter__(self) -> Self:
        self._manager.start_kernel(cwd=str(self._folder))
        self.join()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()

    def join(self) -> None:
        """Come, as a browser's tab does that shows the notebook."""
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def leave(self) -> None:
        """Go, as a tab does that is closed; the kernel runs on."""
        self._client.stop_channels()

    def begin(self, code: str) -> str:
        """Run a cell without waiting for it; returns the id of its reply."""
        # After an error, a busy kernel would drop the next cell.
        return str(self._client.execute(code, stop_on_error=False))

    def interrupt(self) -> None:
        """Press the button with the square."""
        self._manager.interrupt_kernel()

    def reply(self, cell: str, timeout: float = 60) -> dict[str, Any]:
        """Wait for the end of a cell, and say how it ended."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            message = self._client.get_shell_msg(timeout=timeout)
            if message["parent_header"].get("msg_id") == cell:
                content: dict[str, Any] = message["content"]
                return content
        raise Empty

    def value(self, expression: str) -> str:
        """Give what an expression is, as text; fails if the kernel cannot tell."""
        cell = self._client.execute("", user_expressions={"it": expression})
        found = self.reply(str(cell))["user_expressions"]["it"]
        assert found["status"] == "ok", found
        return str(found["data"]["text/plain"])
