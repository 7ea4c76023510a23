"""The README is true: its code runs, and what it says is printed is printed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Market, Partition
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.cli.main import COMMANDS
from binance_archive_kit.cli.output import Exit
from binance_archive_kit.quality.timeline import GapKind

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
[PRINTED] = [text for language, text in BLOCKS if language == "text"]
#: Durations and speeds, the only parts of the output that differ between runs.
CHANGING = re.compile(r"[\d.]+ (?:[KMG]?B/s|s\b)")


def python_with(word: str) -> str:
    """Return the one block of Python that contains a word."""
    [block] = [text for language, text in BLOCKS if language == "python" and word in text]
    return block


def table_of(header: str) -> list[list[str]]:
    """Return the cells of the table whose first line begins with a header."""
    [table] = re.findall(rf"^\| {header} \|.*?(?=\n\n)", README, re.MULTILINE | re.DOTALL)
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Serve the demo archive to the README's code, in a folder of its own."""
    with bak.demo_archive() as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3_ENDPOINT_URL", endpoint)
        patch.chdir(tmp_path_factory.mktemp("readme"))
        yield {"bak": bak}


@pytest.fixture(scope="module")
def printed(example: dict[str, Any]) -> str:
    """Run the first example and return what it prints."""
    lines: list[str] = []
    example["print"] = lambda value: lines.append(str(value))
    exec(python_with("print(bak.plan(config))"), example)
    return "\n".join(lines)


def test_the_first_example_prints_what_is_shown(printed: str) -> None:
    found = CHANGING.sub("…", printed).splitlines()
    shown = CHANGING.sub("…", PRINTED).splitlines()
    # The shown text leaves out the last lines, which are those of the plan.
    assert shown.pop().strip() == "…"
    assert found[: len(shown)] == shown
    assert set(found[len(shown) :]) < set(shown)


def test_the_names_of_a_result(example: dict[str, Any], printed: str) -> None:
    exec(python_with("result.not_published"), example)
    assert {"size", "etag", "action", "reason"} <= set(bak.plan(example["config"]).frame.columns)


def test_the_queries_run(example: dict[str, Any], printed: str) -> None:
    exec(python_with("bak.klines_with_funding("), example)
    example["con"].close()


def test_the_panels_run(example: dict[str, Any], printed: str) -> None:
    with warnings.catch_warnings():
        # The demo archive may have symbols that the example does not collect.
        warnings.simplefilter("ignore", bak.ArchiveKitWarning)
        exec(python_with("bak.panel("), example)
    assert {"BTCUSDT", "ETHUSDT"} <= {*example["closes"].columns}
    assert {*example["report"]["state"]} <= {"used", "low_coverage"}


def test_the_export_runs(example: dict[str, Any], printed: str) -> None:
    exec(python_with("bak.to_parquet("), example)
    assert example["counts"].fetchall()
    assert example["done"].rows > 0


def test_the_coverage_runs(example: dict[str, Any], printed: str) -> None:
    # The demo archive has a hole, so the last line raises.
    with pytest.raises(bak.CoverageError):
        exec(python_with("bak.backtest_coverage("), example)
    assert Path("coverage.html").is_file()


def test_the_storage_runs(example: dict[str, Any], printed: str) -> None:
    elsewhere = example["config"].replace(output_directory="data/elsewhere")
    exec(python_with("class ByDay"), {**example, "config": elsewhere})
    [first, *_] = sorted(Path("data/elsewhere").rglob("*.zip"))
    assert re.fullmatch(r"\w+/\w+/\w+/\d{4}/\d\d/\d\d/.*", str(first.relative_to("data/elsewhere")))


def test_every_command_and_exit_code_is_listed() -> None:
    listed = [cells[0].strip("`").split()[0] for cells in table_of("command")]
    assert listed == [command.name for command in COMMANDS]
    [codes] = re.findall(r"Exit codes: (.*?)\. ", README.replace("\n", " "))
    assert {int(code) for code in re.findall(r"(?<![\w.])\d+(?= )", codes)} == {*map(int, Exit)}


def test_every_kind_of_gap_is_listed() -> None:
    assert [kind for kind in GapKind if f"`{kind}`" not in README] == []


def test_every_feed_is_listed_with_its_partitions_or_its_end() -> None:
    matrix = load_matrix()
    seen = set()
    for names, *cells in table_of("data type"):
        for name in names.split(", "):
            for market, cell in zip(Market, cells, strict=True):
                feed = matrix.feed(market, DataType(name))
                seen.add((market, DataType(name)))
                if feed is None:
                    assert cell == ""
                    continue
                daily = feed.partitioned.get(Partition.DAILY)
                if daily and daily.last:
                    assert cell.startswith(f"ended {daily.last}")
                else:
                    assert cell == ", ".join(sorted(map(str, feed.partitioned)))
    assert len(seen) == len(Market) * len(DataType)
