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
    from binance_archive_kit.collection import acollect as acollect
    from binance_archive_kit.collection import aplan as aplan
    from binance_archive_kit.collection import collect as collect
    from binance_archive_kit.collection import plan as plan
    from binance_archive_kit.config import CollectionConfig as CollectionConfig
    from binance_archive_kit.covering import backtest_coverage as backtest_coverage
    from binance_archive_kit.covering import coverage as coverage
    from binance_archive_kit.datasets import connect as connect
    from binance_archive_kit.datasets import scan as scan
    from binance_archive_kit.datasets import store as store
    from binance_archive_kit.demo import demo_archive as demo_archive
    from binance_archive_kit.demo import demo_config as demo_config
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
    from binance_archive_kit.joins import join_known as join_known
    from binance_archive_kit.joins import known_at as known_at
    from binance_archive_kit.layout import BaseStorage as BaseStorage
    from binance_archive_kit.loaders import klines_with_funding as klines_with_funding
    from binance_archive_kit.loaders import load_klines as load_klines
    from binance_archive_kit.loaders import ohlcv as ohlcv
    from binance_archive_kit.metrics import MetricsCollector as MetricsCollector
    from binance_archive_kit.queries import sql as sql
    from binance_archive_kit.verifying import verify as verify
    from binance_archive_kit.widgets import ConfigForm as ConfigForm

#: Where each public name is defined.
_HOMES = {
    "acollect": "collection",
    "aplan": "collection",
    "collect": "collection",
    "plan": "collection",
    "CollectionConfig": "config",
    "backtest_coverage": "covering",
    "coverage": "covering",
    "connect": "datasets",
    "klines_with_funding": "loaders",
    "load_klines": "loaders",
    "ohlcv": "loaders",
    "scan": "datasets",
    "store": "datasets",
    "demo_archive": "demo",
    "demo_config": "demo",
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
    "join_known": "joins",
    "known_at": "joins",
    "BaseStorage": "layout",
    "MetricsCollector": "metrics",
    "sql": "queries",
    "verify": "verifying",
    "ConfigForm": "widgets",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
