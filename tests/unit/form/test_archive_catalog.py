"""The catalogue without a browser: what it asks of the archive, and the configuration it builds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import ConfigurationError
from tests.support.bucket import FIRST, daily_klines
from tests.support.faults import on_listing
from tests.support.s3_server import Fault, LocalS3

#: Folders that the archive could have: some are symbols, others cannot be any.
SYMBOLS = ["&LT;USDT", "BTCUSDT", "ETHUSDT", "币安人生USDT"]
NO_SYMBOLS = ["<b>USDT", "A'USDT", 'A"USDT']
LAST = FIRST + timedelta(days=4)


@pytest.fixture(scope="module")
def bucket() -> dict[str, bytes]:
    objects = {k: v for symbol in SYMBOLS for k, v in daily_klines(symbol, days=5).items()}
    for name in NO_SYMBOLS:
        objects[f"data/spot/daily/klines/{name}/1h/x.zip"] = b""
    objects["data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2025-07-01.zip"] = b""
    return objects


@pytest.fixture
def server(bucket: dict[str, bytes]) -> Iterator[LocalS3]:
    with LocalS3(bucket) as server:
        yield server


@pytest.fixture
def show(server: LocalS3) -> Iterator[Callable[..., bak.Catalog]]:
    """Lend a function that makes catalogues, and close them afterwards."""
    made: list[bak.Catalog] = []

    def make(endpoint_url: str = server.url, **options: Any) -> bak.Catalog:
        made.append(bak.catalog(endpoint_url, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


Show = Callable[..., bak.Catalog]


def until(true: Callable[[], Any], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def told(catalog: bak.Catalog, **message: Any) -> None:
    """Say something as the browser does."""
    catalog._handle_custom_msg(message, [])


def listed(catalog: bak.Catalog, state: str = "ready") -> list[str]:
    until(lambda: catalog.listed["state"] == state, f"{state}, not {catalog.listed}")
    return [row[0] for row in catalog.listed["symbols"]]


def days(catalog: bak.Catalog, *symbols: str, state: str = "idle") -> dict[str, Any]:
    told(catalog, do="days", symbols=list(symbols))
    until(lambda: catalog.dates["state"] == state, f"{state}, not {catalog.dates}")
    return dict(catalog.dates["known"])


def texts(catalog: bak.Catalog) -> dict[str, list[tuple[str, str]]]:
    found = catalog.view["messages"]
    return {name: [(each["level"], each["text"]) for each in found[name]] for name in found}


def choose(catalog: bak.Catalog, *symbols: str) -> None:
    told(catalog, do="set", field="symbols", value=list(symbols))


def test_a_new_catalogue_lists_symbols_and_nothing_is_wrong(show: Show) -> None:
    catalog = show()
    assert repr(catalog) == "Catalog(spot klines 1h: symbols not listed yet; none chosen)"
    assert texts(catalog) == {"symbols": [("needed", "a symbol, or a pattern such as *USDT")]}
    assert listed(catalog) == SYMBOLS
    assert repr(catalog) == "Catalog(spot klines 1h: 4 symbols; none chosen)"
    assert texts(catalog) == {"symbols": [("needed", "a symbol, or a pattern such as *USDT")]}
    assert catalog.view["next"] == ""
    # Fields that are not complete are fields.
    assert catalog.config == catalog.fields
    with pytest.raises(ConfigurationError, match="symbols: the list is empty"):
        bak.plan(catalog.config)


def test_chosen_symbols_are_a_configuration(show: Show, server: LocalS3, tmp_path: Any) -> None:
    catalog = show()
    listed(catalog)
    choose(catalog, "BTCUSDT", "币安人生USDT", "&LT;USDT")
    told(catalog, do="set", field="output_directory", value=str(tmp_path))
    days(catalog, "BTCUSDT", "币安人生USDT", "&LT;USDT")
    shortcut = catalog.view["shortcuts"]["All their days"]
    assert shortcut == {"start": f"{FIRST}", "end": f"{LAST}"}
    [(level, text)] = texts(catalog)["date_range"]
    assert level == "note"
    assert text.startswith("no files of these days for 3 of 3 chosen symbols, such as BTCUSDT")
    told(catalog, do="set", field="date_range", value=shortcut)
    assert texts(catalog) == {}
    config = catalog.config
    assert isinstance(config, bak.CollectionConfig)
    assert config.symbols == ("BTCUSDT", "币安人生USDT", "&LT;USDT")
    names: dict[str, Any] = {"bak": bak}
    code, _, collecting = catalog.view["next"].rpartition("\n")
    exec(code, names)
    assert names["config"] == config
    assert collecting == "result = bak.collect(config)"
    # It downloaded nothing, until now.
    assert not [key for _, key in server.requests if key.endswith((".zip", ".CHECKSUM"))]
    assert not [*tmp_path.iterdir()]
    assert bak.collect(config).outcome == "complete"


@pytest.mark.parametrize(
    "symbols", [5, None, "BTCUSDT", [["BTCUSDT"], 7], {"spot": ["BTCUSDT"]}, {"spot": 3}, {"x": []}]
)
def test_fields_set_in_code_may_be_anything(show: Show, symbols: object) -> None:
    catalog = show()
    listed(catalog)
    catalog.fields = catalog.fields | {"symbols": symbols}
    assert set(catalog.view["chosen"]) <= {"BTCUSDT"}
    days(catalog, "BTCUSDT")
    assert repr(catalog).startswith("Catalog(spot klines 1h: 4 symbols; ")


def test_a_pattern_is_a_configuration(show: Show) -> None:
    catalog = show()
    listed(catalog)
    choose(catalog, "*USDT")
    assert isinstance(catalog.config, bak.CollectionConfig)
    assert catalog.config.symbols == ("*USDT",)
    assert texts(catalog) == {}
    assert "All their days" not in catalog.view["shortcuts"]


def test_days_are_read_for_the_requested_symbols_only(show: Show, server: LocalS3) -> None:
    catalog = show()
    listed(catalog)
    server.requests.clear()
    assert days(catalog, "BTCUSDT", "NONEUSDT", "<b>USDT") == {"BTCUSDT": (f"{FIRST}", f"{LAST}")}
    asked = {key for _, key in server.requests}
    assert all("/BTCUSDT/" in key for key in asked), asked
    server.requests.clear()
    days(catalog, "BTCUSDT")
    assert not server.requests
    # Days are those of the interval.
    told(catalog, do="interval", value="1d")
    assert catalog.dates["known"] == {}
    assert days(catalog, "BTCUSDT") == {"BTCUSDT": (None, None)}
    told(catalog, do="interval", value="1h")
    assert catalog.dates["known"] == {"BTCUSDT": (f"{FIRST}", f"{LAST}")}


def test_loading_days_can_be_cancelled_and_goes_on_with_others(show: Show, server: LocalS3) -> None:
    catalog = show()
    listed(catalog)
    server.latency = 30
    before = time.monotonic()
    told(catalog, do="days", symbols=SYMBOLS)
    assert catalog.dates["state"] == "reading"
    assert catalog.dates["text"] == "0 of 4"
    told(catalog, do="stop")
    assert catalog.dates["state"] == "stopped"
    assert time.monotonic() - before < 5
    server.latency = 0
    assert list(days(catalog, "ETHUSDT")) == ["ETHUSDT"]


def test_another_market_has_its_own_symbols_and_choice(show: Show) -> None:
    catalog = show(interval="1d")
    listed(catalog)
    choose(catalog, "BTCUSDT")
    told(catalog, do="check", field="markets", value="futures_um", on=True)
    assert catalog.fields["markets"] == ["futures_um"]
    assert catalog.fields["symbols"] == []
    told(catalog, do="check", field="data_types", value="metrics", on=True)
    assert "intervals" not in catalog.fields
    assert listed(catalog) == ["BTCUSDT"]
    assert days(catalog, "BTCUSDT") == {"BTCUSDT": ("2025-07-01", "2025-07-01")}
    told(catalog, do="check", field="markets", value="spot", on=True)
    assert catalog.fields["symbols"] == ["BTCUSDT"]
    assert catalog.view["feed"] == "spot klines 1h"
    for name in ("<b>", "futures_um' OR 1"):
        told(catalog, do="check", field="markets", value=name, on=True)
    assert catalog.fields["markets"] == ["spot"]


def test_days_of_another_feed_are_never_shown(show: Show) -> None:
    catalog = show()
    listed(catalog)
    days(catalog, "BTCUSDT")
    catalog.fields = catalog.fields | {"markets": ["futures_um"], "data_types": ["metrics"]}
    assert catalog.dates == {
        "feed": "futures_um metrics", "state": "idle", "text": "", "known": {}
    }  # fmt: skip
    listed(catalog)
    assert days(catalog, "BTCUSDT") == {"BTCUSDT": ("2025-07-01", "2025-07-01")}


def test_an_edit_does_not_list_the_symbols_anew(show: Show, server: LocalS3) -> None:
    server.latency = 0.3
    catalog = show()
    told(catalog, do="set", field="output_directory", value="elsewhere")
    listed(catalog)
    told(catalog, do="check", field="data_types", value="trades", on=True)
    told(catalog, do="check", field="data_types", value="klines", on=True)
    listed(catalog)
    assert server.requests.count(("LIST", "data/spot/daily/klines/")) == 1


def test_what_has_no_row_is_said_beside_the_markets(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = show()
    told(catalog, do="set", field="matrix_path", value="none.json")
    [(level, text)] = texts(catalog)["markets"]
    assert level == "wrong"
    assert "neither a file here nor a shipped one" in text
    monkeypatch.setenv("S3_ENDPOINT_URL", "nowhere")
    other = bak.catalog()
    assert "'nowhere' is not" in texts(other)["markets"][0][1]
    assert other.config == other.fields
    assert "S3_ENDPOINT_URL" in texts(other)["markets"][0][1]
    other.close()


def test_a_symbol_that_the_feed_does_not_have_is_named(show: Show) -> None:
    catalog = show()
    listed(catalog)
    choose(catalog, "BTCUSD")
    [(level, text)] = texts(catalog)["symbols"]
    assert level == "cannot"
    assert "BTCUSD is not listed in spot by the archive; did you mean BTCUSDT?" in text


def test_an_archive_that_does_not_answer_is_asked_again_on_request(show: Show) -> None:
    with LocalS3({}) as gone:
        url = gone.url
    catalog = show(url)
    assert "did not list" not in str([catalog.view["messages"], catalog.listed])
    assert listed(catalog, "offline") == []
    assert "check the network" in catalog.listed["text"]
    told(catalog, do="list")
    assert catalog.listed["state"] == "loading"


def test_days_that_cannot_be_read_say_why_and_can_be_read_again(
    show: Show, server: LocalS3
) -> None:
    catalog = show()
    listed(catalog)
    server.fault = on_listing("BTCUSDT", Fault(status=403))
    assert days(catalog, "BTCUSDT", state="failed") == {}
    assert "status 403" in catalog.dates["text"]
    assert repr(catalog).endswith("none chosen)")
    server.fault = None
    assert list(days(catalog, "BTCUSDT")) == ["BTCUSDT"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint_url": "nowhere"}, "endpoint_url: 'nowhere' is not"),
        ({"market": "spto"}, "'spto' is not valid; did you mean 'spot'"),
        ({"data_type": "metrics"}, "data type of spot: 'metrics' is not valid"),
        ({"data_type": "trades", "interval": "1h"}, "interval: trades files have no intervals"),
        ({"market": "um", "interval": "1s"}, "interval: '1s' is not valid"),
    ],
)
def test_a_feed_that_does_not_exist_is_refused(
    show: Show, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
        show(**options)


def test_a_saved_notebook_shows_a_table(show: Show) -> None:
    catalog = show()
    listed(catalog)
    choose(catalog, "&LT;USDT")
    days(catalog, "&LT;USDT")
    bundle = catalog._repr_mimebundle_()
    assert bundle is not None
    html = bundle[0]["text/html"]
    assert bundle[0]["text/plain"] == "Catalog(spot klines 1h: 4 symbols; 1 chosen)"
    assert "application/vnd.jupyter.widget-view+json" in bundle[0]
    assert "&amp;LT;USDT" in html
    assert f"{FIRST}" in html
    assert "not loaded" in html
    assert "aggTrades" in html
    assert "script" not in html


def test_thousands_of_symbols_are_sent_at_once(show: Show) -> None:
    names = [f"COIN{at}USDT" for at in range(5_000)]
    with LocalS3({f"data/spot/daily/klines/{name}/1h/x.zip": b"" for name in names}) as server:
        catalog = show(server.url)
        before = time.monotonic()
        assert len(listed(catalog)) == 5_000
        choose(catalog, *names)
        assert time.monotonic() - before < 10
        assert len(repr(catalog)) < 100
        assert isinstance(catalog.config, bak.CollectionConfig)


def test_a_closed_catalogue_leaves_no_thread(show: Show, server: LocalS3) -> None:
    catalog = show()
    listed(catalog)
    server.latency = 30
    told(catalog, do="days", symbols=SYMBOLS)
    other = show(market="um")
    for each in (catalog, other):
        each.close()
    until(
        lambda: not [each for each in threading.enumerate() if each.name == "binance-archive"],
        "no thread of ours",
    )
