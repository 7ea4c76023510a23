"""The form without a browser: its messages, its answers, and what it asks of the archive."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import ConfigurationError
from tests.support.bucket import FIRST, daily_klines
from tests.support.s3_server import LocalS3

SYMBOLS = ["BTCUSDT", "ETHUSDT", "币安人生USDT"]


@pytest.fixture(scope="module")
def bucket() -> dict[str, bytes]:
    return {k: v for symbol in SYMBOLS for k, v in daily_klines(symbol, days=5).items()}


@pytest.fixture
def server(bucket: dict[str, bytes]) -> Iterator[LocalS3]:
    with LocalS3(bucket) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def config(server: LocalS3, store: Path) -> bak.CollectionConfig:
    return bak.CollectionConfig(
        markets=["spot"],
        symbols=["BTCUSDT"],
        data_types=["klines"],
        intervals={"klines": ["1h"]},
        date_range={"start": FIRST, "end": FIRST + timedelta(days=4)},
        output_directory=store,
        endpoint_url=server.url,
    )


@pytest.fixture
def show() -> Iterator[Callable[..., bak.ConfigForm]]:
    """Lend a function that makes forms, and close them afterwards."""
    forms: list[bak.ConfigForm] = []

    def make(*arguments: Any, **options: Any) -> bak.ConfigForm:
        forms.append(bak.ConfigForm(*arguments, **options))
        return forms[-1]

    yield make
    for form in forms:
        form.close()


Show = Callable[..., bak.ConfigForm]


def until(true: Callable[[], Any], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def told(form: bak.ConfigForm, **message: Any) -> None:
    """Say something as the browser does."""
    form._handle_custom_msg(message, [])


def planned(form: bak.ConfigForm, state: str = "ready") -> str:
    until(lambda: form.estimate["state"] == state, f"{state}, not {form.estimate}")
    return str(form.estimate["text"])


def listed(form: bak.ConfigForm, state: str = "ready") -> dict[str, Any]:
    until(lambda: form.listed["state"] == state, f"{state}, not {form.listed}")
    return dict(form.listed)


def test_a_new_form_wants_symbols(show: Show, server: LocalS3) -> None:
    form = show(endpoint_url=f"{server.url}/")
    assert repr(form) == "ConfigForm(not complete: symbols)"
    with pytest.raises(ConfigurationError, match="symbols: the list is empty"):
        _ = form.config
    assert form.estimate["state"] == "open"
    # Nothing was entered that could be wrong.
    assert [*form.view["messages"]] == ["symbols"]
    assert [each["level"] for each in form.view["messages"]["symbols"]] == ["needed"]
    assert form.view["next"] == "result = bak.collect(form.config)"
    told(form, do="add", market=None, text="btcusdt ethusdt")
    assert form.config.symbols == ("BTCUSDT", "ETHUSDT")
    assert form.config.endpoint_url == server.url
    assert repr(form).startswith("ConfigForm(CollectionConfig(spot: klines of BTCUSDT, ETHUSDT, ")


def test_an_endpoint_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="endpoint_url: 'nowhere' is not"):
        bak.ConfigForm(endpoint_url="nowhere")


def test_a_form_gives_back_what_it_was_given(show: Show, config: bak.CollectionConfig) -> None:
    changed = config.replace(
        symbols={"spot": ["ETHUSDT"]}, batch_size=7, s5cmd_extra_args=["--retry-count=1"]
    )
    for each in (config, changed):
        form = show(each)
        assert form.config == each
        told(form, do="copy", **{"as": "json"})
        other = show()
        other.config = bak.CollectionConfig.from_json(form.reply["text"])
        told(other, do="copy", **{"as": "python"})
        assert other.reply["text"] == each.to_python()
        assert eval(other.reply["text"], {"bak": bak}) == each


def test_the_form_downloads_nothing(
    show: Show, server: LocalS3, config: bak.CollectionConfig, store: Path
) -> None:
    form = show(config)
    assert planned(form).startswith("5 objects: 5 to download; ")
    assert " left afterwards" in form.estimate["text"]
    assert "<table" in form.estimate["html"]
    told(form, do="add", market=None, text="ETHUSDT")
    until(lambda: form.estimate["text"].startswith("10 objects"), "a plan of both")
    assert not [key for _, key in server.requests if key.endswith((".zip", ".CHECKSUM"))]
    assert not store.exists()
    assert bak.collect(form.config).outcome == "complete"
    told(form, do="plan")
    until(lambda: "10 to keep" in form.estimate["text"], "a plan that keeps")


def test_symbols_are_those_of_the_archive(show: Show, config: bak.CollectionConfig) -> None:
    form = show(config.replace(symbols=["BTCUSDT", "ETHUSD"]))
    assert listed(form)["symbols"] == {"spot": SYMBOLS}
    assert "3 symbols" in form.listed["text"]
    until(lambda: "symbols" in form.view["messages"], "a word on the symbol that is not there")
    [finding] = form.view["messages"]["symbols"]
    assert finding["level"] == "cannot"
    assert "ETHUSD is not listed in spot by the archive; did you mean ETHUSDT?" in finding["text"]
    assert form.config.symbols == ("BTCUSDT", "ETHUSD")


def test_symbols_are_listed_once(show: Show, server: LocalS3, config: bak.CollectionConfig) -> None:
    form = show(config.replace(listing=True))
    listed(form)
    server.requests.clear()
    for on in (True, False, True):
        told(form, do="check", field="data_types", value="trades", on=on)
        listed(form)
    assert server.requests.count(("LIST", "data/spot/daily/klines/")) == 0
    assert server.requests.count(("LIST", "data/spot/daily/trades/")) == 1


def test_nobody_answers_and_the_form_goes_on(show: Show, config: bak.CollectionConfig) -> None:
    with LocalS3({}) as gone:
        url = gone.url
    form = show(config.replace(endpoint_url=url))
    told(form, do="add", market=None, text="WHATEVERUSDT")
    assert form.config.symbols == ("BTCUSDT", "WHATEVERUSDT")
    assert "did not list" in listed(form, "offline")["text"]
    assert "check the network" in planned(form, "failed")
    told(form, do="list")
    assert form.listed["state"] == "loading"


def test_the_archive_is_not_asked_without_its_listing(
    show: Show, server: LocalS3, config: bak.CollectionConfig
) -> None:
    form = show(config.replace(listing=False))
    listed(form, "off")
    assert "size unknown" in planned(form)
    assert not server.requests


def test_many_folders_are_asked_for_when_told_to(
    show: Show, server: LocalS3, config: bak.CollectionConfig
) -> None:
    form = show(config.replace(symbols=[f"COIN{at}USDT" for at in range(700)]))
    assert planned(form, "held").startswith("700 folders of the archive")
    server.latency = 0.4
    told(form, do="plan")
    until(lambda: form.estimate["text"].endswith(" of 700 folders"), "how far it is")


def test_a_later_edit_is_the_one_that_counts(
    show: Show, server: LocalS3, config: bak.CollectionConfig
) -> None:
    server.latency = 2
    form = show(config)
    for text in ("ETHUSDT", "币安人生USDT"):
        told(form, do="add", market=None, text=text)
    # Nobody waits for the archive but a thread.
    assert form.estimate["state"] == "asking"
    server.latency = 0
    assert planned(form).startswith("15 objects")
    told(form, do="replace", market=None, text="")
    assert form.estimate["state"] == "open"


def test_what_is_wrong_in_the_engine_is_said_beside_it(
    show: Show, config: bak.CollectionConfig
) -> None:
    form = show(config)
    for field, value in (("matrix_path", "none.json"), ("s5cmd_extra_args", "--frobnicate")):
        told(form, do="set", field=field, value=value)
    assert set(form.view["invalid"]) == {"matrix_path", "s5cmd_extra_args"}
    assert "neither a file here" in form.view["messages"]["matrix_path"][0]["text"]
    with pytest.raises(ConfigurationError, match="matrix_path"):
        _ = form.config
    told(form, do="copy", **{"as": "json"})
    assert "matrix_path" in form.reply["error"]


@pytest.mark.parametrize(
    ("fields", "beside", "said"),
    [
        ({"batch_sise": 5}, "markets", "did you mean 'batch_size'?"),
        ({"output_directory": "gs://b/x"}, "output_directory", "is a URL"),
        ({"output_directory": "taken/x"}, "output_directory", "is a file"),
        ({"output_directory": ""}, "output_directory", "is empty"),
        ({"endpoint_url": "http://me:hidden@h"}, "endpoint_url", "a user or a password"),
        ({"date_range": None, "start": "9999-12-31"}, "date_range", "is not between"),
        ({"start": "2025-07-01"}, "date_range", "given together with start"),
        ({"batch_size": 10**400}, "batch_size", "not valid"),
        ({"symbols": 5}, "symbols", "not a list"),
        ({"intervals": ["1h"]}, "intervals", "not a dict"),
        ({"intervals": {"klines": 5}}, "intervals", "not a list"),
    ],
)
def test_whatever_fields_are_set_is_said_beside_them(
    show: Show,
    config: bak.CollectionConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    beside: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    form = show(config)
    form.fields = {**form.fields, **fields}
    assert form.view["invalid"]
    assert said in form.view["messages"][beside][0]["text"]
    assert "hidden" not in str(form.view["messages"])
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        _ = form.config


def test_what_is_wrong_in_the_environment_is_said_beside_the_endpoint(
    show: Show, config: bak.CollectionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "ftp://x")
    form = show(config.replace(endpoint_url=None))
    assert "S3_ENDPOINT_URL: 'ftp://x'" in form.view["messages"]["endpoint_url"][0]["text"]


def test_saved_and_loaded(show: Show, config: bak.CollectionConfig, tmp_path: Path) -> None:
    form, path = show(config), str(tmp_path / "config.json")
    told(form, do="save", path=path)
    assert form.reply["done"] == f"Saved as {path}"
    told(form, do="save", path=path)
    assert "done" in form.reply
    told(form, do="set", field="partition", value="auto")
    told(form, do="save", path=path)
    assert "exists with other content" in form.reply["unsure"]
    assert bak.CollectionConfig.from_json(path) == config
    told(form, do="save", path=path, sure=True)
    assert bak.CollectionConfig.from_json(path) == config.replace(partition="auto")
    Path(path).write_bytes(b"\xff")
    told(form, do="save", path=path)
    assert "exists with other content" in form.reply["unsure"]
    told(form, do="save", path=path, sure=True)
    assert bak.CollectionConfig.from_json(path) == config.replace(partition="auto")
    other = show()
    told(other, do="load", path=path)
    assert other.config == form.config
    told(other, do="load", path=str(tmp_path / "none.json"))
    assert "cannot be read" in other.reply["error"]
    told(other, do="save", path=str(tmp_path))
    assert "cannot be written" in other.reply["error"]
    assert other.config == form.config


def test_changes_can_be_observed_and_made_in_code(show: Show, config: bak.CollectionConfig) -> None:
    form = show(config)
    seen: list[Any] = []
    form.observe(lambda change: seen.append(change["new"]["symbols"]), "fields")
    told(form, do="add", market=None, text="ETHUSDT")
    form.config = config
    assert seen == [["BTCUSDT", "ETHUSDT"], ["BTCUSDT"]]
    assert form.view["fields"] == config.chosen()


def test_the_browser_is_told_what_was_answered(show: Show, config: bak.CollectionConfig) -> None:
    form = show(config)
    told(form, do="check", field="markets", value="spot", on=True, turn=["x", 4])
    assert form.view["answered"] == ["x", 4]


def test_three_thousand_symbols_are_read_at_once(show: Show, config: bak.CollectionConfig) -> None:
    names = [f"COIN{at}USDT" for at in range(3_000)]
    before = time.monotonic()
    form = show(config.replace(symbols=names))
    assert time.monotonic() - before < 5
    before = time.monotonic()
    told(form, do="remove", market=None, text="COIN7USDT")
    assert time.monotonic() - before < 5
    assert len(form.config.symbols) == 2_999
    assert len(repr(form)) < 300


def test_a_closed_form_leaves_no_thread(config: bak.CollectionConfig, server: LocalS3) -> None:
    server.latency = 5
    form = bak.ConfigForm(config)
    form.close()
    until(
        lambda: not [each for each in threading.enumerate() if each.name == "binance-archive"],
        "no thread of ours",
    )
