"""Folders and URLs as places of a store."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.places import open_store, store_at
from binance_archive_kit.storage.store import Store
from binance_archive_kit.storage.urls import read_place

URL = "s3://research/币安 2025"


def config(place: str | Path) -> bak.CollectionConfig:
    return bak.CollectionConfig(
        markets=["spot"], symbols=["BTCUSDT"], data_types=["trades"], output_directory=place
    )


def test_a_url_stays_text_everywhere() -> None:
    asked = config(f"{URL}/")
    assert asked.output_directory == URL
    assert asked == config(URL)
    assert bak.CollectionConfig.from_json(asked.to_json()) == asked
    assert pickle.loads(pickle.dumps(asked)) == asked
    assert asked.replace(symbols=["ETHUSDT"]).output_directory == URL
    assert f'output_directory="{URL}"' in asked.to_python()
    assert f"into {URL!r}" in repr(asked)
    assert URL in asked._repr_html_()
    assert config("S3://research/a").output_directory == "s3://research/a"


def test_a_folder_stays_a_path(tmp_path: Path) -> None:
    assert config("data").output_directory == Path("data")
    assert config(tmp_path).output_directory == tmp_path
    assert read_place("x", "~/a") == Path("~/a").expanduser()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("gs://bucket/a", "a URL with gs:, and a store is a local folder"),
        ("http://host/a", "'s3://bucket/research'"),
        ("az://bucket/a", "a URL with az:"),
        ("file:///data", "give a local path, such as '/data'"),
        (Path("s3://bucket/a"), "give it as text, like 's3://bucket/a'"),
        ("s3:/bucket/a", "give it with a colon and two slashes, like 's3://bucket/a'"),
        ("s3:bucket", "like 's3://bucket'"),
        ("S3//bucket/a", "like 's3://bucket/a'"),
        ("s3://bucket/a*", "a wildcard"),
        ("", "is empty"),
    ],
)
def test_other_places(place: str | Path, words: str) -> None:
    with pytest.raises(ConfigurationError, match="output_directory") as raised:
        config(place)
    assert words in str(raised.value)


def test_the_kind_of_store_follows_from_the_place(tmp_path: Path, s3_url: str) -> None:
    assert isinstance(store_at(tmp_path), Store)
    assert isinstance(store_at(s3_url), BucketStore)
    assert isinstance(open_store(tmp_path), Store)
    with pytest.raises(ConfigurationError, match="is in object storage"):
        Store.open(s3_url)
    with pytest.raises(ConfigurationError, match="is not a folder"):
        open_store(tmp_path / "none")


def test_a_storage_needs_a_folder(s3_url: str) -> None:
    class ByDay(bak.BaseStorage):
        def get_partition_path(self, **of: object) -> str:
            return "days"

    with pytest.raises(ConfigurationError, match="lie under their archive key"):
        bak.plan(config(s3_url), storage=ByDay())


def test_an_invalid_endpoint_is_found_before_any_network(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "not a url")
    with pytest.raises(ConfigurationError, match="AWS_ENDPOINT_URL_S3"):
        bak.plan(config(s3_url))
