"""Reading archive zips: every form, and every damage, of a zip with one csv member."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.reading import unzip as texts
from binance_archive_kit.storage import zips as members
from binance_archive_kit.storage.zips import BadMemberError, check_member, find_member
from tests.support.zip_forms import (
    LONG,
    NAME,
    TEXT,
    plain,
    stored,
    streamed,
)


def commented(text: bytes = TEXT) -> bytes:
    made = io.BytesIO(plain(text))
    with zipfile.ZipFile(made, "a") as archive:
        archive.comment = b"a comment"
    return made.getvalue()


def zip64(text: bytes = TEXT) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(NAME, (2025, 7, 16, 1, 2, 4))
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=True) as member:
            member.write(text)
    return made.getvalue()


def zip64_directory(text: bytes = TEXT) -> bytes:
    """Put the sizes of a zip's directory into zip64 fields, as for files above 4 GiB."""
    made = plain(text)
    at = made.rindex(b"PK\1\2")
    size = made.rindex(b"PK\5\6") - at
    record = (
        b"PK\6\6"
        + (44).to_bytes(8, "little")
        + b"\x2d\0\x2d\0"
        + bytes(8)
        + (1).to_bytes(8, "little") * 2
        + size.to_bytes(8, "little")
        + at.to_bytes(8, "little")
    )
    locator = b"PK\6\7" + bytes(4) + (at + size).to_bytes(8, "little") + (1).to_bytes(4, "little")
    end = b"PK\5\6" + bytes(4) + b"\xff" * 12 + bytes(2)
    return made[: at + size] + record + locator + end


def extra_fields(text: bytes = TEXT) -> bytes:
    """A zip as Info-ZIP makes it: with extra fields, of another length here than there."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(NAME, (2025, 7, 16, 1, 2, 4))
        info.extra = b"UT\5\0\3abcd"
        archive.writestr(info, text, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def prefixed(text: bytes = TEXT) -> bytes:
    return b"#!/bin/sh\n" + plain(text)


FORMS: list[Callable[..., bytes]] = [
    plain,
    stored,
    commented,
    zip64,
    zip64_directory,
    streamed,
    extra_fields,
    prefixed,
]


def check(data: bytes, name: str = NAME) -> bytes:
    """Check a zip, and read its member's bytes where the check says they are."""
    file = io.BytesIO(data)
    member = check_member(file, len(data), name)
    raw = data[member.start : member.start + member.compressed]
    if member.method == zipfile.ZIP_STORED:
        return raw
    import zlib

    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", [b"", b"\n", TEXT, LONG], ids=["empty", "short", "usual", "long"])
def test_reads_every_form_of_zip(form: Callable[..., bytes], text: bytes) -> None:
    data = form(text)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
    assert check(data) == text
    member = find_member(io.BytesIO(data), len(data))
    assert (member.name, member.size) == (NAME, len(text))


