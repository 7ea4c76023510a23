"""A manifest is replaced in one step, and only what is whole and current is believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.errors import ArchiveKitWarning
from binance_archive_kit.reading.feed_table import feed_table
from binance_archive_kit.tables import manifest
from binance_archive_kit.tables.manifest import FeedFolder, Manifest, Part
from tests.support.table_files import FEED

PARTS = tuple(
    Part(name, "", 10, 1, "2025-07-01", "2025-07-01", 100, 1, 20, 2) for name in ("a", "b", "c")
)


@pytest.fixture
def folder(tmp_path: Path) -> FeedFolder:
    folder = FeedFolder.of(tmp_path, FEED)
    with folder.building(wait=True):
        folder.replace((), PARTS[:2])
    return folder


def test_no_manifest_lists_nothing(tmp_path: Path) -> None:
    folder = FeedFolder.of(tmp_path, FEED)
    assert folder.load().parts == ()
    assert folder.load().generation == 0
    assert folder.stamp() is None


def test_commits_raise_the_generation(folder: FeedFolder) -> None:
    assert (folder.load().generation, folder.load().parts) == (1, PARTS[:2])
    before = folder.stamp()
    folder.replace(["a"], PARTS[2:])
    assert (folder.load().generation, folder.load().parts) == (2, PARTS[1:])
    assert folder.stamp() != before
    assert PARTS[0].bytes == 120


def test_a_commit_to_an_old_generation_fails(folder: FeedFolder) -> None:
    old = folder.load()
    assert folder.commit(old.generation, old._replace(parts=PARTS))
    assert not folder.commit(old.generation, Manifest())
    assert folder.load().parts == PARTS


def test_a_replacement_repeats_after_a_conflict(
    folder: FeedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = FeedFolder.commit
    calls = []

    def contended(self: FeedFolder, generation: int, new: Manifest) -> bool:
        calls.append(generation)
        if len(calls) == 1:
            commit(self, generation, self.load()._replace(parts=PARTS))
        return commit(self, generation, new)

    monkeypatch.setattr(FeedFolder, "commit", contended)
    folder.replace(["a"], ())
    assert calls == [1, 2]
    assert folder.load().parts == PARTS[1:]


def test_nothing_is_committed_without_a_change(folder: FeedFolder) -> None:
    folder.replace(["unknown"], ())
    assert folder.load().generation == 1


def test_damaged_manifests_list_nothing(folder: FeedFolder) -> None:
    path = folder.path / "manifest.json"
    content = path.read_bytes()
    for damaged in (b"", b"[]", b"{}", content[:-5], content.replace(b"100", b"101", 1), b"\xff"):
        path.write_bytes(damaged)
        assert folder.load().parts == ()
    path.write_bytes(content)
    assert folder.load().parts == PARTS[:2]


def test_tables_of_another_format_list_nothing(
    folder: FeedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "FORMAT", manifest.FORMAT + 1)
    assert folder.load().parts == ()


def test_tables_of_another_meaning_list_nothing(folder: FeedFolder) -> None:
    assert FeedFolder(folder.path, "other").load().parts == ()
    assert FeedFolder(folder.path, None).load().parts == PARTS[:2]
    content = json.loads((folder.path / "manifest.json").read_text())
    FeedFolder(folder.path, None).replace(["a"], ())
    assert folder.load().parts == PARTS[1:2]
    assert json.loads((folder.path / "manifest.json").read_text())["meaning"] == content["meaning"]


def test_feeds_have_their_own_meaning(tmp_path: Path) -> None:
    feeds = [
        FEED,
        feed_table(Market.SPOT, DataType.KLINES, decimals=True),
        feed_table(Market.SPOT, DataType.TRADES),
    ]
    folders = [FeedFolder.of(tmp_path, feed) for feed in feeds]
    assert len({folder.path for folder in folders}) == 3
    assert len({folder.load().meaning for folder in folders}) == 3


def test_a_builder_removes_what_is_not_listed(folder: FeedFolder) -> None:
    kept = [folder.data("a"), folder.entries("b"), folder.path / "manifest.json"]
    left = [folder.data("x"), folder.entries("x"), folder.path / "1234.new"]
    for path in (*kept[:2], *left):
        path.write_bytes(b"")
    with folder.building(wait=True):
        pass
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in left)


def test_a_builder_removes_tables_of_another_format(
    folder: FeedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.data("a").write_bytes(b"")
    monkeypatch.setattr(manifest, "FORMAT", manifest.FORMAT + 1)
    with pytest.warns(ArchiveKitWarning, match="another version .* Nothing was lost"):  # noqa: SIM117
        with folder.building(wait=True) as is_alone:
            assert is_alone
    with folder.building(wait=True):
        pass  # tells nothing again
    assert {path.suffix for path in folder.path.iterdir()} <= {".lock"}


def test_a_builder_leaves_tables_of_a_newer_version_alone(
    folder: FeedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.data("a").write_bytes(b"")
    folder.replace((), PARTS[:1])
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    monkeypatch.setattr(manifest, "FORMAT", manifest.FORMAT - 1)
    assert folder.is_newer
    assert folder.load().parts == ()
    with folder.building(wait=True) as is_alone:
        assert not is_alone
    assert {path: path.read_bytes() for path in before} == before


def test_replaced_parts_are_removed(folder: FeedFolder) -> None:
    for path in (folder.data("a"), folder.entries("a"), folder.data("b")):
        path.write_bytes(b"")
    folder.replace(["a"], PARTS[2:])
    assert [path.name for path in folder.path.glob("*.parquet")] == [folder.data("b").name]
