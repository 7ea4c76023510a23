"""Verifying stores that other tools filled, and files without a digest."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.cli.main import main
from binance_archive_kit.storage.store import Store
from tests.support.proven import (
    KEYS,
    NAME,
    OTHER,
    beside,
    record_of,
)
from tests.support.stores import csv_for, kline, put, view_rows


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_checksum_files_prove_the_folder_of_another_tool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    paths = [put(root, key) for key in KEYS]
    for path in paths:
        path.with_name(f"{path.name}.CHECKSUM").unlink()

    def verified(*arguments: str) -> tuple[int, str]:
        code = main(["verify", str(root), *arguments])
        return code, capsys.readouterr().out

    code, said = verified()
    assert (code, said.splitlines()[0]) == (
        4,
        "Store unverified · 5 of 5 files read; 0 proven; 5 unverified",
    )
    assert not bak.verify(root).sound
    assert verified("--allow-unverified")[0] == 0
    for path in paths:
        beside(path, f"{digest(path)}  {path.name}\n")
    code, said = verified()
    assert code == 0
    assert said.startswith("Store sound · 5 of 5 files read; 5 proven\n")
    assert "5 of the proven agree with the .CHECKSUM beside them" in said
    assert not record_of(root).exists(), "nothing is recorded of it"
    code, said = verified("--sample", "2")
    assert (code, "2 proven; 3 unverified" in said) == (4, True)
    beside(paths[0], f"{OTHER}  {NAME}\n")
    beside(paths[1], "nothing of use\n")
    for flags in ((), ("--allow-unverified",)):
        code, said = verified(*flags)
        assert code == 1
        assert "Store not sound · 5 of 5 files read; 3 proven; 1 unverified; 1 checksum" in said
        assert f"the .CHECKSUM beside it has {OTHER}" in said
        assert "it has no SHA-256 digest" in said


def test_a_recorded_proof_outranks_a_checksum_file(root: Path) -> None:
    path = root / str(KEYS[0])
    beside(path, f"{OTHER}  {path.name}\n")
    found = bak.verify(root)
    assert (found.sound, found.proven) == (True, 5)
    assert found.notes == (f"{KEYS[0]}.CHECKSUM: its digest differs from that of the proven bytes",)
    assert "its digest differs from that of the proven bytes" in str(found)


def unpacked(path: Path, ending: str) -> Path:
    """Put the csv of a zip beside it, in another form."""
    with zipfile.ZipFile(path) as archive:
        [name] = archive.namelist()
        body = archive.read(name)
    target = path.with_name(path.name.removesuffix(".zip") + ending)
    target.write_bytes(gzip.compress(body) if ending.endswith(".gz") else body)
    return target


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_csv_files_are_read_and_unverified(
    root: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / str(KEYS[0])
    target = unpacked(path, ending)
    found = bak.verify(root)
    assert (found.sound, found.files) == (True, 5), "the zip is used where both are there"
    Store(root).records.forget([str(KEYS[0])])
    path.unlink()
    found = bak.verify(root)
    assert (found.state, found.files, found.read) == ("unverified", 5, 5)
    assert (found.proven, found.unproven, found.csv) == (4, 1, 1)
    assert "1 of the unverified are csv files" in str(found)
    assert main(["verify", str(root)]) == 4
    assert main(["verify", str(root), "--allow-unverified"]) == 0
    assert bak.store(root).frame()["proven"].to_list() == [4]
    target.write_bytes(target.read_bytes()[:-9])
    if ending == ".csv.gz":
        found = bak.verify(root)
        assert found.frame["reason"].to_list() == ["unreadable"]
        assert main(["verify", str(root), "--allow-unverified"]) == 1
    capsys.readouterr()


def test_the_proof_of_a_zip_does_not_cover_a_csv_file(root: Path) -> None:
    unpacked(root / str(KEYS[0]), ".csv")
    (root / str(KEYS[0])).unlink()
    found = bak.verify(root)
    assert (found.proven, found.unproven) == (4, 1)
    assert found.frame["reason"].to_list() == ["gone"]
    assert len(view_rows(bak.connect(root, cache=False), "spot_klines")) == 5 * 24


def test_skipped_files_are_listed(root: Path) -> None:
    (root / "flat").mkdir()
    shutil.copy(root / str(KEYS[0]), root / "flat" / "BTCUSDT-1h-2024-01-01.zip")
    found = bak.verify(root)
    assert (found.sound, found.files) == (True, 5)
    [skipped] = found.skipped
    assert f"not read: flat/BTCUSDT-1h-2024-01-01.zip: {skipped.reason}" in str(found)


def test_a_key_without_a_leading_zero_is_proven_under_its_own_name(tmp_path: Path) -> None:
    """The archive has some such keys; the member of the zip is named like the zip."""
    key = kline("ADABKRW", "2020-08", "1d")
    name = "ADABKRW-1d-2020-8"
    path = (tmp_path / str(key)).with_name(f"{name}.zip")
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.csv", csv_for(key))
    beside(path, f"{digest(path)}  {path.name}\n")
    found = bak.verify(tmp_path)
    assert (found.state, found.proven) == ("sound", 1)


@pytest.mark.parametrize(
    ("folder", "options", "field", "message"),
    [
        ("nowhere", {}, "store", "is not a folder; collect something into it first"),
        ("", {"sample": -1}, "sample", "-1 is not a number of files"),
        ("", {"sample": True}, "sample", "True is not a number of files"),
        ("", {"archive": True, "endpoint_url": "ftp://x"}, "endpoint_url", "'ftp://x' is not an"),
    ],
)
def test_errors_name_the_argument(
    root: Path, folder: str, options: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(bak.ConfigurationError) as caught:
        bak.verify(root / folder, **options)
    [problem] = caught.value.problems
    assert problem.field == field
    assert message in problem.message
    assert str(caught.value) == f"{field}: {problem.message}"
