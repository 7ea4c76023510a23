"""The base of the widgets that edit a configuration: its fields, and their messages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anywidget
import traitlets

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.archive.matrix import Matrix, load_matrix
from binance_archive_kit.display.background import Worker
from binance_archive_kit.form import messages, model
from binance_archive_kit.form.messages import Level, Messages
from binance_archive_kit.form.model import Fields
from binance_archive_kit.planning.planner import PlanningContext

T = TypeVar("T")


def script(name: str) -> str:
    """Return the JavaScript of a widget: the common pieces, and its own file."""
    folder = Path(__file__).parent
    return "\n".join((folder / file).read_text(encoding="utf-8") for file in ("pieces.js", name))


def today() -> date:
    """Return the current day, UTC."""
    return datetime.now(UTC).date()


class FieldWidget(anywidget.AnyWidget):
    """Shows the fields of a configuration with their messages, and applies edits to them.

    A lock guards the state: edits, answers of the archive, and the user's code run on several
    threads.
    """

    _css = Path(__file__).with_name("widget.css")

    fields = traitlets.Dict()
    #: The data to draw: fields, options and messages.
    view = traitlets.Dict().tag(sync=True)
    #: The symbols that the archive lists, and the state of the listing.
    listed = traitlets.Dict().tag(sync=True)

    # As traits they exist even if `__init__` fails, when the widget is closed.
    _lock = traitlets.Any()
    _workers = traitlets.Dict()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be pickled: a widget is connected to the page of its notebook."""
        raise TypeError(
            f"a {type(self).__name__} is connected to its notebook and cannot be pickled; "
            "pickle its config"
        )

    def __init__(self, fields: Fields) -> None:
        self._matrix = load_matrix()
        self._context: PlanningContext | None = None
        self._complete = False
        self._answered: list[Any] = []
        super().__init__()
        self.on_msg(self._on_message)
        self.observe(self._on_change, "fields")
        self.fields = fields

    @traitlets.default("_lock")
    def _new_lock(self) -> threading.RLock:
        return threading.RLock()

    def close(self) -> None:
        """Stop asking the archive, and close the widget."""
        with self._lock:
            for name in list(self._workers):
                self._stop(name)
        super().close()

    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> Worker[None]:
        """Start a task in the background, in place of an earlier one of this name."""
        self._stop(name)
        worker = self._workers[name] = Worker(work)
        worker.start()
        return worker

    def _stop(self, name: str) -> None:
        if worker := self._workers.pop(name, None):
            worker.cancel()

    def _on_message(self, _: object, message: Mapping[str, Any], __: object) -> None:
        with self._lock:
            self._answered = message.get("turn", self._answered)
            self._act(message)

    def _act(self, message: Mapping[str, Any]) -> None:
        """Handle a message of the browser: an edit, or a button."""
        raise NotImplementedError

    def _edit(self, fields: Fields) -> None:
        """Set the fields, and answer the browser even if none has changed."""
        if fields == self.fields:
            self._refresh()
        self.fields = fields

    def _on_change(self, _: object) -> None:
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        """Validate the fields, and send the browser the options and messages."""
        read = partial(PlanningContext.read, warn=False)
        context, found = messages.read_fields(self.fields, self._matrix, read)
        matrix = context.matrix if context else self._matrix
        invalid = _invalid_fields(found)
        self._context = context
        self._complete = context is not None and not invalid
        if context is not None:
            known = self._known_symbols(context)
            _add(found, messages.request_messages(context.requests, invalid))
            if "symbols" not in invalid:
                unlisted = messages.unlisted_symbols(self.fields, known, matrix)
                _add(found, {"symbols": unlisted} if unlisted else {})
        _add(found, self._own_messages())
        placed: Messages = {}
        for name, some in found.items():
            _add(placed, {self._row_of(name): some})
        self.view = {
            "fields": self.fields,
            "messages": {name: [*map(asdict, some)] for name, some in placed.items()},
            "invalid": invalid,
            "days": model.days_in_words(self.fields),
            "shortcuts": model.shortcuts(today()),
            "archive": context.endpoint if context else "",
            "titles": {market.value: market.title for market in Market},
            "answered": self._answered,
            **self._options(matrix),
        }

    def _known_symbols(self, context: PlanningContext) -> Mapping[Market, list[str]]:
        """Return the symbols of the markets that are listed, and start listing the others."""
        raise NotImplementedError

    def _row_of(self, field: str) -> str:
        """Return the field beside which messages of another one are shown."""
        return field or "markets"

    def _own_messages(self) -> Messages:
        """Return the messages that only this widget has."""
        return {}

    def _options(self, matrix: Matrix) -> dict[str, Any]:
        """Return what else the browser draws, for valid or invalid fields."""
        raise NotImplementedError


def _invalid_fields(found: Messages) -> list[str]:
    levels = (Level.WRONG, Level.NEEDED)
    return [name for name, some in found.items() if any(m.level in levels for m in some)]


def _add(found: Messages, more: Messages) -> None:
    """Append messages to those of each field."""
    for name, some in more.items():
        found[name] = [*found.get(name, ()), *some]


async def watch(work: Coroutine[Any, Any, T], on_tick: Callable[[], None], pause: float) -> T:
    """Await work, and report its progress every `pause` seconds; cancelling it cleans up."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=pause))[0]:
            on_tick()
        return task.result()
    finally:
        # Waiting for the cancelled task lets it close its connections.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
