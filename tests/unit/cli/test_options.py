"""The options of a configuration are its fields."""

from __future__ import annotations

import click
import pytest

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.cli.archive_commands import collect
from binance_archive_kit.cli.options import config_from_options, words
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.planning.config import CollectionConfig


def test_every_field_has_an_option() -> None:
    """Options are parsed like the fields of a configuration."""
    context = collect.make_context(
        "collect",
        [
            *("--markets", "spot,um", "--markets", "options"),
            *("--data-types", "klines,trades", "--symbols", "spot=BTCUSDT,ETHUSDT"),
            *("--symbols", "um=BTCUSDT", "--intervals", "klines=1m,1h", "--start=-7d"),
            *("--partition", "auto", "--output-directory", "x", "--endpoint-url", "http://h:1"),
            *("--matrix-path", "m.json", "--batch-size", "5", "--max-parallel-downloads", "6"),
            *("--timeout-seconds", "7.5", "--part-size-mb", "8", "--no-enable-resume"),
            *("--s5cmd-extra-args=--numworkers 4 --part-size=100MB", "--force-redownload"),
            *("--no-download-checksum", "--accept-stale-checksum", "--no-enable-batch-mode"),
            *("--no-listing", "--symbols", "option=*", "--quote", "USDT,USDC"),
        ],
    )
    options = context.params
    assert options.pop("as_json") is False
    expected = CollectionConfig(
        markets=["spot", "um", "options"],
        data_types=["klines", "trades"],
        symbols={"spot": ["BTCUSDT", "ETHUSDT"], "um": ["BTCUSDT"], "options": ["*"]},
        quote=["USDT", "USDC"],
        intervals={"klines": ["1m", "1h"]},
        date_range={"start": "-7d", "end": "yesterday"},
        partition="auto",
        output_directory="x",
        endpoint_url="http://h:1",
        matrix_path="m.json",
        batch_size=5,
        max_parallel_downloads=6,
        timeout_seconds=7.5,
        part_size_mb=8,
        enable_resume=False,
        s5cmd_extra_args=["--numworkers", "4", "--part-size=100MB"],
        force_redownload=True,
        download_checksum=False,
        accept_stale_checksum=True,
        enable_batch_mode=False,
        listing=False,
    )
    assert config_from_options(**options) == expected
    assert set(expected.chosen()) == set(CollectionConfig.model_fields) - {"workflow_type"}


def test_help_texts_are_the_descriptions_of_the_fields() -> None:
    helps = {str(option.name): str(getattr(option, "help", "")) for option in collect.params}
    for name, field in CollectionConfig.model_fields.items():
        if name not in ("workflow_type", "date_range"):
            assert helps[name].startswith(str(field.description))


def test_help_texts_show_each_default_once() -> None:
    helps = {str(option.name): str(getattr(option, "help", "")) for option in collect.params}
    for name, field in CollectionConfig.model_fields.items():
        if name not in ("workflow_type", "date_range"):
            known = not field.is_required() and field.default not in (None, ())
            assert helps[name].count("Default: ") == known, name
            assert helps[name].lower().count("default") <= 1, name
    assert helps["partition"].endswith(" Default: daily.")
    assert helps["batch_size"].endswith(" Default: 100.")
    assert helps["force_redownload"].endswith(" Default: --no-force-redownload.")
    assert helps["start"].endswith(" Default: yesterday.")


def test_intervals_without_a_type_are_for_every_type() -> None:
    config = config_from_options(
        None,
        markets=("spot",),
        symbols=("BTCUSDT",),
        data_types=("klines",),
        intervals=("1m,1h",),
        output_directory="x",
    )
    assert {tuple(intervals) for intervals in config.intervals.values()} == {("1m", "1h")}


def test_neither_a_file_nor_options_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="missing; give a JSON file"):
        config_from_options(None, markets=(), output_directory=None)


def test_the_last_word_of_a_list_is_completed() -> None:
    context = click.Context(collect)
    option = collect.params[1]
    offered = words(Market)(context, option, "spot,fut")
    assert [item.value for item in offered] == ["spot,futures_um", "spot,futures_cm"]
