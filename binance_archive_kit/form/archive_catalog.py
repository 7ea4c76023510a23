"""`bak.catalog`: a searchable widget of what the archive has.

`catalog_model` decides what it shows. Background threads ask the archive: for the symbols of a
feed, and for the first and last days of the symbols that are visible or chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import traitlets

from binance_archive_kit.archive.endpoint import check_endpoint
from binance_archive_kit.archive.enums import DataType, Interval, Market, read_interval, read_market
from binance_archive_kit.archive.keys import Folder, Stream
from binance_archive_kit.archive.listing import ListingClient
from binance_archive_kit.archive.matrix import Feed, Matrix, load_matrix
from binance_archive_kit.archive.schemas import read_feed
from binance_archive_kit.display.background import gather
from binance_archive_kit.display.render import counted
from binance_archive_kit.errors import ArchiveKitError, ConfigurationError, field_error
from binance_archive_kit.form import catalog_model, model
from binance_archive_kit.form.catalog_model import Days
from binance_archive_kit.form.edits import edited
from binance_archive_kit.form.field_widget import FieldWidget, script, today, watch
from binance_archive_kit.form.messages import Messages
from binance_archive_kit.form.model import Fields
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.lifetimes import Due, life_of
from binance_archive_kit.planning.planner import PlanningContext, check
from binance_archive_kit.planning.symbol_lists import list_symbols
from binance_archive_kit.suggestions import unknown

#: Symbols with known days, for each second between two updates of the browser.
_PER_SECOND = 3_000
#: The shortcut to the range of days of the chosen symbols.
_ALL_DAYS = "All their days"
#: Fields with a row of their own.
_ROWS = ("markets", "data_types", "intervals", "symbols", "date_range", "output_directory")


def catalog(
    endpoint_url: str | None = None,
    *,
    market: str = "spot",
    data_type: str | None = None,
    interval: str | None = None,
) -> Catalog:
    """Browse what the archive has: markets, data types, symbols, and their first and last days.

    A notebook widget. It searches the symbols of one feed at a time, and builds a configuration
    of the chosen ones. It downloads nothing, and never blocks the kernel: the archive's listing
    is read in the background, and the days only of the symbols that are visible or chosen.

    Parameters
    ----------
    endpoint_url : str, optional
        Any S3-compatible endpoint with the bucket, as in a configuration.
    market, data_type : str
        The feed to show first, spelled as in a configuration; by default candles.
    interval : str, optional
        The interval of candles to show first; by default one hour.

    Returns
    -------
    Catalog
        Displays itself in a notebook. ``catalog.config`` is the configuration of the chosen
        symbols.

    Raises
    ------
    ConfigurationError
        If the endpoint is invalid, or the archive has no such feed or interval.

    See Also
    --------
    universe : the same days as a frame, of all symbols of a feed.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> catalog = bak.catalog("http://127.0.0.1:9000", market="um", data_type="fundingRate")
    >>> catalog
    Catalog(futures_um fundingRate: symbols not listed yet; none chosen)
    >>> catalog.close()
    """
    matrix = load_matrix()
    owner = read_market(market)
    if data_type is None:
        data_type = catalog_model.feed_of({"markets": [owner]}, matrix)[0].type
    feed = matrix.feeds[read_feed(owner, data_type)]
    fields = model.starting_fields(today()) | {"data_types": [feed.type.value]}
    if interval is not None:
        valid, found = catalog_model.intervals_of(feed), read_interval(interval)
        if not valid:
            raise field_error("interval", f"{feed.type} files have no intervals")
        if found not in valid:
            raise ConfigurationError(unknown("interval", interval, valid))
        fields["intervals"] = {feed.type.value: [found.value]}
    if endpoint_url is not None:
        fields["endpoint_url"] = check_endpoint(endpoint_url)
    return Catalog(fields | {"markets": [owner.value]})


class Catalog(FieldWidget):
    """A notebook widget of what the archive has; `catalog` creates one.

    Attributes
    ----------
    config : CollectionConfig or dict
        The configuration of the chosen symbols; its fields as long as it is not complete.
    fields : dict
        The fields as JSON values, not validated; changes can be observed.
    """

    _esm = script("catalog.js")

    #: The days of the symbols of the feed, as far as they are loaded, and the state of loading.
    dates = traitlets.Dict().tag(sync=True)

    def __init__(self, fields: Fields) -> None:
        self._rows: dict[tuple[Market, DataType], list[list[str]]] = {}
        self._refused: dict[tuple[Market, DataType], str] = {}
        self._days: dict[tuple[Market, DataType, Interval | None], dict[str, Days]] = {}
        self._chosen: dict[Market, list[str]] = {}
        matrix = load_matrix()
        super().__init__(catalog_model.with_feed(fields, *catalog_model.feed_of(fields, matrix)))

    @property
    def config(self) -> CollectionConfig | Fields:
        """The configuration of the chosen symbols; its fields as long as it is not complete."""
        try:
            config = CollectionConfig(**self.fields)
            check(config)
        except ConfigurationError:
            return dict(self.fields)
        return config

    def __repr__(self) -> str:
        return f"Catalog({self._label()}: {self._verdict()})"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Add a table of the feeds and symbols, for readers without the widget."""
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None:
            feed = self._feed[0]
            symbols = list(dict.fromkeys([*self._chosen_symbols(), *(self._listed() or ())]))
            summary = catalog_model.summary_of(
                feed, self._matrix, f"{self._label()}: {self._verdict()}", symbols, self._known()
            )
            bundle[0]["text/html"] = summary.to_html()
        return bundle

    # What is shown

    @property
    def _feed(self) -> tuple[Feed, Interval | None]:
        return catalog_model.feed_of(self.fields, self._matrix)

    def _label(self) -> str:
        feed, interval = self._feed
        return catalog_model.label_of(feed, interval)

    def _verdict(self) -> str:
        names = self._listed()
        listed = "symbols not listed yet" if names is None else counted(len(names), "symbol")
        return f"{listed}; {len(self._chosen_symbols()) or 'none'} chosen"

    def _chosen_symbols(self) -> list[str]:
        return catalog_model.chosen_symbols(self.fields, self._feed[0].market)

    def _listed(self) -> list[str] | None:
        """Return the listed symbols of the feed; None as long as they are not known."""
        feed, _ = self._feed
        rows = self._rows.get((feed.market, feed.type))
        return None if rows is None else [name for name, *_ in rows]

    def _known(self) -> dict[str, Days]:
        """Return the known days of the feed's symbols; extended as they arrive."""
        feed, interval = self._feed
        return self._days.setdefault((feed.market, feed.type, interval), {})

    # Messages of the browser

    def _act(self, message: Mapping[str, Any]) -> None:
        feed, interval = self._feed
        match message:
            case {"do": "check", "field": "markets", "value": word} if word in set(Market):
                self._chosen[feed.market] = self._chosen_symbols()
                chosen = self._chosen.get(Market(word), [])
                self._browse({**self.fields, "markets": [word], "symbols": chosen})
            case {"do": "check", "field": "data_types", "value": word} if word in set(DataType):
                others = {word: [interval.value]} if interval else {}
                self._browse({**self.fields, "data_types": [word], "intervals": others})
            case {"do": "interval", "value": word} if word in set(Interval):
                self._browse({**self.fields, "intervals": {feed.type.value: [word]}})
            case {"do": "list"}:
                self._refused.clear()
                self._refresh()
            case {"do": "days", "symbols": list() as symbols}:
                self._read_days(symbols)
            case {"do": "stop"}:
                self._stop("days")
                self._show_days("stopped")
            case {"do": "set"}:
                self._edit(edited(self.fields, message))

    def _browse(self, fields: Fields) -> None:
        """Show another feed or interval."""
        self._edit(catalog_model.with_feed(fields, *catalog_model.feed_of(fields, self._matrix)))

    def _on_change(self, change: object) -> None:
        with self._lock:
            super()._on_change(change)
            if self.dates.get("feed") != self._label():
                self._stop("days")
                self._show_days("idle")

    def _row_of(self, field: str) -> str:
        row = "date_range" if field == "partition" else field
        return row if row in _ROWS else "markets"

    def _own_messages(self) -> Messages:
        return catalog_model.day_messages(self.fields, self._chosen_symbols(), self._known())

    def _options(self, matrix: Matrix) -> dict[str, Any]:
        feed, interval = self._feed
        chosen = self._chosen_symbols()
        options: dict[str, Any] = {
            "markets": model.market_choices({"markets": [feed.market.value]}),
            "data_types": catalog_model.type_choices(feed, matrix),
            "intervals": [
                {"value": each.value, "on": each is interval}
                for each in catalog_model.intervals_of(feed)
            ],
            "feed": self._label(),
            "chosen": chosen,
            "next": "",
        }
        if self._complete:
            config = CollectionConfig(**self.fields)
            options["next"] = f"config = {config.to_python()}\nresult = bak.collect(config)"
        if days := catalog_model.all_days(chosen, self._known()):
            options["shortcuts"] = {**model.shortcuts(today()), _ALL_DAYS: days}
        return options

    # Symbols, in the background

    def _known_symbols(self, context: PlanningContext) -> dict[Market, list[str]]:
        feed, _ = self._feed
        name = feed.market, feed.type
        rows, names = self._rows.get(name, []), self._listed()
        if names is not None:
            state, text = "ready", counted(len(names), "symbol")
        elif name in self._refused:
            state, text = "offline", self._refused[name]
        else:
            state, text = "loading", f"requesting the symbols from {context.endpoint} …"
        self.listed = {"feed": self._label(), "state": state, "text": text, "symbols": rows}
        if state == "loading":
            self._list_symbols(context, feed)
        return {} if names is None else {feed.market: names}

    def _list_symbols(self, context: PlanningContext, feed: Feed) -> None:
        name = feed.market, feed.type
        task = f"symbols of {feed.market} {feed.type}"
        if task in self._workers:
            return

        async def work() -> None:
            names, reason = None, ""
            try:
                async with _archive(context, bulk=False) as archive:
                    names = await list_symbols(archive, feed)
            except Exception as error:  # the catalogue shows any error
                reason = f"{error}" or type(error).__name__
            with self._lock:
                if names is None:
                    self._refused[name] = reason
                else:
                    self._rows[name] = catalog_model.symbol_rows(feed.market, names)
                if self._workers.get(task) is worker:
                    del self._workers[task]
                    self._refresh()

        worker = self._start(task, work)

    # First and last days, in the background

    def _read_days(self, symbols: Sequence[str]) -> None:
        """Load the days of symbols, the first ones first; give up those of an earlier request."""
        context, (feed, interval) = self._context, self._feed
        listed = set(self._listed() or ())
        known = self._known()
        wanted = [each for each in dict.fromkeys(symbols) if each in listed and each not in known]
        self._stop("days")
        if not wanted or context is None:
            self._show_days("idle")
            return

        def show(state: str, text: str = "") -> None:
            with self._lock:
                if self._workers.get("days") is worker:  # nothing else is asked for by now
                    self._show_days(state, text)

        def progress() -> None:
            done = sum(each in known for each in wanted)
            show("reading", f"{done:,} of {len(wanted):,}")

        async def work() -> None:
            try:
                async with _archive(context, bulk=True) as archive:
                    read = partial(_days_of, archive, feed, interval, Due.at(context.matrix, now))

                    async def one(name: str) -> None:
                        known[name] = await read(name)

                    # Many known days take longer to send.
                    pause = 0.3 + len(known) / _PER_SECOND
                    await watch(gather(map(one, wanted)), progress, pause)
                show("idle")
            except (ArchiveKitError, OSError) as error:
                show("failed", f"{error}")

        now = datetime.now(UTC)
        worker = self._start("days", work)
        progress()

    def _show_days(self, state: str, text: str = "") -> None:
        if state != "reading":
            self._refresh()  # what is said of the chosen symbols
        known = dict(self._known())
        self.dates = {"feed": self._label(), "state": state, "text": text, "known": known}


def _archive(context: PlanningContext, *, bulk: bool) -> ListingClient:
    bucket, timeout = context.matrix.archive.bucket, context.config.timeout_seconds
    return ListingClient(context.endpoint, bucket, timeout, bulk=bulk)


async def _days_of(
    archive: ListingClient, feed: Feed, interval: Interval | None, due: Due, symbol: str
) -> Days:
    """Find the first and the last day of a symbol's files."""
    stream = Stream(feed.market, feed.type, symbol, interval)
    partitions = feed.partitions_with(interval)
    life = await life_of(archive, {each: Folder(stream, each) for each in partitions}, due)
    return f"{life.first}" if life.first else None, f"{life.last}" if life.last else None
