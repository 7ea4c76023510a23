"""Tests of the pages of a listing: any bytes are a page, or are rejected with a reason."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from binance_archive_kit.archive.listing_pages import InvalidPage, parse_page
from tests.support.answers import page
from tests.support.bucket import FIRST, kline_key

DAYS = [kline_key("BTCUSDT", FIRST + timedelta(days=day)) for day in (0, 1)]
PAGE = page([name for key in DAYS for name in (key, f"{key}.CHECKSUM")])
MARKUP = st.sampled_from(
    [
        *("<ListBucketResult>", "</ListBucketResult>", "<Contents>", "</Contents>", "<Key>"),
        *("</Key>", "<Size>", "</Size>", "<IsTruncated>true</IsTruncated>", "&amp;", "&a;"),
        *("<IsTruncated>false</IsTruncated>", "<![CDATA[", "]]>", "<!--", "-->", "<?xml", "?>"),
        *("<CommonPrefixes>", "<Prefix>", "<EncodingType>url</EncodingType>", "%2F", "%FF"),
        *(DAYS[0], "x", "\0", " ", "</Prefix>", "</CommonPrefixes>", "<NextMarker/>", "9" * 400),
    ]
)


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(),
        st.lists(MARKUP).map(lambda parts: "".join(parts).encode()),
        st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=3)).map(
            lambda cut: PAGE[: cut[0]] + cut[1] + PAGE[cut[0] :]
        ),
        st.tuples(st.integers(0, 600), st.integers(0, 600)).map(
            lambda cut: PAGE[: min(cut)] + PAGE[max(cut) :]
        ),
    )
)
def test_any_bytes_are_a_page_or_rejected(body: bytes) -> None:
    try:
        found = parse_page(body)
    except InvalidPage:
        return
    assert all(each.size >= 0 for _, each in found.objects)
