"""Each object has its action and the reason."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    Stream,
)
from binance_archive_kit.planning.decide import decide
from binance_archive_kit.planning.plan import PLAN_SCHEMA
from tests.support.planning import (
    BOTH,
    NOTHING,
    OTHER,
    PAIR,
    config_of,
    days,
    inventory_frame,
    objects_frame,
    plan_of,
)

UNPROVEN = {"proven_size": None, "unchanged": None, "proven_etag": None, "proven_by": None}
UNLISTED = {"size": None, "etag": None, "last_modified": None, "checksum": None}


@pytest.mark.parametrize(
    ("on_disk", "listed", "settings", "action", "reason"),
    [
        # The lines of the docstring, in order.
        (None, {}, {}, "download", "new"),
        ({}, {}, {"force_redownload": True}, "update", "forced"),
        ({}, {}, {"enable_resume": False}, "update", "forced"),
        ({"file_size": 99, "unchanged": False}, {}, {}, "update", "size differs"),
        (UNPROVEN, {}, {}, "keep", "to be proven"),
        ({"proven_size": 99, "unchanged": False}, {}, {}, "keep", "to be proven"),
        ({"unchanged": False}, {"etag": OTHER}, {}, "keep", "to be proven"),
        ({"unchanged": False}, {}, {}, "keep", "to be hashed"),
        ({"proven_by": "etag"}, {}, {}, "keep", "to be proven"),
        ({}, {"etag": OTHER}, {}, "update", "re-issued"),
        ({}, {}, {}, "keep", "proven"),
        ({}, UNLISTED, {}, "keep", "proven"),
        # New, whatever else is set.
        (None, {}, {"force_redownload": True}, "download", "new"),
        (None, UNLISTED, {}, "download", "new"),
        (None, {"etag": None}, {"enable_resume": False}, "download", "new"),
        # Force wins over every state of the file.
        (UNPROVEN, {}, {"force_redownload": True}, "update", "forced"),
        ({"file_size": 99, "unchanged": False}, {}, {"force_redownload": True}, "update", "forced"),
        ({}, UNLISTED, {"enable_resume": False}, "update", "forced"),
        # Another size, proven before or not.
        ({"file_size": 0, **UNPROVEN}, {}, {}, "update", "size differs"),
        ({}, {"size": 101}, {}, "update", "size differs"),
        ({}, {"size": 101, "etag": OTHER}, {}, "update", "re-issued"),
        ({"file_size": 99, "unchanged": False}, {"etag": OTHER}, {}, "update", "size differs"),
        # A moved file is hashed, if its proof is as strong as asked for.
        ({"unchanged": False}, UNLISTED, {}, "keep", "to be hashed"),
        ({"unchanged": False, "proven_by": "etag"}, {}, {}, "keep", "to be proven"),
        ({"unchanged": False, "proven_etag": None}, {}, {}, "keep", "to be proven"),
        ({"unchanged": False}, {}, {"force_redownload": True}, "update", "forced"),
        # An unproven file is proven before anything is fetched.
        (UNPROVEN, {"etag": OTHER}, {}, "keep", "to be proven"),
        (UNPROVEN, UNLISTED, {}, "keep", "to be proven"),
        # How strong a proof must be.
        ({"proven_by": "size"}, {}, {}, "keep", "to be proven"),
        ({"proven_by": "stale"}, {}, {}, "keep", "to be proven"),
        ({"proven_by": "etag"}, {}, {"download_checksum": False}, "keep", "proven"),
        ({"proven_by": "size"}, {}, {"download_checksum": False}, "keep", "proven"),
        ({"proven_by": "stale"}, {}, {"accept_stale_checksum": True}, "keep", "proven"),
        ({"proven_by": "etag"}, {}, {"accept_stale_checksum": True}, "keep", "to be proven"),
        (
            {"proven_by": "etag"},
            {"etag": OTHER},
            {"download_checksum": False},
            "update",
            "re-issued",
        ),
        (UNPROVEN, {}, {"download_checksum": False}, "keep", "to be proven"),
        ({"proven_by": "sha256"}, {}, {"accept_stale_checksum": True}, "keep", "proven"),
        # A listing without ETag says nothing of the bytes.
        ({}, {"etag": None}, {}, "keep", "proven"),
        # Nor does a proof without one: it was made while the archive was not asked.
        ({"proven_etag": None}, {}, {}, "keep", "to be proven"),
        ({"proven_etag": None}, {"etag": None}, {}, "keep", "proven"),
        ({"proven_etag": None}, {"size": 101}, {}, "update", "size differs"),
    ],
)
def test_decide(
    on_disk: dict[str, Any] | None,
    listed: dict[str, Any],
    settings: dict[str, Any],
    action: str,
    reason: str,
) -> None:
    inventory = NOTHING if on_disk is None else inventory_frame(**on_disk)
    decided = decide(objects_frame(**listed), inventory, config_of(**settings))
    assert decided.schema == PLAN_SCHEMA
    assert decided.select("action", "reason").rows() == [(action, reason)]


def test_decide_keeps_the_order_and_ignores_other_files() -> None:
    objects = pl.concat([objects_frame(key=f"data/{name}.zip") for name in "cab"])
    inventory = pl.concat([inventory_frame(key=f"data/{name}.zip") for name in "xa"])
    decided = decide(objects, inventory, config_of())
    assert decided.select("key", "action").rows() == [
        ("data/c.zip", "download"),
        ("data/a.zip", "keep"),
        ("data/b.zip", "download"),
    ]


def test_a_plan_of_many_objects_is_quick() -> None:
    config = config_of(markets=BOTH, symbols=PAIR, date_range=days("2020-01-01", "2025-07-31"))
    plan = plan_of(config, listed=False)
    assert len(plan) > 100_000
    assert plan.frame["key"].n_unique() == len(plan)


def test_streams_name_themselves() -> None:
    stream = Folder(Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1), Partition.DAILY)
    assert str(stream) == "spot klines BTCUSDT 1h (daily)"
