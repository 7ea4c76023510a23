"""The demo archive serves the synthetic objects, and its configuration covers them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.demo.archive import demo_archive, demo_config
from binance_archive_kit.demo.prices import FIRST_DAY, LAST_DAY
from binance_archive_kit.demo.synthetic import build


def test_serves_its_objects_and_calls_itself_synthetic() -> None:
    archive = demo_archive()
    assert repr(archive) == "DemoArchive(not started, synthetic)"
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = archive.url
    objects = build()
    key = next(key for key in objects if "币安人生USDT" in key)
    with archive as endpoint:
        assert endpoint == archive.url == archive.start()
        assert re.fullmatch(
            rf"DemoArchive\({endpoint}, \d,\d{{3}} objects, synthetic\)", repr(archive)
        )
        with urlopen(f"{endpoint}/data.binance.vision/{quote(key)}", timeout=30) as answer:
            assert answer.read() == objects[key]
    archive.stop()
    assert repr(archive) == "DemoArchive(not started, synthetic)"


def test_demo_config_covers_every_market_and_active_feed(tmp_path: Path) -> None:
    config = demo_config("http://127.0.0.1:9000", tmp_path)
    assert set(config.markets) == set(Market)
    ended = {DataType.BOOK_TICKER, DataType.LIQUIDATION_SNAPSHOT, DataType.EOH_SUMMARY}
    assert set(config.data_types) == set(DataType) - ended
    assert (config.days().start, config.days().end) == (FIRST_DAY, LAST_DAY)
    assert config.endpoint_url == "http://127.0.0.1:9000"
    assert config.output_directory == tmp_path
    keys = [ObjectKey.parse(key) for key in build() if key.endswith(".zip")]
    for market in Market:
        filed = {key.folder.symbol for key in keys if key.folder.market is market}
        assert set(config.symbols_of(market)) <= filed
