from .archive.absence import Absence, Reason
from .archive.enums import DataType, Interval, Market, Partition
from .archive.schemas import Column, Schema, schema
from .charts.candle_chart import candles
from .charts.line_chart import lines
from .collection.collect import acollect, collect
from .collection.sharding import shards
from .demo.archive import DemoArchive, demo_archive, demo_config
from .download.events import MetricsCollector
from .download.result import CollectionResult
from .errors import (
    ArchiveKitError,
    ArchiveKitWarning,
    ConfigurationError,
    CoverageError,
    DiskSpaceError,
    FieldProblem,
    FileError,
    ListingError,
    MissingExtraError,
    ObjectError,
    StoreError,
    WorkflowError,
)
from .export.engine_export import EngineExport
from .export.freqtrade_files import to_freqtrade
from .export.nautilus_catalog import to_nautilus
from .export.pandas_frames import to_pandas
from .export.parquet_folder import to_parquet
from .export.result import ParquetExport
from .export.wide_frames import panel
from .form.archive_catalog import Catalog, catalog
from .form.widget import ConfigForm
from .planning.config import CollectionConfig
from .planning.date_range import DateRange
from .planning.plan import Plan
from .planning.planner import aplan, plan
from .planning.universe import universe
from .quality.backtest import BacktestCoverage
from .quality.coverage import backtest_coverage, coverage
from .quality.report import CoverageReport
from .quality.timeline import FindingKind, GapKind
from .query.derivatives import klines_with_derivatives
from .query.joins import join_known, known_at
from .query.labels import forward_returns
from .query.loaders import klines_with_funding, load_klines, ohlcv
from .query.open_store import OpenStore, StorePart, connect, scan, store
from .query.scan_reader import ScanReport
from .query.spot_basis import basis
from .query.sql import sql
from .query.trade_bars import dollar_bars, volume_bars
from .storage.layout import BaseStorage
from .storage.skipped import SkippedFile
from .storage.verify import Verification, verify
from .tables.tables import TableUse
from .upkeep.deletion import prune
from .upkeep.deletion_result import Pruning
from .upkeep.updating import update

__all__ = [
    "Absence",
    "ArchiveKitError",
    "ArchiveKitWarning",
    "BacktestCoverage",
    "BaseStorage",
    "Catalog",
    "CollectionConfig",
    "CollectionResult",
    "Column",
    "ConfigForm",
    "ConfigurationError",
    "CoverageError",
    "CoverageReport",
    "DataType",
    "DateRange",
    "DemoArchive",
    "DiskSpaceError",
    "EngineExport",
    "FieldProblem",
    "FileError",
    "FindingKind",
    "GapKind",
    "Interval",
    "ListingError",
    "Market",
    "MetricsCollector",
    "MissingExtraError",
    "ObjectError",
    "OpenStore",
    "ParquetExport",
    "Partition",
    "Plan",
    "Pruning",
    "Reason",
    "ScanReport",
    "Schema",
    "SkippedFile",
    "StoreError",
    "StorePart",
    "TableUse",
    "Verification",
    "WorkflowError",
    "__version__",
    "acollect",
    "aplan",
    "backtest_coverage",
    "basis",
    "candles",
    "catalog",
    "collect",
    "connect",
    "coverage",
    "demo_archive",
    "demo_config",
    "dollar_bars",
    "forward_returns",
    "join_known",
    "klines_with_derivatives",
    "klines_with_funding",
    "known_at",
    "lines",
    "load_klines",
    "ohlcv",
    "panel",
    "plan",
    "prune",
    "scan",
    "schema",
    "shards",
    "sql",
    "store",
    "to_freqtrade",
    "to_nautilus",
    "to_pandas",
    "to_parquet",
    "universe",
    "update",
    "verify",
    "volume_bars",
]

__version__: str
