"""Fields of a form to start from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.form import model
from binance_archive_kit.form.model import Fields
from binance_archive_kit.planning.config import CollectionConfig

MATRIX = load_matrix()
NOW = datetime(2025, 7, 16, 12, tzinfo=UTC)
START = model.starting_fields(NOW.date()) | {"symbols": ["BTCUSDT"]}


def fields_of(**changes: Any) -> Fields:
    return {name: value for name, value in (START | changes).items() if value is not None}


def as_given(config: CollectionConfig) -> CollectionConfig:
    """Return a configuration itself, for `read_fields`."""
    return config
