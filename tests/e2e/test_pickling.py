"""What the public functions return can be pickled, as process pools and notebooks do."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import ChangedFile, NotFound
from binance_archive_kit.export.engine_export import FILES_SCHEMA, EngineExport
from binance_archive_kit.form.archive_catalog import Catalog
from binance_archive_kit.query.scan_reader import ScanReport
from tests.e2e.conftest import Ask, Serve
from tests.e2e.test_storage import ByDay
from tests.support.bucket import daily_klines


def copy_of(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def test_results_and_stores_are_equal_after_pickling(serve: Serve, ask: Ask, store: Path) -> None:
    config = ask(serve(daily_klines("BTCUSDT")), days=6)
    result = bak.collect(config)
    opened = bak.store(store)
    values = [
        config,
        bak.plan(config),
        result,
        bak.coverage(store),
        bak.backtest_coverage(store),
        bak.verify(store),
        opened,
        opened["spot"],
        *bak.plan(config).missing,
        bak.schema("spot", "klines"),
    ]
    for value in values:
        assert str(copy_of(value)) == str(value)
    again = copy_of(result)
    assert list(again.output_files) == list(result.output_files)
    assert again.collection_stats == result.collection_stats
    assert copy_of(opened)["spot"]["klines"].frame().equals(opened["spot"]["klines"].frame())


def test_a_result_keeps_its_storage(serve: Serve, ask: Ask) -> None:
    result = bak.collect(ask(serve(daily_klines("BTCUSDT"))), storage=ByDay("mine"))
    paths = list(copy_of(result).output_files)
    assert paths == list(result.output_files)
    assert all(Path(path).is_file() for path in paths)


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Make a value of each public type, most of them from a small store."""
    folder = tmp_path_factory.mktemp("pickling") / "store"
    with bak.DemoArchive() as url:
        config = bak.CollectionConfig(
            markets=["spot"],
            symbols=["BTCUSDT"],
            data_types=["klines"],
            intervals={"klines": ["1h"]},
            start="2025-07-01",
            end="2025-07-20",
            output_directory=folder,
            endpoint_url=url,
        )
        result = bak.collect(config)
    store = bak.store(folder)
    opened = store["spot"]["klines"]["BTCUSDT"]
    error: Any = bak.ConfigurationError(bak.FieldProblem("symbols", "empty"))
    report = bak.coverage(folder)
    return {
        "Absence": result.missing[0] if result.missing else result.not_published[0],
        "ArchiveKitError": bak.ArchiveKitError("why"),
        "ArchiveKitWarning": bak.ArchiveKitWarning("why"),
        "BacktestCoverage": bak.backtest_coverage(folder),
        "BaseStorage": ByDay("mine"),
        "CollectionConfig": config,
        "CollectionResult": result,
        "Column": bak.schema("spot", "klines").columns[0],
        "ConfigurationError": error,
        "CoverageError": bak.CoverageError("why"),
        "CoverageReport": report,
        "DataType": bak.DataType.KLINES,
        "DateRange": config.date_range,
        "DemoArchive": bak.DemoArchive(),
        "DiskSpaceError": bak.DiskSpaceError("why"),
        "EngineExport": EngineExport("freqtrade", folder, pl.DataFrame(schema=FILES_SCHEMA)),
        "FieldProblem": error.problems[0],
        "FileError": ChangedFile("a.zip", "why"),
        "FindingKind": bak.FindingKind(next(iter(bak.FindingKind))),
        "GapKind": bak.GapKind(next(iter(bak.GapKind))),
        "Interval": bak.Interval.H1,
        "ListingError": bak.ListingError("why"),
        "Market": bak.Market.SPOT,
        "MetricsCollector": bak.MetricsCollector(),
        "MissingExtraError": bak.MissingExtraError("prefect", "a flow"),
        "ObjectError": NotFound("a.zip", "why"),
        "OpenStore": store,
        "ParquetExport": bak.to_parquet(folder, folder.parent / "lake"),
        "Partition": bak.Partition.DAILY,
        "Plan": result.plan,
        "Pruning": bak.prune(folder, data_type="klines"),
        "Reason": bak.Reason.ABSENT,
        "ScanReport": ScanReport("spot_klines"),
        "Schema": bak.schema("spot", "klines"),
        "SkippedFile": bak.SkippedFile("a.txt", "why", "remove it"),
        "StoreError": bak.StoreError("why"),
        "StorePart": opened,
        "TableUse": store.build(),
        "Verification": bak.verify(folder),
        "WorkflowError": bak.WorkflowError("why", result),
    }


#: Public types of which no value can be sent: they belong to a notebook.
WIDGETS = ("Catalog", "ConfigForm")
TYPES = [name for name in bak.__all__ if isinstance(getattr(bak, name), type)]


@pytest.mark.parametrize("name", [name for name in TYPES if name not in WIDGETS])
def test_a_public_value_works_after_pickling(public: dict[str, Any], name: str) -> None:
    value = public[name]
    assert isinstance(value, getattr(bak, name))
    copy = copy_of(value)
    assert type(copy) is type(value)
    if type(value).__repr__ is not object.__repr__:
        assert repr(copy) == repr(value)
    if hasattr(value, "_repr_html_"):
        assert copy._repr_html_() == value._repr_html_()
    for attribute in ("frame", "files", "result", "problems", "events"):
        if isinstance(found := getattr(value, attribute, None), pl.DataFrame | tuple | list):
            same = getattr(copy, attribute)
            assert same.equals(found) if isinstance(found, pl.DataFrame) else same == found


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_says_why_it_cannot_be_pickled(name: str) -> None:
    widget = bak.ConfigForm() if name == "ConfigForm" else Catalog({"markets": ["spot"]})
    with pytest.raises(TypeError, match=f"a {name} is connected to its notebook.*its config"):
        pickle.dumps(widget)
    widget.close()


def test_an_archive_that_is_served_says_so() -> None:
    with bak.DemoArchive() as url:
        assert url
    archive = bak.DemoArchive()
    archive.start()
    with pytest.raises(TypeError, match="give its url to other processes"):
        pickle.dumps(archive)
    archive.stop()