def test_member_names_outside_ascii() -> None:
    name = "币安人生USDT-trades-2025-07-15.csv"
    assert check(plain(name=name), name) == TEXT


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_zip_is_detected(form: Callable[..., bytes]) -> None:
    data = form(LONG)
    for eighth in range(8):
        with pytest.raises(BadMemberError):
            check(data[: len(data) * eighth // 8])


@pytest.mark.parametrize("form", FORMS)
def test_every_truncation_of_a_small_zip_is_detected(form: Callable[..., bytes]) -> None:
    data = form()
    # A comment may be cut short without harm to the member.
    for length in range(len(data) - len(b"a comment") if form is commented else len(data)):
        with pytest.raises(BadMemberError):
            check(data[:length])


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_is_detected_or_harmless(form: Callable[..., bytes]) -> None:
    data = form()
    for at in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        try:
            text = check(bytes(flipped))
        except BadMemberError:
            continue
        assert text == TEXT


@given(data=st.data())
def test_damage_is_detected_or_harmless(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(FORMS))())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        length = data.draw(st.integers(0, 8))
        whole[at : at + length] = data.draw(st.binary(max_size=8))
        if not whole:
            break
    try:
        text = check(bytes(whole))
    except BadMemberError:
        return
    assert text == TEXT


def test_rejects_a_zip_of_a_later_version() -> None:
    data = bytearray(commented())
    data[data.rindex(b"PK\1\2") + 6] = 84
    with pytest.raises(BadMemberError, match="version"):
        check(bytes(data))


def test_rejects_a_directory_with_an_impossible_size() -> None:
    data = bytearray(zip64_directory())
    data[data.rindex(b"PK\6\6") + 40 : data.rindex(b"PK\6\6") + 56] = b"\xff" * 16
    with pytest.raises(BadMemberError):
        check(bytes(data))


@given(st.binary(max_size=300))
def test_rejects_bytes_that_are_not_a_zip(data: bytes) -> None:
    with pytest.raises(BadMemberError):
        check(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no readable zip"),
        (b"<!DOCTYPE html><html><body>Sign in to the hotel's network</body>", "<!DOCTYPE html>"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "<?xml version"),
        (bytes(1000), "no readable zip"),
        (TEXT, "no readable zip"),
    ],
)
def test_the_error_quotes_bytes_that_are_not_a_zip(data: bytes, said: str) -> None:
    with pytest.raises(BadMemberError, match="no readable zip") as caught:
        check(data)
    assert said in str(caught.value)


def test_rejects_two_members() -> None:
    made = io.BytesIO(plain())
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("another.csv", "1")
    with pytest.raises(BadMemberError, match="2 members"):
        check(made.getvalue())


def test_rejects_a_zip_without_members() -> None:
    made = io.BytesIO()
    zipfile.ZipFile(made, "w").close()
    with pytest.raises(BadMemberError, match="0 members"):
        check(made.getvalue())


def test_rejects_an_encrypted_member() -> None:
    data = bytearray(plain())
    data[6] |= 1
    data[data.rindex(b"PK\1\2") + 8] |= 1
    with pytest.raises(BadMemberError, match="encrypted"):
        check(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_rejects_other_compression_methods(method: int) -> None:
    with pytest.raises(BadMemberError, match="method"):
        check(plain(method=method))


@pytest.mark.parametrize("name", ["ETHUSDT-trades-2025-07-15.csv", "", f"./{NAME}", f"a/{NAME}"])
def test_rejects_a_member_with_another_name(name: str) -> None:
    with pytest.raises(BadMemberError, match="and not"):
        check(plain(name=name))


@pytest.mark.parametrize("level", [1, 6])
def test_output_left_inside_the_inflater_is_yielded(level: int) -> None:
    """A piece may end where all input is taken and some output is still to come."""
    most = members._PIECE
    row = b"1609459200000,0.00000000,0.00000000\n"
    text = row * ((most + 8_000) // len(row))
    for size in (most - 1, most, most + 1, *range(most + 8, most + 8_000, 300)):
        body = text[:size]
        packer = zlib.compressobj(level, zlib.DEFLATED, -15)
        packed = packer.compress(body) + packer.flush()
        member = members.Member(NAME, 0, len(packed), size, zlib.crc32(body), 8)
        pieces = list(members.inflated(io.BytesIO(packed), member))
        assert b"".join(pieces) == body
        assert max(map(len, pieces)) <= most


def test_a_gzip_file_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(texts, "CHUNK", 1 << 16)
    path = tmp_path / "rows.csv.gz"
    row = b"1609459200000,0.00000000,0.00000000\n"
    for size in range(1 << 16, (1 << 16) + 4_000, 40):
        body = (row * 2_000)[:size]
        for tail in (b"", TEXT):
            path.write_bytes(gzip.compress(body, 1) + (gzip.compress(tail) if tail else b""))
            with path.open("rb") as file:
                found = b"".join(texts._gunzipped(path.name, file, path.stat().st_size))
            assert found == body + tail
