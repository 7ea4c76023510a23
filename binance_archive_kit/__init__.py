"""Collect the Binance public archive, prove every file, and query it in notebooks.

Names are loaded on first use, so that the import itself costs next to nothing.

>>> import binance_archive_kit as bak
>>> config = bak.CollectionConfig(
...     markets=["spot"], symbols=["BTCUSDT"], data_types=["klines"],
...     intervals={"klines": ["1h"]}, output_directory="data/research",
... )
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from binance_archive_kit.demo.archive import demo_archive as demo_archive
    from binance_archive_kit.demo.archive import demo_config as demo_config
    from binance_archive_kit.download.collect import acollect as acollect
    from binance_archive_kit.download.collect import collect as collect
    from binance_archive_kit.download.events import MetricsCollector as MetricsCollector
    from binance_archive_kit.errors import ArchiveKitError as ArchiveKitError
    from binance_archive_kit.errors import ArchiveKitWarning as ArchiveKitWarning
    from binance_archive_kit.errors import ConfigurationError as ConfigurationError
    from binance_archive_kit.errors import CoverageError as CoverageError
    from binance_archive_kit.errors import DiskSpaceError as DiskSpaceError
    from binance_archive_kit.errors import FileError as FileError
    from binance_archive_kit.errors import ListingError as ListingError
    from binance_archive_kit.errors import MissingExtraError as MissingExtraError
    from binance_archive_kit.errors import ObjectError as ObjectError
    from binance_archive_kit.errors import StoreError as StoreError
    from binance_archive_kit.errors import WorkflowError as WorkflowError
    from binance_archive_kit.form.widget import ConfigForm as ConfigForm
    from binance_archive_kit.planning.config import CollectionConfig as CollectionConfig
    from binance_archive_kit.planning.planner import aplan as aplan
    from binance_archive_kit.planning.planner import plan as plan
    from binance_archive_kit.quality.coverage import backtest_coverage as backtest_coverage
    from binance_archive_kit.quality.coverage import coverage as coverage
    from binance_archive_kit.query.joins import join_known as join_known
    from binance_archive_kit.query.joins import known_at as known_at
    from binance_archive_kit.query.loaders import klines_with_funding as klines_with_funding
    from binance_archive_kit.query.loaders import load_klines as load_klines
    from binance_archive_kit.query.loaders import ohlcv as ohlcv
    from binance_archive_kit.query.open_store import connect as connect
    from binance_archive_kit.query.open_store import scan as scan
    from binance_archive_kit.query.open_store import store as store
    from binance_archive_kit.query.sql import sql as sql
    from binance_archive_kit.storage.layout import BaseStorage as BaseStorage
    from binance_archive_kit.storage.verify import verify as verify

#: Where each public name is defined.
_HOMES = {
    "acollect": "download.collect",
    "aplan": "planning.planner",
    "collect": "download.collect",
    "plan": "planning.planner",
    "CollectionConfig": "planning.config",
    "backtest_coverage": "quality.coverage",
    "coverage": "quality.coverage",
    "connect": "query.open_store",
    "klines_with_funding": "query.loaders",
    "load_klines": "query.loaders",
    "ohlcv": "query.loaders",
    "scan": "query.open_store",
    "store": "query.open_store",
    "demo_archive": "demo.archive",
    "demo_config": "demo.archive",
    "ArchiveKitError": "errors",
    "ArchiveKitWarning": "errors",
    "ConfigurationError": "errors",
    "CoverageError": "errors",
    "DiskSpaceError": "errors",
    "FileError": "errors",
    "ListingError": "errors",
    "MissingExtraError": "errors",
    "ObjectError": "errors",
    "StoreError": "errors",
    "WorkflowError": "errors",
    "join_known": "query.joins",
    "known_at": "query.joins",
    "BaseStorage": "storage.layout",
    "MetricsCollector": "download.events",
    "sql": "query.sql",
    "verify": "storage.verify",
    "ConfigForm": "form.widget",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
