"""How s5cmd is called; nothing is transferred here."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.download.batches import Copy
from binance_archive_kit.download.command import (
    MOST_WORKERS,
    Command,
    binary,
    choose_workers,
)
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.planning.s5cmd_flags import Flags


def command_of(folder: Path, *arguments: str) -> Command:
    return Command(
        "http://127.0.0.1:1",
        "data.binance.vision",
        "eu-north-1",
        folder,
        flags=Flags.read(arguments),
        max_workers=7,
        part_size=50,
    )


def test_each_flag_is_given_once_and_the_users_flags_win(tmp_path: Path) -> None:
    command = command_of(
        tmp_path,
        *("--no-sign-request", "--json", "--retry-count=5", "--numworkers=16"),
        *("--part-size=100MB", "--endpoint-url=http://other:1"),
    )
    line = command.line(Copy(("data/a.zip",)), tmp_path / "1")
    for words in (command.arguments(), shlex.split(line)):
        names = [word.partition("=")[0] for word in words if word.startswith("-")]
        assert len(names) == len(set(names))
    assert {"--retry-count=5", "--numworkers=16", "--endpoint-url=http://other:1"} <= {
        *command.arguments()
    }
    assert command.arguments()[-1] == "run"
    assert "--part-size=100" in shlex.split(line)
    assert command.workers == 16
    assert "--numworkers=7" in command_of(tmp_path).arguments()


def test_the_environment_has_no_aws_settings_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE", "S3_ENDPOINT_URL"):
        monkeypatch.setenv(name, "the user's")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    environment = command_of(tmp_path).environment
    assert "the user's" not in environment.values()
    assert environment["AWS_REGION"] == "eu-north-1"
    assert "AWS_CA_BUNDLE" not in environment
    assert not any(name.lower().endswith("_proxy") for name in environment)
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "币安人生USDT", "A$B", "A;B", "A&B", "A#B", "A(B"])
def test_lines_are_quoted(tmp_path: Path, symbol: str) -> None:
    folder = tmp_path / "a folder's name"
    command = command_of(folder)
    key = f"data/spot/daily/trades/{symbol}/{symbol}-trades-2025-07-15.zip"
    target = folder / "3"
    line = command.line(Copy((key,)), target)
    *flags, source, destination = shlex.split(line)
    assert flags[0] == "cp"
    assert "--raw" in flags
    assert (source, destination) == (f"s3://data.binance.vision/{key}", str(target))
    assert line.endswith("\n")
    assert line.count("\n") == 1
    pattern = f"data/spot/daily/trades/{symbol}/{symbol}-trades-2025-07-*.zip"
    line = command.line(Copy((key,), pattern), target)
    *flags, source, destination = shlex.split(line)
    assert "--raw" not in flags
    assert (source, destination) == (f"s3://data.binance.vision/{pattern}", f"{target}{os.sep}")


TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(
    [
        *("--source-region", "--endpoint-url", "--numworkers", "--part-size=5", "a\nrm x", "\0"),
        *("--source-region=x\nrm s3://a/b", "--concurrency=" + "9" * 5_000, "\r", "\u2028", "'"),
        *("--retry-count=" + "9" * 20, "-r", "-p", '"', "\\", "\udc80", "--source-region=\x85"),
    ]
)


@given(st.lists(TEXTS, max_size=4))
def test_any_flags_give_one_line_or_an_error(arguments: list[str]) -> None:
    try:
        command = command_of(Path("/tmp/x"), *arguments)
    except ConfigurationError as error:
        message = str(error)
        assert message.startswith("s5cmd_extra_args: ")
        return
    line = command.line(Copy(("data/a.zip",)), Path("/tmp/x/1"))
    assert line[:-1].isprintable()
    assert all(word.isprintable() for word in command.arguments())


@given(TEXTS, TEXTS)
def test_any_key_gives_one_line_or_an_error(key: str, folder: str) -> None:
    command = command_of(Path("/tmp/x"))
    target = Path("/tmp", folder.replace("\0", "\n"), "1")
    try:
        line = command.line(Copy((key,)), target)
    except ConfigurationError:
        return
    assert line.count("\n") == 1
    assert line.endswith("\n")
    line.encode()
    *_, source, destination = shlex.split(line)
    assert (source, destination) == (f"s3://data.binance.vision/{key}", str(target))


# Workers

LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@given(
    sizes=st.lists(st.one_of(st.none(), st.integers(0, 10**9)), max_size=300),
    wanted=st.one_of(st.none(), st.integers(1, 10_000)),
)
def test_workers_are_within_bounds(sizes: list[int | None], wanted: int | None) -> None:
    workers = choose_workers(sizes, wanted)
    assert 1 <= workers <= max(1, len(sizes))
    assert workers <= (wanted or MOST_WORKERS)
    if LIMIT != resource.RLIM_INFINITY:
        assert 4 * workers <= max(4, LIMIT)


@pytest.mark.skipif(0 <= LIMIT < 4 * MOST_WORKERS, reason="few files may be open here")
@pytest.mark.parametrize(
    ("sizes", "wanted", "workers"),
    [
        ([2_000] * 5_000, None, 256),
        ([None] * 5_000, None, 256),
        ([10 << 20] * 5_000, None, 32),
        ([100 << 20] * 5_000, None, 8),
        ([2_000] * 5_000, 10, 10),
        ([100 << 20] * 5_000, 64, 64),
        ([2_000] * 3, None, 3),
        ([], None, 1),
        ([], 5, 1),
    ],
)
def test_workers(sizes: list[int | None], wanted: int | None, workers: int) -> None:
    assert choose_workers(sizes, wanted) == workers


# The binary


def test_the_binary_is_not_the_wrapper() -> None:
    path = binary()
    assert path.is_absolute()
    assert os.access(path, os.X_OK)
    assert path.read_bytes()[:2] != b"#!"
    said = subprocess.run([path, "version"], capture_output=True, text=True, timeout=20, check=True)
    assert said.stdout.startswith("v2.")
