"""Parse csv text into a frame with the columns of its feed."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from decimal import Decimal

import polars as pl

from binance_archive_kit.errors import FileError, WrongValues
from binance_archive_kit.reading.feed_table import PLACES, FeedTable
from binance_archive_kit.reading.file_stats import Irregularity
from binance_archive_kit.reading.unzip import CsvChunk, Unzipper, without_blank_lines

#: More digits than a decimal keeps, and numbers with a negative exponent.
_MANY_PLACES = re.compile(rb"\.\d{%d}0*[1-9]" % PLACES)
_SMALL_NUMBER = re.compile(rb"[-+.\d]+[eE]-\d+")


class CsvParser:
    """Parses the csv of one feed's files.

    Parameters
    ----------
    feed : FeedTable
    unzipper : Unzipper
        Finds the row that has the wrong number of fields.
    """

    def __init__(self, feed: FeedTable, unzipper: Unzipper) -> None:
        self._feed = feed
        self._unzipper = unzipper

    def parse(
        self, texts: Sequence[CsvChunk], names: Collection[str]
    ) -> tuple[pl.DataFrame, list[CsvChunk]]:
        """Parse some of the csv columns of files with one layout, as one frame.

        Times since 1970 stay numbers.

        Returns
        -------
        (polars.DataFrame, list of CsvChunk)
            The chunks have no blank lines.

        Raises
        ------
        WrongColumns, WrongValues
        """
        if self._feed.decimals:
            for text in texts:
                _check_places(text)
        try:
            frame = self._parse(texts, names)
        except FileError:
            body = without_blank_lines(texts[0])
            if len(texts) > 1 or len(body) == len(texts[0].body):
                raise
            odd = texts[0].odd | {Irregularity.BLANK_LINE}
            texts = [replace(texts[0], body=body, odd=odd)]
            frame = self._parse(texts, names)
        return frame, list(texts)

    def _parse(self, texts: Sequence[CsvChunk], names: Collection[str]) -> pl.DataFrame:
        columns = list(self._feed.csv_types.items())
        layout = texts[0].layout
        positions = range(len(columns)) if layout is None else layout.positions
        if layout is not None:
            # No column of a feed has a name that begins with a blank.
            fields: list[tuple[str, pl.DataType]] = [
                (f" {index}", pl.String()) for index in range(layout.fields)
            ]
            for position, column in zip(positions, columns, strict=True):
                fields[position] = column
        body = texts[0].body if len(texts) == 1 else b"".join(text.body for text in texts)
        name = texts[0].task.file.path
        try:
            frame = pl.read_csv(
                body,
                has_header=False,
                schema=dict(columns if layout is None else fields),
                columns=sorted(
                    position
                    for position, (column, _) in zip(positions, columns, strict=True)
                    if column in names
                ),
                extra_columns="raise",
                missing_columns="raise",
            )
        except pl.exceptions.PolarsError as error:
            for text in texts:
                self._unzipper.check_rows(text)
            raise WrongValues(name, str(error).partition("\n")[0]) from None
        if frame.height != sum(text.rows for text in texts):
            raise WrongValues(name, "its rows are not one to a line")
        return frame


def _check_places(text: CsvChunk) -> None:
    """Check that no number has more decimal places than are kept."""
    found = _MANY_PLACES.search(text.body)
    number = None if found is None else found[0].decode()
    for small in _SMALL_NUMBER.findall(text.body):
        exponent = Decimal(small.decode()).normalize().as_tuple().exponent
        if isinstance(exponent, int) and -exponent > PLACES:
            number = small.decode()
    if number is not None:
        raise WrongValues(
            text.task.file.path,
            f"a number has more than {PLACES} decimal places (…{number}), which decimals=True "
            "cannot keep exactly; decimals=False reads it",
        )
