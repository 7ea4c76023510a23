"""A plan counts its objects and reads well."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.planning.decide import decide
from binance_archive_kit.planning.plan import Action, Plan
from tests.support.planning import (
    BOTH,
    NOTHING,
    World,
    block,
    config_of,
    days,
    inventory_frame,
    objects_frame,
    plan_of,
)


@pytest.mark.parametrize("name", ["liquidations"])
def test_an_empty_plan_claims_no_success(name: str) -> None:
    plan = plan_of(block(name))
    assert bool(plan)
    for text in (plan.headline(), str(plan), plan._repr_html_()):
        assert "Nothing to collect" in text
        assert not any(word in text.lower() for word in ("success", "complete", "proven", "done"))
    assert "did you mean" in str(plan)
    assert plan.total_bytes == 0


def test_a_plan_reads_well() -> None:
    hole = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-10.zip"
    config = config_of(
        markets=BOTH,
        data_types=["trades", "bookTicker"],
        date_range=days("2025-07-09", "2025-07-11"),
    )
    plan = plan_of(config, World(holes=frozenset({hole})))
    assert plan.headline() == "5 objects: 5 to download; 4.9 KB to fetch"
    text = str(plan)
    row = "spot trades daily 2 2 0 0 2.0 KB 2025-07-09 to 2025-07-11"
    assert row in " ".join(text.split())
    assert "1 missing (could exist, the archive does not have it): 1 absent" in text
    assert "2 unavailable (cannot exist)" in text
    assert repr(plan) == f"Plan({plan.headline()})"
    unlisted = plan_of(config, listed=False)
    assert unlisted.headline().endswith("size unknown")
    assert "unknown" in unlisted._repr_html_()


def test_html_escapes_what_comes_from_outside() -> None:
    hostile = Absence(
        Market.SPOT, DataType.TRADES, Reason.ABSENT, "<script>x</script>", *(date(2025, 7, 1),) * 2
    )
    frame = decide(objects_frame(), NOTHING, config_of())
    plan = Plan(config_of(), frame, missing=(hostile,), notes=("<img src=x onerror=y>",))
    html = plan._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


def test_a_long_list_of_absences_is_cut_with_a_count() -> None:
    config = config_of(data_types=["trades"], date_range=days("2025-09-01", "2025-12-31"))
    plan = plan_of(config)
    assert "… and 116 more" in str(plan)
    assert str(plan).count("not published yet") <= 7


def test_a_plan_counts_its_actions() -> None:
    config = config_of(data_types=["trades"], date_range=days("2025-07-14", "2025-07-16"))
    stale = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-16.zip"
    inventory = pl.concat(
        [
            inventory_frame(file_size=1_000, proven_size=1_000, proven_etag="0" * 32),
            inventory_frame(key=stale, file_size=5),
        ]
    )
    plan = plan_of(config, inventory=inventory)
    assert [plan.count(action) for action in Action] == [1, 1, 1]
    assert plan.count("keep") == 1
    assert plan.total_bytes == 3_000
    assert plan.download_bytes == 2_000
    assert plan.headline() == ("3 objects: 1 to download, 1 to update, 1 to keep; 2.0 KB to fetch")
