"""Reading the .CHECKSUM file beside a zip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from binance_archive_kit.errors import BadChecksum
from binance_archive_kit.storage.proof import read_checksum
from tests.support.proven import (
    NAME,
    OTHER,
)

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (f"{HEX}  {NAME}", HEX),
        (f"{HEX}  {NAME}\n", HEX),
        (f"{HEX} *{NAME}\r\n", HEX),
        (f"{HEX}\t{NAME}\n", HEX),
        (f"{HEX.upper()}  {NAME}\n", HEX),
        (f"\ufeff{HEX}  {NAME}\n", HEX),
        (f"{HEX}\n", HEX),
        (f"  {HEX}  ./daily/{NAME}\n", HEX),
        (f"{HEX}  C:\\data\\{NAME}\n", HEX),
        (f"SHA256 ({NAME}) = {HEX}\n", HEX),
        (f"SHA2-256({NAME})= {HEX}\n", HEX),
        (f"SHA512 ({NAME}) = {HEX}\n", "no SHA-256"),
        (f"# made today\n{OTHER}  another.zip\n{HEX}  {NAME}\n", HEX),
        (f"{HEX}  {NAME}\n{HEX}  {NAME}\n", HEX),
        (f"{HEX}  {NAME}\n{OTHER}  {NAME}\n", "several digests"),
        (f"{HEX}\n{OTHER}\n", "several digests"),
        (f"{HEX}  another.zip\n", "of another file, 'another.zip'"),
        ("", "no SHA-256"),
        ("\n\n", "no SHA-256"),
        (f"{HEX[:32]}  {NAME}\n", "no SHA-256"),
        (f"{HEX}{HEX}  {NAME}\n", "no SHA-256"),
        ("<html>Not found</html>", "no SHA-256"),
    ],
)
def test_reads_the_checksum_beside_a_file(tmp_path: Path, text: str, outcome: str) -> None:
    beside = tmp_path / f"{NAME}.CHECKSUM"
    for encoding in ("utf-8", "utf-16"):
        beside.write_text(text, encoding, newline="")
        found = read_checksum(tmp_path / NAME)
        if isinstance(found, BadChecksum):
            assert outcome in found.detail
        else:
            assert found == outcome


def test_a_checksum_that_is_not_text_is_reported(tmp_path: Path) -> None:
    beside = tmp_path / f"{NAME}.CHECKSUM"
    assert read_checksum(tmp_path / NAME) is None
    beside.write_bytes(os.urandom(3_000_000))
    assert isinstance(read_checksum(tmp_path / NAME), BadChecksum)
    beside.unlink()
    beside.mkdir()
    assert isinstance(read_checksum(tmp_path / NAME), BadChecksum)
