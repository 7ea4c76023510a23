"""A form that makes a configuration by clicking: `choices`, shown by the browser.

The browser sends each edit as a message and draws what Python answers (``widgets.js``,
``widgets.css``); what is offered and said is decided in `choices`. The archive is asked
in the background, on threads: the kernel is never kept waiting, and where the browser's
messages come in on a thread of their own the form lives on while a cell runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from binance_archive_kit.archive.endpoint import check_endpoint
from binance_archive_kit.archive.enums import Market
from binance_archive_kit.archive.listing import ListingClient
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.display.background import Worker
from binance_archive_kit.display.progress import Progress
from binance_archive_kit.errors import ArchiveKitError, ConfigurationError
from binance_archive_kit.form import model as choices
from binance_archive_kit.form.model import Findings, Level
from binance_archive_kit.planning.config import CollectionConfig, Config, read_config
from binance_archive_kit.planning.planner import PlanningContext, check
from binance_archive_kit.storage.store import Store

#: Seconds without an edit before the archive is asked.
_PAUSE = 0.4
#: Seconds between two words on how far the archive has answered.
_TOLD_EVERY = 0.3
#: Folders up to which the archive is asked after every edit, not just when told to.
_ASKED_AT_ONCE = 500


class ConfigForm(anywidget.AnyWidget):
    """A form for a notebook: shows itself, and makes a configuration; it never downloads.

    Only what can exist is offered, symbols are found among those the archive lists, and
    what the configuration would fetch is told as it changes. Collect in the next cell, with
    ``bak.collect(form.config)``.

    Parameters
    ----------
    config : CollectionConfig, dict, str or Path, optional
        Where to begin: a configuration, its fields, JSON text, or the path of a JSON file;
        hourly spot candles of the last seven days if not given.
    endpoint_url : str, optional
        Any S3-compatible endpoint that holds the bucket, as in a configuration.

    Attributes
    ----------
    config : CollectionConfig
        What the form asks for now; raises what is wrong. Can be set.
    fields : dict
        The same as JSON values, not checked; changes can be observed.

    Raises
    ------
    ConfigurationError
        If the endpoint cannot be one.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> form = bak.ConfigForm(endpoint_url="http://127.0.0.1:9000")
    >>> form
    ConfigForm(not complete: symbols)
    >>> form.close()
    """

    _esm = Path(__file__).with_name("widget.js")
    _css = Path(__file__).with_name("widget.css")

    fields = traitlets.Dict()
    #: What the browser draws: the fields, what is offered, and what is said of them.
    view = traitlets.Dict().tag(sync=True)
    #: The symbols that the archive lists, by market, and whether they are known yet.
    listed = traitlets.Dict().tag(sync=True)
    #: What the configuration would fetch, as far as that is known.
    estimate = traitlets.Dict().tag(sync=True)
    #: What came of the latest button.
    reply = traitlets.Dict().tag(sync=True)

    def __init__(self, config: Config | None = None, *, endpoint_url: str | None = None) -> None:
        # Edits, the archive's answers and the user's own code come in on several threads.
        self._lock = threading.RLock()
        self._matrix = load_matrix()
        self._names: dict[tuple[str, str], list[str]] = {}
        self._listing: Worker[None] | None = None
        self._refused: dict[tuple[str, str], str] = {}
        self._planning: Worker[None] | None = None
        self._question: PlanningContext | None = None
        self._answered: list[Any] = []
        fields = (
            choices.starting_fields(_today()) if config is None else read_config(config).chosen()
        )
        if endpoint_url is not None:
            fields["endpoint_url"] = check_endpoint(endpoint_url)
        super().__init__()
        self.on_msg(self._told)
        self.observe(self._changed, "fields")
        self.fields = fields

    # The configuration

    @property
    def config(self) -> CollectionConfig:
        """What the form asks for now.

        Raises
        ------
        ConfigurationError
            If the form is not complete, or something in it is wrong.
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
            If the form is not complete, or something in it is wrong.
        """
        self.config.to_json(path)

    def load(self, path: str | Path) -> None:
        """Take the configuration of a JSON file.

        Raises
        ------
        ConfigurationError
            If there is no such file, or it is none of a configuration.
        """
        self.config = CollectionConfig.from_json(Path(path))

    def close(self) -> None:
        """Stop asking the archive, and go away."""
        with self._lock:
            for worker in (self._listing, self._planning):
                if worker is not None:
                    worker.cancel()
            self._listing = self._planning = None
        super().close()

    def __repr__(self) -> str:
        if wrong := self.view.get("wrong"):
            return f"ConfigForm(not complete: {', '.join(wrong)})"
        return f"ConfigForm({self.config!r})"

    # What the browser says

    def _told(self, _: object, message: Mapping[str, Any], __: object) -> None:
        """Do what the browser says: an edit, or a button."""
        with self._lock:
            self._answered = message.get("turn", [])
            match message:
                case {"do": "copy", "as": "python" | "json" as language}:
                    self._reply(
                        lambda: {
                            "copy": language,
                            "text": self.config.to_python()
                            if language == "python"
                            else self.config.to_json(),
                        }
                    )
                case {"do": "save", "path": str() as path}:
                    self._reply(lambda: self._save(path, sure=bool(message.get("sure"))))
                case {"do": "load", "path": str() as path}:
                    self._reply(lambda: self._load(path))
                case {"do": "plan"}:
                    self._plan_soon(told=True)
                case {"do": "list"}:
                    self._refused.clear()
                    self._refresh()
                case _:
                    fields = choices.edited(self.fields, message)
                    if fields == self.fields:
                        self._refresh()
                    self.fields = fields

    def _reply(self, answer: Callable[[], dict[str, Any]]) -> None:
        try:
            said = answer()
        except ConfigurationError as error:
            said = {"error": str(error)}
        # Equal answers to two questions are two answers.
        self.reply = {**said, "turn": self._answered}

    def _save(self, path: str, *, sure: bool) -> dict[str, Any]:
        text, file = self.config.to_json(), Path(path)
        try:
            if file.exists() and not sure and file.read_text(encoding="utf-8") != f"{text}\n":
                return {"unsure": f"{path} exists and holds something else"}
            self.save(file)
        except ConfigurationError:
            raise
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path!r} cannot be written: {error}") from None
        return {"said": f"Saved as {file.resolve()}"}

    def _load(self, path: str) -> dict[str, Any]:
        self.load(path)
        return {"said": f"Loaded {Path(path).resolve()}"}

    # What the form says

    def _changed(self, _: object) -> None:
        with self._lock:
            self._refresh()
            self._plan_soon()

    def _refresh(self) -> None:
        """Read the fields anew, and tell the browser what there is to be said of them."""
        config, findings, _ = choices.read_fields(self.fields, self._matrix)
        question, more = _question(config)
        findings |= more
        matrix = question.matrix if question else self._matrix
        wrong = _wrong(findings)
        self._question = question
        if question is not None:
            self._list_symbols(question)
            for name, found in choices.findings_in(question.asked, wrong).items():
                findings[name] = [*findings.get(name, ()), *found]
            known = self._known_symbols(question)
            if "symbols" not in wrong and (found := choices.unlisted(self.fields, known, matrix)):
                findings["symbols"] = [*findings.get("symbols", ()), *found]
        # Beside the first field stands what belongs to none.
        if loose := findings.pop("", []):
            findings["markets"] = [*loose, *findings.get("markets", ())]
        today = _today()
        self.view = {
            "fields": self.fields,
            "markets": choices.market_choices(self.fields),
            "data_types": choices.type_choices(self.fields, matrix),
            "intervals": choices.interval_choices(self.fields, matrix),
            "engine": choices.engine_choices(self.fields),
            "findings": {
                name: [{"level": each.level.value, "text": each.text} for each in found]
                for name, found in findings.items()
            },
            "wrong": wrong,
            "days": choices.days_in_words(self.fields),
            "shortcuts": {
                "Last 7 days": choices.last_days(7, today),
                "Last 30 days": choices.last_days(30, today),
                "Last month": choices.last_month(today),
            },
            "archive": question.endpoint if question else "",
            "titles": {market.value: market.title for market in Market},
            "answered": self._answered,
        }

    # What the archive says, in the background

    def _known_symbols(self, question: PlanningContext) -> dict[Market, list[str]]:
        """Give the symbols of the markets of which all that is to be listed is known."""
        known = {}
        for market, folders in choices.symbol_folders(self.fields, question.matrix).items():
            names = [self._names.get((question.endpoint, folder)) for folder in folders]
            if all(each is not None for each in names):
                known[market] = sorted({name for each in names for name in each or ()})
        return known

    def _list_symbols(self, question: PlanningContext) -> None:
        """Say which symbols there are, and have those listed that are not known yet."""
        folders = choices.symbol_folders(self.fields, question.matrix)
        wanted = {(question.endpoint, each) for some in folders.values() for each in some}
        known = self._known_symbols(question)
        unknown = wanted - set(self._names) - set(self._refused)
        refused = [self._refused[each] for each in sorted(wanted & set(self._refused))]
        if not question.config.listing:
            state, text = "off", "the archive is not asked what it has (engine options)"
        elif unknown:
            state, text = "loading", f"asking {question.endpoint} for its symbols …"
        elif refused:
            state, text = "offline", f"type them as the archive spells them ({refused[0]})"
        else:
            total = len({name for names in known.values() for name in names})
            state, text = "ready", f"{total:,} symbols in the archive"
        self.listed = {
            "state": state,
            "text": text,
            "symbols": {market.value: names for market, names in known.items()},
        }
        if state != "loading" or self._listing is not None:
            return
        bucket, timeout = question.matrix.archive.bucket, question.config.timeout_seconds

        async def ask() -> None:
            names: dict[tuple[str, str], list[str]] = {}
            why = ""
            try:
                async with ListingClient(question.endpoint, bucket, timeout) as archive:
                    for _, folder in sorted(unknown):
                        names[question.endpoint, folder] = await archive.symbols(folder)
            except Exception as error:
                # Whatever it is, the form says it, and works without the symbols.
                why = f"{error}" or type(error).__name__
            with self._lock:
                self._names |= names
                self._refused |= dict.fromkeys(unknown - set(names), why)
                if self._listing is worker:
                    self._listing = None
                    self._refresh()

        worker = self._listing = Worker(ask)
        worker.start()

    def _plan_soon(self, *, told: bool = False) -> None:
        """Have the archive asked what the configuration would fetch, unless edits follow."""
        if self._planning is not None:
            self._planning.cancel()
            self._planning = None
        question, wrong = self._question, self.view["wrong"]
        if wrong or question is None:
            self._estimate("open", "The plan comes as soon as nothing is wrong any more.")
            return
        folders = len(question.asked.requests)
        if folders > _ASKED_AT_ONCE and not told:
            self._estimate(
                "held", f"{folders:,} folders of the archive are asked for; that takes a while."
            )
            return
        self._estimate("asking", "asking the archive …")
        self._planning = self._in_background(lambda say: self._ask_for_plan(question, say))

    def _in_background(
        self, work: Callable[[Callable[..., None]], Coroutine[Any, Any, None]]
    ) -> Worker[None]:
        """Start work that may say things as long as no newer work has taken its place."""

        def say(state: str, text: str, html: str = "") -> None:
            with self._lock:
                if self._planning is worker:
                    self._estimate(state, text, html)

        worker = Worker(lambda: work(say))
        worker.start()
        return worker

    async def _ask_for_plan(self, question: PlanningContext, say: Callable[..., None]) -> None:
        await asyncio.sleep(_PAUSE)
        progress = Progress()
        asking = asyncio.ensure_future(question.plan(progress))
        try:
            while not (await asyncio.wait({asking}, timeout=_TOLD_EVERY))[0]:
                say("asking", progress.line())
            plan = asking.result()
            say(**choices.estimate_of(plan, Store(question.config.output_directory).free_bytes()))
        except (ArchiveKitError, OSError) as error:
            say("failed", f"The plan cannot be made: {error}")
        finally:
            # From the outside in, so that every connection is closed by the one that opened it.
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def _estimate(self, state: str, text: str, html: str = "") -> None:
        self.estimate = {"state": state, "text": text, "html": html}


def _today() -> Any:
    return datetime.now(UTC).date()


def _wrong(findings: Findings) -> list[str]:
    """Name the fields because of which there is no configuration."""
    return [
        name for name, found in findings.items() if any(each.level is Level.WRONG for each in found)
    ]


def _question(config: CollectionConfig) -> tuple[PlanningContext | None, Findings]:
    """Read a configuration against the matrix, without the fields that are wrong in it."""
    findings: Findings = {}
    while True:
        try:
            return PlanningContext.read(config, warn=False), findings
        except ConfigurationError as error:
            found = choices.findings_of(error)
            fields = config.chosen()
            for name in found:
                if name:
                    choices.stand_in(fields, name, load_matrix())
            findings |= found
            if fields == config.chosen():
                return None, findings
            config = CollectionConfig(**fields)
