"""Paths that users give are validated; text and JSON files are read within limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from binance_archive_kit import paths
from binance_archive_kit.errors import ConfigurationError


def test_a_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.read_path("folder", "~/data") == tmp_path / "data"


def test_a_missing_file_is_found_and_an_unusable_path_is_not(tmp_path: Path) -> None:
    assert paths.find_path("html", tmp_path / "new.html") == tmp_path / "new.html"
    with pytest.raises(ConfigurationError, match="the name is too long"):
        paths.find_path("html", tmp_path / ("x" * 1_000))


def test_a_url_of_a_file_suggests_its_path() -> None:
    with pytest.raises(ConfigurationError, match="such as '/tmp/data'"):
        paths.read_path("folder", "file:///tmp/data")


def test_a_text_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}", encoding="utf-8-sig")
    assert paths.read_text("config", tmp_path / "a.json", "a file") == "{}"
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="it is not UTF-8 text; give the path of a file"):
        paths.read_text("config", tmp_path / "b.json", "a file")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1, "a": 2}', "the name 'a' occurs twice"),
        ("[NaN]", "NaN is not a number"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5_000, "a number of thousands of digits"),
        ("{", "Expecting"),
    ],
)
def test_json_is_parsed_strictly(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        paths.parse_json(text)
