"""A notebook form that builds a configuration.

The browser sends each edit as a message and draws the answer (``widget.js``, ``widget.css``).
`model`, `messages` and `edits` decide what the form shows. Background threads ask the archive,
so the kernel never waits. If the frontend delivers messages on a separate thread, the form also
works while a cell runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import traitlets

from binance_archive_kit.archive.endpoint import check_endpoint
from binance_archive_kit.archive.enums import Market
from binance_archive_kit.archive.listing import ListingClient
from binance_archive_kit.archive.matrix import Matrix
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.errors import ArchiveKitError, ConfigurationError
from binance_archive_kit.form import model
from binance_archive_kit.form.edits import edited
from binance_archive_kit.form.field_widget import FieldWidget, script, today, watch
from binance_archive_kit.planning.config import CollectionConfig, Config, read_config
from binance_archive_kit.planning.planner import PlanningContext, check
from binance_archive_kit.storage.places import store_at

#: Seconds without an edit before the archive is asked.
_PAUSE = 0.4
#: Seconds between two updates of the progress.
_UPDATE_INTERVAL = 0.3
#: Folders up to which the archive is asked after each edit, and not only on request.
_MOST_FOLDERS = 500


class ConfigForm(FieldWidget):
    """A notebook form that builds a configuration; it never downloads.

    The form offers only data that can exist, searches the symbols that the archive lists, and
    shows the plan after each change. Collect in the next cell with
    ``bak.collect(form.config)``.

    Parameters
    ----------
    config : CollectionConfig, dict, str or Path, optional
        The initial configuration, its fields, JSON text, or the path of a JSON file; by default
        hourly spot candles of the last seven days (UTC), up to yesterday, without symbols.
    endpoint_url : str, optional
        Any S3-compatible endpoint with the bucket, as in a configuration.

    Attributes
    ----------
    config : CollectionConfig
        The current configuration; can be set. Reading it raises a ConfigurationError while a
        field is missing or invalid.
    fields : dict
        The same fields as JSON values, not validated; changes can be observed.

    Raises
    ------
    ConfigurationError
        If the endpoint or a given configuration is invalid.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> form = bak.ConfigForm(endpoint_url="http://127.0.0.1:9000")
    >>> form
    ConfigForm(not complete: symbols)
    >>> form.close()
    """

    _esm = script("widget.js")

    #: The plan of the configuration.
    estimate = traitlets.Dict().tag(sync=True)
    #: The result of the latest button.
    reply = traitlets.Dict().tag(sync=True)

    def __init__(self, config: Config | None = None, *, endpoint_url: str | None = None) -> None:
        self._names: dict[tuple[str, str], list[str]] = {}
        self._refused: dict[tuple[str, str], str] = {}
        fields = model.starting_fields(today()) if config is None else read_config(config).chosen()
        if endpoint_url is not None:
            fields["endpoint_url"] = check_endpoint(endpoint_url)
        super().__init__(fields)

    # The configuration

    @property
    def config(self) -> CollectionConfig:
        """The current configuration.

        Raises
        ------
        ConfigurationError
            If the form is not complete, or a field is invalid.
        """
        config = CollectionConfig(**self.fields)
        check(config)
        return config

    @config.setter
    def config(self, config: CollectionConfig) -> None:
        self.fields = config.chosen()

    def save(self, path: str | Path) -> None:
        """Write the configuration to a JSON file.

        Raises
        ------
        ConfigurationError
            If the form is not complete, or a field is invalid.
        """
        self.config.to_json(path)

    def load(self, path: str | Path) -> None:
        """Load the configuration of a JSON file.

        Raises
        ------
        ConfigurationError
            If the file is missing, or is not a configuration.
        """
        self.config = CollectionConfig.from_json(Path(path))

    def __repr__(self) -> str:
        if invalid := self.view.get("invalid"):
            return f"ConfigForm(not complete: {', '.join(invalid)})"
        return f"ConfigForm({self.config!r})"

    # Messages of the browser

    def _act(self, message: Mapping[str, Any]) -> None:
        match message:
            case {"do": "copy", "as": "python" | "json" as language}:
                self._reply(lambda: {"copy": language, "text": self._text(language)})
            case {"do": "save", "path": str() as path}:
                self._reply(lambda: self._save(path, sure=bool(message.get("sure"))))
            case {"do": "load", "path": str() as path}:
                self._reply(lambda: self._load(path))
            case {"do": "plan"}:
                self._plan_soon(requested=True)
            case {"do": "list"}:
                self._refused.clear()
                self._refresh()
            case _:
                self._edit(edited(self.fields, message))

    def _reply(self, answer: Callable[[], dict[str, Any]]) -> None:
        try:
            reply = answer()
        except ConfigurationError as error:
            reply = {"error": str(error)}
        # The turn makes equal answers to two messages differ.
        self.reply = {**reply, "turn": self._answered}

    def _text(self, language: str) -> str:
        return self.config.to_python() if language == "python" else self.config.to_json()

    def _save(self, path: str, *, sure: bool) -> dict[str, Any]:
        text, file = f"{self.config.to_json()}\n", Path(path)
        try:
            # A file in another encoding has other content, too.
            exists = file.exists() and not sure
            if exists and file.read_text(encoding="utf-8", errors="replace") != text:
                return {"unsure": f"{path} exists with other content"}
        except OSError as error:
            raise ConfigurationError(f"{path!r} cannot be written: {error}") from None
        self.save(file)
        return {"done": f"Saved as {file.resolve()}"}

    def _load(self, path: str) -> dict[str, Any]:
        self.load(path)
        return {"done": f"Loaded {Path(path).resolve()}"}

    # The view

    def _on_change(self, _: object) -> None:
        with self._lock:
            self._refresh()
            self._plan_soon()

    def _options(self, matrix: Matrix) -> dict[str, Any]:
        return {
            "markets": model.market_choices(self.fields),
            "data_types": model.type_choices(self.fields, matrix),
            "intervals": model.interval_choices(self.fields, matrix),
            "engine": model.engine_choices(self.fields),
            "next": "result = bak.collect(form.config)",
        }

    # Symbols, in the background

    def _known_symbols(self, context: PlanningContext) -> dict[Market, list[str]]:
        known = {}
        for market, folders in model.symbol_folders(self.fields, context.matrix).items():
            lists = [self._names.get((context.endpoint, folder)) for folder in folders]
            if None not in lists:
                known[market] = sorted({name for names in lists for name in names or ()})
        self._list_symbols(context, known)
        return known

    def _list_symbols(
        self, context: PlanningContext, known: Mapping[Market, Sequence[str]]
    ) -> None:
        """Show the known symbols, and start listing the others."""
        folders = model.symbol_folders(self.fields, context.matrix)
        wanted = {(context.endpoint, folder) for folder in chain(*folders.values())}
        unknown = wanted - set(self._names) - set(self._refused)
        refused = [self._refused[folder] for folder in sorted(wanted & set(self._refused))]
        if not context.config.listing:
            state, text = "off", "the archive's listing is switched off (engine options)"
        elif unknown:
            state, text = "loading", f"requesting the symbols from {context.endpoint} …"
        elif refused:
            state, text = "offline", f"type them as the archive spells them ({refused[0]})"
        else:
            total = len(set(chain(*known.values())))
            state, text = "ready", f"{total:,} symbols in the archive"
        self.listed = {
            "state": state,
            "text": text,
            "symbols": {market.value: names for market, names in known.items()},
        }
        if state != "loading" or "listing" in self._workers:
            return

        async def work() -> None:
            names, reason = await _fetch_symbols(context, [folder for _, folder in sorted(unknown)])
            found = {(context.endpoint, folder): names[folder] for folder in names}
            with self._lock:
                self._names |= found
                self._refused |= dict.fromkeys(unknown - set(found), reason)
                if self._workers.get("listing") is worker:
                    del self._workers["listing"]
                    self._refresh()

        worker = self._start("listing", work)

    # The plan, in the background

    def _plan_soon(self, *, requested: bool = False) -> None:
        """Start planning, unless edits follow soon or the plan would ask for many folders."""
        self._stop("planning")
        context = self._context
        if self.view["invalid"] or context is None:
            self._estimate("open", "The plan is made when no field is missing or invalid.")
            return
        folders = len(context.requests.folders)
        if folders > _MOST_FOLDERS and not requested:
            self._estimate(
                "held", f"{folders:,} folders of the archive must be listed; this takes a while."
            )
            return
        self._estimate("asking", "requesting the archive's listing …")

        def show(state: str, text: str, html: str = "") -> None:
            with self._lock:
                if self._workers.get("planning") is worker:  # no newer plan has replaced this one
                    self._estimate(state, text, html)

        worker = self._start("planning", lambda: _plan(context, show))

    def _estimate(self, state: str, text: str, html: str = "") -> None:
        self.estimate = {"state": state, "text": text, "html": html}


async def _fetch_symbols(
    context: PlanningContext, folders: Sequence[str]
) -> tuple[dict[str, list[str]], str]:
    """List the symbols of folders; after an error, those listed before it and the reason."""
    bucket, timeout = context.matrix.archive.bucket, context.config.timeout_seconds
    names: dict[str, list[str]] = {}
    try:
        async with ListingClient(context.endpoint, bucket, timeout, bulk=False) as archive:
            for folder in folders:
                names[folder] = await archive.symbols(folder)
    except Exception as error:  # the form shows any error, and works without symbols
        return names, f"{error}" or type(error).__name__
    return names, ""


async def _plan(context: PlanningContext, show: Callable[..., None]) -> None:
    """Plan after a pause, and show the progress and the outcome."""
    await asyncio.sleep(_PAUSE)
    progress = Progress()
    try:
        plan = await watch(
            context.plan(progress), lambda: show("asking", progress.line()), _UPDATE_INTERVAL
        )
        free = store_at(context.config.output_directory).free_bytes()
        show(**model.estimate_of(plan, free))
    except (ArchiveKitError, OSError) as error:
        show("failed", f"The plan cannot be made: {error}")
