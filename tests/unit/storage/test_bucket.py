"""A prefix of a bucket: every operation against a server, odd names, and errors with advice."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from binance_archive_kit.errors import ConfigurationError, StoreError
from binance_archive_kit.storage import bucket_access
from binance_archive_kit.storage.bucket import Bucket, BucketObject, object_of, stamp_of_object
from tests.support.relay import OPENSSL, Relay, certificate
from tests.support.s3_bucket import BUCKET
from tests.support.s3_gate import Gate

ODD = [
    "a b/c'd.txt",
    "ä/币安 人生.txt",
    "[x]/{y}$(z)&.txt",
    'q"uote/`tick`;rm.txt',
    "per%20cent+plus",
]


def test_write_read_list(bucket: Bucket) -> None:
    assert bucket.list("") == []
    for number, key in enumerate(ODD):
        bucket.write(key, b"x" * number)
        assert bucket.read(key) == b"x" * number
    expected = sorted((key, number) for number, key in enumerate(ODD))
    assert [(found.key, found.size) for found in bucket.list("")] == expected
    assert [(found.key, found.size) for found in bucket.list_etags("")] == expected
    assert bucket.list("[x]/") == [BucketObject("[x]/{y}$(z)&.txt", 2)]


def test_etags(bucket: Bucket) -> None:
    bucket.write("a", b"hello")
    [found] = bucket.list_etags("")
    # One PUT: the ETag is an MD5.
    assert found == ("a", 5, hashlib.md5(b"hello", usedforsecurity=False).hexdigest())
    assert bucket.stat(["a", "b"]) == {"a": found}
    with bucket.open("a") as file:
        assert object_of("a", file) == found
        assert file.seek(3) == 3
        assert file.read() == b"lo"
    bucket.write("a", b"olleh")
    [other] = bucket.list_etags("")
    assert stamp_of_object(found).size == stamp_of_object(other).size
    assert not stamp_of_object(found).agrees(stamp_of_object(other))


@pytest.mark.parametrize(
    "prefix", ["", "p", "with space/and 'quotes'", "ä/币", "[a]/{b}", "a//", "~"]
)
def test_prefixes(s3_url: str, prefix: str, tmp_path: Path) -> None:
    bucket = Bucket.parse(f"{s3_url}/{prefix}")
    source = tmp_path / "so*rce 'x'"
    source.write_bytes(b"bytes")
    assert bucket.upload(dict.fromkeys(ODD, source)) == {}
    assert [found.key for found in bucket.list_etags("")] == sorted(ODD)
    targets = {key: tmp_path / f"{number}" for number, key in enumerate(ODD)}
    assert bucket.download(targets) == {}
    assert {path.read_bytes() for path in targets.values()} == {b"bytes"}
    bucket.remove([*ODD, "never"])
    assert bucket.list("") == []
    bucket.remove([])


def test_a_sibling_is_not_below_the_prefix(s3_url: str) -> None:
    Bucket.parse(f"{s3_url}/ab").write("x", b"1")
    assert Bucket.parse(f"{s3_url}/a").list("") == []
    assert Bucket.parse(f"{s3_url}/a").list_etags("") == []


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("s3://", "URL of a bucket"),
        ("s3://ab", "URL of a bucket"),
        ("gs://bucket/x", "URL of a bucket"),
        ("s3://bucket/a*b", "wildcard"),
        ("s3://bucket/a?b", "wildcard"),
        ("s3://bucket/a/../b", "'..'"),
        ("s3://bucket//a", "empty part"),
        ("s3://bucket/a\nrm x", "control characters"),
        ("s3://KEY:hunter2@bucket/a", "credentials"),
        ("s3://bu cket/a", "URL of a bucket"),
    ],
)
def test_invalid_urls(url: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match="output_directory") as raised:
        Bucket.parse(url)
    assert word in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_pickle_has_only_the_url(bucket: Bucket) -> None:
    data = pickle.dumps(bucket)
    assert b"secret" not in data
    assert b"tester" not in data
    assert pickle.loads(data) == bucket
    assert repr(bucket) == f"Bucket({bucket.url!r})"


def test_absent_objects(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such object"):
        bucket.read("none")
    [(key, reason)] = bucket.download({"none": tmp_path / "x"}).items()
    assert key == "none"
    assert "404" in reason
    [(key, reason)] = bucket.upload({"a": tmp_path / "none"}).items()
    assert key == "a"
    assert str(tmp_path) in reason


def test_no_command_has_line_ends(bucket: Bucket, tmp_path: Path) -> None:
    name = "data/a\nb"
    with pytest.raises(StoreError, match="line ends"):
        bucket.list_etags(name)
    with pytest.raises(StoreError, match="line ends"):
        bucket.remove([name])
    with pytest.raises(StoreError, match="line ends"):
        bucket.download({name: tmp_path / "x"})


# Errors


def failures(bucket: Bucket, path: Path) -> list[str]:
    """Return the messages of all ways to fail."""
    path.write_bytes(b"x")
    messages = [*bucket.upload({"a": path}).values()]
    for call in (
        lambda: bucket.list(""),
        lambda: bucket.list_etags("data/"),
        lambda: bucket.write("a", b"x"),
        lambda: bucket.remove(["a"]),
    ):
        with pytest.raises(StoreError) as raised:
            call()
        messages.append(str(raised.value))
    assert len(messages) == 5
    assert all(message.startswith(bucket.url) for message in messages)
    assert not any("not-a-real-secret" in message for message in messages)
    return messages


def test_no_such_bucket(s3_url: str, tmp_path: Path) -> None:
    for message in failures(Bucket.parse("s3://absent-bucket/x"), tmp_path / "a"):
        assert "there is no such bucket; create it" in message


def test_nothing_answers(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: refused
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        for message in failures(bucket, tmp_path / "a"):
            assert f"{url}: nothing answers there" in message
            assert "AWS_ENDPOINT_URL_S3" in message


def test_no_credentials(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # This server takes unsigned requests, so that only s5cmd, which sends none, complains.
    file = tmp_path / "a"
    file.write_bytes(b"x")
    [uploading] = bucket.upload({"a": file}).values()
    with pytest.raises(StoreError) as raised:
        bucket.list_etags("")
    for message in (uploading, str(raised.value)):
        assert "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET" in message


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_invalid_endpoints(name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv(name, "http://me:hunter2@127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=name) as raised:
        bucket.list("")
    assert "hunter2" not in str(raised.value)


def test_a_profile_has_endpoint_region_and_credentials(
    bucket: Bucket, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    config, keys = tmp_path / "config", tmp_path / "credentials"
    config.write_text(f"[profile lab]\nregion = eu-west-1\nendpoint_url = {s3_endpoint}\n")
    keys.write_text("[lab]\naws_access_key_id = tester\naws_secret_access_key = hunter2\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    access = bucket_access.Access.of_environment()
    assert (access.endpoint, access.region) == (s3_endpoint, "eu-west-1")
    assert "hunter2" not in repr(access)
    bucket.write("a", b"x")
    assert [found.key for found in bucket.list_etags("")] == ["a"]
    # Variables come first.
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    access = bucket_access.Access.of_environment()
    assert (access.endpoint, access.region) == ("http://127.0.0.1:1", "us-west-2")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert bucket_access.Access.of_environment().endpoint is None
    for bad in (b"\xff\xfe", b"nonsense", b"[profile lab]\nregion\n"):
        config.write_bytes(bad)
        assert bucket_access.Access.of_environment().endpoint is None


def test_a_profile_that_does_not_exist_is_named(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, keys = tmp_path / "config", tmp_path / "credentials"
    config.write_text("[default]\n[profile lab]\nregion = eu-west-1\n[sso-session office]\n")
    keys.write_text("[team]\naws_access_key_id = tester\naws_secret_access_key = hunter2\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    monkeypatch.setenv("AWS_PROFILE", "labs")
    # Keys in variables come before a profile.
    bucket.write("a", b"x")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for call in (bucket.list, bucket.list_etags, lambda: bucket.write("a", b"x")):
        with pytest.raises(ConfigurationError, match="did you mean 'lab'") as caught:
            call()
        message = str(caught.value)
        assert "AWS_PROFILE: the profile 'labs'" in message
        assert message.endswith("Profiles there: default, lab, team")
    for name in ("default", "lab", "team"):
        monkeypatch.setenv("AWS_PROFILE", name)
        bucket_access.Access.of_environment()
    monkeypatch.setenv("AWS_PROFILE", "labs")
    for path in (config, keys):
        path.unlink()
    with pytest.raises(ConfigurationError, match="Profiles there: none"):
        bucket.list()
    # What a file cannot say is no error here.
    config.write_bytes(b"\xff\xfe")
    bucket_access.Access.of_environment()


def test_the_endpoint_of_the_archive_is_another(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:1")
    bucket.write("a", b"x")
    assert [found.key for found in bucket.list_etags("")] == ["a"]


# Processes

_USE = """
import os, sys
from binance_archive_kit.storage.bucket import Bucket
bucket = Bucket.parse(sys.argv[1])
bucket.write("parent", b"p")
child = os.fork()
if not child:
    bucket.write("child", bucket.read("parent") * 2)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert bucket.read("child") == b"pp"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_can_use_the_bucket_and_the_end_is_silent(s3_url: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _USE, s3_url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert Bucket.parse(s3_url).name == BUCKET


# What the network and the server do


def requests_of(bucket: Bucket, path: Path) -> dict[str, Callable[[], object]]:
    """Return all that can be asked of a bucket, by name."""
    path.write_bytes(b"x")

    def upload() -> None:
        for why in bucket.upload({"a": path}).values():
            raise StoreError(why)

    def download() -> None:
        for why in bucket.download({"a": path.with_suffix(".copy")}).values():
            raise StoreError(why)

    return {
        "write": lambda: bucket.write("a", b"x"),
        "upload": upload,
        "list": lambda: bucket.list(""),
        "list_etags": lambda: bucket.list_etags(""),
        "has": lambda: bucket.has("data/"),
        "read": lambda: bucket.read("a"),
        "stat": lambda: bucket.stat(["a"]),
        "download": download,
        "remove": lambda: bucket.remove(["a"]),
    }


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "access is denied; check the credentials"),
        (500, "the endpoint failed; try again later"),
        (503, "the endpoint asks to slow down; try again later"),
        (0, "the connection was lost; check the network, and try again"),
    ],
)
def test_every_refusal_says_what_to_do(
    bucket: Bucket,
    s3_endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    words: str,
) -> None:
    monkeypatch.setattr(bucket_access, "_RETRIES", 0)
    bucket.write("a", b"x")
    with Gate(s3_endpoint, lambda method, path: status) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gate.url)
        asked = requests_of(bucket, tmp_path / "up")
        # Of what is tried again for seconds, each client once.
        for name in asked if status == 403 else ("upload", "read"):
            with pytest.raises(StoreError) as raised:
                asked[name]()
            assert words in str(raised.value), name
            assert bucket.url in str(raised.value), name


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl to make a certificate")
def test_a_private_certificate(
    bucket: Bucket, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_access, "_RETRIES", 0)
    made = certificate(tmp_path)
    with Relay(s3_endpoint, made) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", relay.url)
        # Each client once: it tries again for seconds.
        for name in ("upload", "list"):
            with pytest.raises(StoreError) as raised:
                requests_of(bucket, tmp_path / "up")[name]()
            assert "name its PEM file in SSL_CERT_FILE" in str(raised.value), name
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        for ask in requests_of(bucket, tmp_path / "up").values():
            ask()
        assert bucket.list("") == []


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ("Access Denied", "access is denied; check the credentials"),
        ("AWS Error INTERNAL_FAILURE during ListObjectsV2 operation", "the endpoint failed"),
        ("AWS Error UNKNOWN (HTTP status 502) during HeadObject", "the endpoint failed"),
        ("InternalError: We encountered an internal error status code: 500", "the endpoint failed"),
    ],
)
def test_words_of_clients_become_advice(bucket: Bucket, problem: str, words: str) -> None:
    assert words in str(bucket.error(problem))
