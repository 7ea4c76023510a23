"""Build the commands for s5cmd: batches of copies, arguments and environment.

A wildcard costs one listing, single keys cost a request each. A wildcard must match the objects
to fetch and no others. It therefore covers a month (of days), a year (of months) or ten days only
if all of them were requested and none of them is in the store.
"""

from __future__ import annotations

import calendar
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import groupby
from pathlib import Path

from binance_archive_kit.archive.endpoint import Route, open_file_limit
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import period_end
from binance_archive_kit.errors import ConfigurationError, shown
from binance_archive_kit.paths import has_controls
from binance_archive_kit.planning.date_range import DateRange
from binance_archive_kit.planning.s5cmd_flags import Flags, format_flags
from binance_archive_kit.storage.s5cmd_process import binary

#: The end of a key's stem: year, month if the periods are days, and the first digit if known.
_STEM = re.compile(r"-(\d{4})-(?:(\d{2})-)?(\d?)$")
#: More workers are no faster, even for small objects over a slow connection.
MOST_WORKERS = 256
#: With many retries s5cmd pauses for minutes; `download.transfers` retries instead.
_RETRIES = 2
#: Parts of large objects in flight, over all workers.
_STREAMS = 32


@dataclass(frozen=True, slots=True)
class Copy:
    """One command for s5cmd: an object, or a run of objects by a wildcard.

    Attributes
    ----------
    keys : tuple of str
        The objects to copy.
    pattern : str or None
        Wildcard that matches these objects and no others; None for a single object.
    """

    keys: tuple[str, ...]
    pattern: str | None = None


def make_batches(
    objects: Iterable[tuple[str, bool]], days: DateRange, most: int
) -> Iterator[list[Copy]]:
    """Yield batches of copy commands, lazily.

    Parameters
    ----------
    objects : iterable of (str, bool)
        Keys in the order of the archive, and whether to fetch each.
    days : DateRange
        The requested days; no wildcard covers a period outside of them.
    most : int
        Maximum number of objects in a batch.
    """
    batch: list[Copy] = []
    count = 0
    for copy in _copies(objects, days, most):
        if count + len(copy.keys) > most:
            yield batch
            batch, count = [], 0
        batch.append(copy)
        count += len(copy.keys)
    if batch:
        yield batch


def _copies(
    objects: Iterable[tuple[str, bool]], days: DateRange, most: int, tail: int = len("01.zip")
) -> Iterator[Copy]:
    """Combine adjacent keys that differ only in the last `tail` characters to one wildcard."""
    for stem, group in groupby(objects, key=lambda item: item[0][:-tail]):
        run = list(group)
        keys = tuple(key for key, wanted in run if wanted)
        if 1 < len(keys) == len(run) <= most and is_within(stem, days):
            yield Copy(keys, f"{stem}*.zip")
        elif tail > len("1.zip"):
            yield from _copies(run, days, most, tail - 1)
        else:
            yield from (Copy((key,)) for key in keys)


def is_within(stem: str, days: DateRange) -> bool:
    """Return whether all periods whose key begins with `stem` lie within the requested days.

    >>> is_within("…/BTCUSDT-1h-2025-07-1", DateRange(start="2025-07-10", end="2025-07-31"))
    True
    >>> is_within("…/BTCUSDT-1h-2025-07-", DateRange(start="2025-07-10", end="2025-07-31"))
    False
    """
    found = _STEM.search(stem)
    if found is None:
        return False
    year, month, digit = int(found[1]), int(found[2] or 0), found[3]
    most = calendar.monthrange(year, month)[1] if month else 12
    numbers = [number for number in range(1, most + 1) if f"{number:02}".startswith(digit)]
    if not numbers:
        return False
    if month:
        first, last = date(year, month, numbers[0]), date(year, month, numbers[-1])
    else:
        # A partly requested month may be fetched as days, so all of it must be requested.
        first = date(year, numbers[0], 1)
        last = period_end(date(year, numbers[-1], 1), Partition.MONTHLY)
    return days.start <= first and last <= days.end


