"""Pack the entries of many small parts into few objects, so that a query asks for few of them.

A pack is a copy: the parts keep their own entries.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import polars as pl

from binance_archive_kit.storage.record_objects import new_id
from binance_archive_kit.tables.commits import REQUESTS, EntryPack
from binance_archive_kit.tables.manifest import PART_NAME, EntryFile, Part
from binance_archive_kit.tables.part_writer import write_entries
from binance_archive_kit.tables.row_reader import UnreadableFile, footer_crc
from binance_archive_kit.tables.snapshot import STORED_SCHEMA

#: Bytes of entries that are packed together, and below which a pack is packed again with others.
_MOST, _SMALL = 4 << 20, 2 << 20


def due_packs(parts: Sequence[Part], packs: Collection[EntryPack]) -> list[list[Part]]:
    """Return the parts to pack, each list into one object.

    Parts of a symbol come into the same pack if possible. Packs that are large enough stay.

    Parameters
    ----------
    parts : sequence of Part
    packs : collection of EntryPack
        Those that there are.
    """
    large = {name for pack in packs if pack.size >= _SMALL for name in pack.parts}
    small = [part for part in parts if part.entries_size < _SMALL and part.name not in large]
    small.sort(key=lambda part: (part.first_symbol, part.last_symbol, part.first, part.name))
    groups: list[list[Part]] = [[]]
    room = _MOST
    for part in small:
        room -= part.entries_size
        if room < 0:
            groups.append([])
            room = _MOST - part.entries_size
        groups[-1].append(part)
    known = [{*pack.parts} for pack in packs]
    return [
        group
        for group in groups
        if len(group) > 1 and not any({part.name for part in group} <= names for names in known)
    ]


def write_pack(files: Sequence[EntryFile], folder: Path) -> tuple[EntryPack, Path] | None:
    """Write the entries of parts as one file; None if only those of one part can be read.

    Parameters
    ----------
    files : sequence of EntryFile
        One for each part.
    folder : Path
        Where the file is written.
    """
    with ThreadPoolExecutor(REQUESTS, "entries") as pool:
        frames = {
            file.parts[0].name: frame
            for file, frame in zip(files, pool.map(_read, files), strict=True)
            if frame is not None
        }
    if len(frames) < 2:
        return None
    name = f"pack-{new_id()}"
    path = folder / f"{name}.entries.parquet"
    packed = [frame.with_columns(pl.lit(part).alias(PART_NAME)) for part, frame in frames.items()]
    write_entries(path, pl.concat(packed).sort("symbol", "path"))
    return EntryPack(name, path.stat().st_size, footer_crc(path), tuple(frames)), path


def _read(file: EntryFile) -> pl.DataFrame | None:
    # What cannot be read is left to the queries, which say so.
    with suppress(UnreadableFile):
        opened = file.open()
        groups = range(len(opened.starts) - 1)
        frames = [pl.DataFrame(opened.decode(group, STORED_SCHEMA.names())) for group in groups]
        return pl.concat([STORED_SCHEMA.to_frame(), *(each.cast(STORED_SCHEMA) for each in frames)])
    return None
