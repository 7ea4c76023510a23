"""Tests of the pages of a listing: any bytes are a page, or are rejected with a reason."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binance_archive_kit.archive import listing_pages
from binance_archive_kit.archive.listing_pages import InvalidPage, parse_page
from tests.support.answers import page
from tests.support.bucket import FIRST, kline_key
from tests.support.plain_pages import Parsed, parse_plainly

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


# The pages are split at their tags; a plain parser of XML decides what is right


def parsed(body: bytes) -> Parsed | None:
    try:
        page = parse_page(body)
    except InvalidPage:
        return None
    objects = list(zip(page.keys, page.sizes, page.etags, page.modified, strict=True))
    assert page.objects == [(key, (size, etag, at, False)) for key, size, etag, at in objects]
    return objects, page.folders, page.truncated, page.following


TEXTS = st.sampled_from(
    [
        *("", "a", "a b", " a ", "b>c", "币安人生USDT", "a%2Fb", "%E5%B8%81", "%FF", "+", "]"),
        *("]]>", "&amp;", "&quot;", "&#34;x&#34;", "&quot;x&quot;", "&lt;", "&a;", "&", "'"),
        *("&amp;quot;", '"x"', "\n  ", "\r\n", "\t", "\0", "\x1b", "\x7f", "\x85", "\ufffe"),
        *("\ufffd", "<b/>", "<b>c</b>", "<!-- c -->", "<![CDATA[<Key>x</Key>]]>", "<?pi x?>"),
        *("-->", "1", "12", "0" * 16, "٣"),
    ]
)
NAMES = st.sampled_from(
    ["Key", "Size", "ETag", "LastModified", "Owner", "Contents", "Prefix", "s:Key", "Key a='1'"]
)


@st.composite
def elements(draw: st.DrawFn) -> str:
    """Draw the elements of an object, some of them odd."""
    name, text = draw(NAMES), draw(TEXTS)
    form = draw(st.sampled_from(["<{0}>{1}</{2}>"] * 9 + ["<{0}/>", "<{0} >{1}</{2} >", "<{0}>"]))
    return form.format(name, text, name.partition(" ")[0])


NORMAL = ("<Key>{key}</Key>", "<Size>{size}</Size>", "<ETag>&quot;{key}&quot;</ETag>")
LAYOUTS = st.one_of(
    st.permutations(NORMAL).map("".join),
    st.tuples(st.permutations(NORMAL), elements(), st.integers(0, 3)).map(
        lambda drawn: "".join([*drawn[0][: drawn[2]], drawn[1], *drawn[0][drawn[2] :]])
    ),
    st.just("\n  <Key>{key}</Key>\n  <Owner><ID>{size}</ID></Owner>\n  <Size>{size}</Size>\n"),
)
ROOTS = st.sampled_from(
    [
        "<ListBucketResult>{}</ListBucketResult>",
        "<?xml version='1.0'?>\n<ListBucketResult xmlns='http://s3/'>{}</ListBucketResult>",
        "<ListBucketResult xmlns:s='http://s3/'>{}</ListBucketResult>",
        "<s:ListBucketResult xmlns:s='http://s3/'>{}</s:ListBucketResult>",
        "<ListBucketResult><Deeper>{}</Deeper><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult><!-- {} --><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult><![CDATA[{}]]><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<Other>{}</Other>",
    ]
)
AROUND = st.sampled_from(
    [
        *("", "", "\n", "text", "<!-- c -->", "]]>", "<EncodingType>url</EncodingType>", "<Name/>"),
        "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>",
        "<NextMarker>m</NextMarker>",
        "<Contents><Size>1</Size><Key>0</Key></Contents>",
        "<Contents a='1'><Size>1</Size><Key>0</Key></Contents>",
        "</Contents><Contents>",
    ]
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Draw pages whose objects mostly have the same elements in the same order."""
    layout, other = draw(LAYOUTS), draw(LAYOUTS)
    objects = []
    for index in range(draw(st.integers(0, 5))):
        key = draw(st.one_of(st.just(f"k{index}"), st.just(f"k{index}"), TEXTS))
        size = draw(st.one_of(st.just("5"), st.just("5"), TEXTS))
        odd = draw(st.integers(0, 9)) == 0
        chosen = (other if odd else layout).replace("{key}", key).replace("{size}", size)
        objects.append(f"<Contents>{chosen}</Contents>{draw(AROUND) if odd else ''}")
    more = draw(st.sampled_from(["true", "false", "false", "maybe"]))
    inside = f"{draw(AROUND)}<IsTruncated>{more}</IsTruncated>{''.join(objects)}{draw(AROUND)}"
    return draw(ROOTS).replace("{}", inside).encode()


@settings(max_examples=1_500, deadline=None)
@given(documents())
def test_pages_are_parsed_as_by_a_plain_parser(body: bytes) -> None:
    assert parsed(body) == parse_plainly(body)


@settings(max_examples=500, deadline=None)
@given(documents(), st.integers(0, 700), st.integers(0, 20), st.binary(max_size=3))
def test_damaged_pages_are_parsed_as_by_a_plain_parser(
    body: bytes, start: int, length: int, other: bytes
) -> None:
    body = body[:start] + other + body[start + length :]
    assert parsed(body) == parse_plainly(body)


@pytest.mark.parametrize("quote", ["&quot;", "&#34;", '"'])
@pytest.mark.parametrize("indent", ["", "\n    "])
@pytest.mark.parametrize("key", ["k", "币安人生USDT", "%E5%B8%81"])
def test_pages_as_servers_write_them_are_split(
    monkeypatch: pytest.MonkeyPatch, quote: str, indent: str, key: str
) -> None:
    one = indent.join(
        [
            *("", f"<Key>{key}{{}}</Key>", "<LastModified>2025-08-01T00:00:00.000Z</LastModified>"),
            *(f"<ETag>{quote}e{{}}{quote}</ETag>", "<Size>1{}</Size>", "<Owner><ID>0</ID></Owner>"),
        ]
    )
    objects = "".join(f"{indent}<Contents>{one}</Contents>".replace("{}", f"{n}") for n in range(9))
    body = page(more=f"{objects}<EncodingType>url</EncodingType>")
    whole = parse_plainly(body)
    split: list[object] = []
    parse = listing_pages._split_objects

    def note(text: str, body: bytes) -> object:
        split.append(parse(text, body))
        return split[-1]

    monkeypatch.setattr(listing_pages, "_split_objects", note)
    assert parsed(body) == whole is not None
    assert split != [None]