def choose_workers(sizes: Sequence[int | None], wanted: int | None = None) -> int:
    """Return the number of files to download at the same time.

    Large for small objects, where latency dominates; small for large objects, each of which
    fills the connection. The open-file limit bounds it.

    Parameters
    ----------
    sizes : sequence of int or None
        Bytes of each object to fetch; None where unknown.
    wanted : int, optional
        The user's choice; replaces the other rules, within the open-file limit.
    """
    known = [size for size in sizes if size is not None]
    mean = sum(known) / len(known) if known else 0
    fitting = MOST_WORKERS if mean < 1 << 20 else 32 if mean < 32 << 20 else 8
    # s5cmd raises its own limit to the hard one.
    return max(1, min(wanted or fitting, open_file_limit(hard=True) // 4, len(sizes) or 1))


@dataclass(frozen=True)
class Command:
    """The command line and environment of s5cmd for the objects of one bucket.

    Attributes
    ----------
    endpoint, bucket, region : str
    folder : Path
        Private to one run; s5cmd writes the files below it.
    flags : Flags
        The user's flags; they override the others.
    max_workers : int
        Files in flight, unless set by the flags.
    part_size : int
        MiB.
    """

    endpoint: str
    bucket: str
    region: str
    folder: Path
    flags: Flags
    max_workers: int
    part_size: int

    @property
    def workers(self) -> int:
        """Files in flight."""
        return int(self.flags.general.get("--numworkers") or self.max_workers)

    def arguments(self) -> list[str]:
        """Return the command line of a process that reads copies from its standard input."""
        general: dict[str, str | None] = {
            "--json": None,
            "--no-sign-request": None,
            "--endpoint-url": self.endpoint,
            "--retry-count": str(_RETRIES),
            **self.flags.general,
            "--numworkers": str(self.workers),
        }
        return [str(binary()), *format_flags(general), "run"]

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment of the process, with the trust store and proxy of the endpoint.

        It has none of the user's AWS settings, which could break anonymous reads. Writes the
        certificates of the trust store into `folder`.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AWS_")
            and name != "S3_ENDPOINT_URL"
            and not name.lower().endswith("_proxy")
        }
        if self.route.certificates is not None:
            bundle = self.folder / "authorities.pem"
            bundle.write_text(self.route.certificates, encoding="ascii")
            environment["AWS_CA_BUNDLE"] = str(bundle)
        if self.route.proxy is not None:
            environment["HTTP_PROXY"] = environment["HTTPS_PROXY"] = self.route.proxy
        return environment | {
            "AWS_REGION": self.region,  # saves a request for the bucket's region
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "GOGC": "400",
        }

    @cached_property
    def route(self) -> Route:
        """The route to the endpoint."""
        return Route.to(self.endpoint)

    @cached_property
    def _copy_flags(self) -> list[str]:
        flags: dict[str, str | None] = {
            "--part-size": str(self.part_size),
            # Parts of one object in flight; with many objects, one each is fastest.
            "--concurrency": str(max(1, _STREAMS // self.workers)),
            **self.flags.copy,
        }
        return format_flags(flags)

    def line(self, copy: Copy, target: Path) -> str:
        """Return the input line for one copy.

        Parameters
        ----------
        copy : Copy
        target : Path
            The file to write; for a wildcard, the folder of the files.
        """
        if copy.pattern is None:
            flags, source, destination = ["--raw"], copy.keys[0], str(target)
        else:
            flags, source, destination = [], copy.pattern, f"{target}{os.sep}"
        words = ["cp", *self._copy_flags, *flags, self.uri(source), destination]
        line = " ".join(map(shlex.quote, words))
        if has_controls(line):
            # A line end would start another command.
            raise ConfigurationError(
                f"s5cmd cannot copy {shown(source)} to {shown(destination)}: the names have "
                "control characters or line ends; choose another output_directory"
            )
        return f"{line}\n"

    def uri(self, key: str) -> str:
        """Return the URI of an object; for an empty key, that of the bucket."""
        return f"s3://{self.bucket}/{key}"
