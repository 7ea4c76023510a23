"""Collect the Binance public archive, prove every file, and query it in notebooks.

Names are loaded on first use, so the import itself is cheap.

>>> import binance_archive_kit as bak
>>> config = bak.CollectionConfig(
...     markets=["spot"], symbols=["BTCUSDT"], data_types=["klines"],
...     intervals={"klines": ["1h"]}, output_directory="data/research",
... )

How data flow::

    config ──> requests ─┐
    bucket ──> listing ──┼─> plan ──> s5cmd ──> proof ──> store
    store ──> inventory ─┘                                  │
                                 ┌──────────────────────────┘
                                 └─> zips ──> checked rows ─┬─> Polars, DuckDB, Parquet
                                                 │          └─> gaps, coverage
                                                 └─> tables ──> Polars, DuckDB, Parquet

The packages, from the ground up; each imports only from lower ones::

    errors, forks, garbage, paths, timestamps, suggestions
                 errors; forked processes; a pause of the collector; parsing of paths and times;
                 valid values
    display      summaries of results, progress, background work
    archive      what Binance publishes (keys, feeds, schemas, listing, digests); how to reach it
    storage      folder or bucket: where a file lies, proof, records, quarantine, verify
    planning     what a configuration asks for, compared with listing and store: the plan
    reading      zips to checked rows; statistics and profiles of files
    tables       the rows of many files in a few Parquet files
    download     carry out a plan: copy with s5cmd, prove, retry, report
    query        rows on demand, from tables and files: scan, SQL, loaders, bars, labels
    form         the form and the catalogue in a notebook
    demo         an archive on this machine, with known flaws
    collection   collect a request, on this machine or spread over workers
    quality      gaps, coverage and fitness for a backtest
    charts       candles with their gaps, lines of many symbols
    export       wide frames of many symbols, Parquet and backtest engines, checked for gaps
    upkeep       bring a store up to date, free its space
    workflow     the documented names, and a Prefect flow
    cli          the command ``binance-archive``; ``__main__`` runs it by ``python -m``
"""

from typing import Any

from lazy_loader import attach_stub

# Notes the forks of this process from now on.
from binance_archive_kit import forks as _forks  # noqa: F401

__version__ = "0.1.0"

# The names are listed in __init__.pyi, for type checkers too.
_load, _, __all__ = attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _load(name)
    from binance_archive_kit.suggestions import nearest

    guess = None if name.startswith("_") else nearest(name, __all__)
    hint = f"; did you mean {guess!r}?" if guess else ""
    raise AttributeError(f"{__name__} has no attribute {name}{hint}")


def __dir__() -> list[str]:
    return sorted(__all__)
