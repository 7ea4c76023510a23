"""Compare the files of a store with their recorded proofs, in one frame for planning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter

import polars as pl

from binance_archive_kit.storage.databases import Row
from binance_archive_kit.storage.proof import Stamp

#: Columns of `Inventory.frame`: a file, and what was recorded when it was proven.
INVENTORY_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "file_size": pl.Int64,
        "proven_size": pl.Int64,
        # Whether the file has the recorded stamp; null without a proof.
        "unchanged": pl.Boolean,
        "proven_etag": pl.String,
        "proven_by": pl.String,
    }
)


def compare_with_proofs(files: Sequence[tuple[str, Stamp]], proofs: Sequence[Row]) -> pl.DataFrame:
    """Join files with their proofs, and compare their stamps.

    Parameters
    ----------
    files : sequence of (str, Stamp)
        Keys of the files, and their stamps.
    proofs : sequence of tuple
        Key, stamp, ETag and kind of each proof.

    Returns
    -------
    polars.DataFrame
        One row per file, with `INVENTORY_SCHEMA`.
    """
    fields = dict.fromkeys(Stamp._fields, pl.Int64)
    proven = {f"proven_{name}": dtype for name, dtype in fields.items()}
    text = {"proven_etag": pl.String, "proven_by": pl.String}
    found = _frame([stamp for _, stamp in files], fields)
    found.insert_column(0, pl.Series("key", [key for key, _ in files], pl.String))
    recorded = _frame(proofs, {"key": pl.String, **proven, **text})
    return (
        found.join(recorded, on="key", how="left")
        .with_columns(pl.all_horizontal(map(_agrees, Stamp._fields)).alias("unchanged"))
        .rename({"size": "file_size"})
        .select(INVENTORY_SCHEMA.names())
    )


def _agrees(name: str) -> pl.Expr:
    """Compare one field of the stamps of file and proof, as `Stamp.agrees` does."""
    file, proof = pl.col(name), pl.col(f"proven_{name}")
    if name not in Stamp._field_defaults:
        return file == proof
    # Null in a record of an older version.
    return (file == proof) | (file == 0) | (proof.fill_null(0) == 0)


def _frame(
    rows: Sequence[Row], schema: Mapping[str, pl.DataType | type[pl.DataType]]
) -> pl.DataFrame:
    """Build a frame column by column, which takes a tenth of the time that rows take."""
    columns = {name: list(map(itemgetter(index), rows)) for index, name in enumerate(schema)}
    return pl.DataFrame(columns, schema)
