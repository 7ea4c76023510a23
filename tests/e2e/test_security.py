"""What leaves the machine, what others may read, whom the clients trust, and forked processes."""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive import certificate_file, digests, listing
from binance_archive_kit.archive.curl_pool import Failure, Limits
from binance_archive_kit.archive.endpoint import Route, advice_on
from binance_archive_kit.archive.single_requests import SingleRequests
from binance_archive_kit.display.background import Worker
from binance_archive_kit.download import proof_queue
from binance_archive_kit.errors import ArchiveKitError, StoreError
from binance_archive_kit.paths import private_temporary, user_cache
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.proof import Expected, prove
from binance_archive_kit.storage.store import Store
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import daily_klines
from tests.support.relay import OPENSSL, Relay, certificate
from tests.support.stores import kline, put

SECRETS = ("SECRETKEY", "SECRETTOKEN", "proxysecret")


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try each request once."""
    for module in (listing, digests, proof_queue):
        monkeypatch.setattr(module, "_TRIES", 1)


# Whom the clients trust


@pytest.mark.skipif(OPENSSL is None, reason="certificates are made by openssl")
@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("client", ["httpx", "listing", "digests", "s5cmd"])
def test_no_client_trusts_a_certificate_that_vouches_for_itself(
    serve: Serve,
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    client: str,
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    server = serve(daily_klines("BTCUSDT", days=1))
    with Relay(server.url, certificate(tmp_path)) as relay:
        if client == "httpx":
            said = Worker(lambda: _ask_singly(relay.url)).wait()
        else:
            config = ask(
                server,
                days=1,
                endpoint_url=relay.url,
                listing=client == "listing",
                download_checksum=client == "digests",
            )
            with pytest.raises(ArchiveKitError) as raised:
                bak.collect(config)
            said = str(raised.value)
    assert "the certificate is not trusted" in said
    assert "SSL_CERT_FILE" in said
    assert server.requests == []


async def _ask_singly(endpoint: str) -> str:
    async with SingleRequests(Route.to(endpoint), Limits(1, 9, 9, 99)) as requests:
        outcome = await requests.send("/")
    assert isinstance(outcome, Failure)
    return advice_on(outcome.message)


# What stays secret


def test_secrets_are_nowhere_at_rest(
    serve: Serve, ask: Ask, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the store, its cache and its records, nor in anything that may be sent on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRETKEY")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "SECRETTOKEN")
    monkeypatch.setenv("https_proxy", "http://me:proxysecret@127.0.0.1:9")
    server = serve(daily_klines("BTCUSDT", days=2))
    config = ask(server, days=2, output_directory=s3_url)
    plan = bak.plan(config)
    result = bak.collect(plan)
    opened = bak.store(s3_url)
    assert bak.verify(s3_url).sound
    for thing in (config, plan, result, opened):
        texts = [pickle.dumps(thing), repr(thing).encode(), str(thing).encode()]
        for secret in SECRETS:
            assert not any(secret.encode() in text for text in texts), type(thing)
    bucket = Bucket.parse(s3_url)
    bodies = [bucket.read(each.key) for each in bucket.list()]
    bodies += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(bodies) > 3
    for secret in SECRETS:
        assert not any(secret.encode() in body for body in bodies)


_COLLECT = """
import os, sys
os.umask(int(sys.argv[3], 8))
import binance_archive_kit as bak
for batches in (True, False):
    bak.collect(markets=["spot"], symbols=["BTCUSDT"], data_types=["klines"],
        intervals={"klines": ["1h"]}, date_range={"start": "2025-07-01", "end": "2025-07-02"},
        output_directory=sys.argv[2], endpoint_url=sys.argv[1], enable_batch_mode=batches,
        force_redownload=True)
    modes = {oct(os.stat(os.path.join(folder, name)).st_mode & 0o777)
             for folder, _, names in os.walk(sys.argv[2]) for name in names}
    print(*modes)
"""


@pytest.mark.skipif(os.name != "posix", reason="no umask")
@pytest.mark.parametrize(("umask", "mode"), [("077", "0o600"), ("002", "0o664")])
def test_files_have_the_permissions_of_the_umask(
    serve: Serve, store: Path, umask: str, mode: str
) -> None:
    server = serve(daily_klines("BTCUSDT", days=2))
    command = [sys.executable, "-c", _COLLECT, server.url, str(store), umask]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert set(run.stdout.split()) == {mode}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs another user")
def test_files_are_kept_where_permissions_cannot_be_changed() -> None:
    """As on disks with FAT; here, the file belongs to someone else."""
    before = os.umask(0)
    try:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o777)
            path = Path(folder, "BTCUSDT-1d-2025-07-01.zip")
            with zipfile.ZipFile(path, "w") as opened:
                opened.writestr("BTCUSDT-1d-2025-07-01.csv", "1\n")
            body = path.read_bytes()
            path.chmod(0o644)
            proof = prove(
                f"data/spot/daily/klines/BTCUSDT/1d/{path.name}",
                path,
                Expected(None, "e", hashlib.sha256(body).hexdigest()),
            )
            os.seteuid(65534)
            try:
                store = Store(Path(folder, "store"))
                with store.staging():
                    store.admit(proof, path)
            finally:
                os.seteuid(0)
            [kept] = Path(folder, "store").rglob("*.zip")
            assert kept.read_bytes() == body
    finally:
        os.umask(before)


def test_certificates_on_disk_are_for_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they cannot lie in memory."""
    monkeypatch.setattr(certificate_file, "_in_memory", lambda certificates: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = Path(certificate_file.certificate_file("certificates of this test\n"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StoreError, match="nowhere"):
        certificate_file.certificate_file("other certificates\n")


@pytest.mark.skipif(os.name != "posix", reason="other permissions")
def test_a_temporary_folder_that_someone_else_prepared_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = private_temporary()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert private_temporary() == own
    own.chmod(0o777)
    with pytest.raises(StoreError, match="others may write to it; remove it"):
        private_temporary()
    own.rmdir()
    own.symlink_to(tmp_path)
    with pytest.raises(StoreError, match="no folder of this user"):
        private_temporary()
    own.unlink()
    own.write_text("")
    with pytest.raises(StoreError, match="no folder of this user"):
        private_temporary()
    if os.getuid() == 0:
        own.unlink()
        own.mkdir(0o700)
        os.chown(own, 65534, 65534)
        with pytest.raises(StoreError, match="no folder of this user"):
            private_temporary()


def test_a_user_without_a_home_has_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as some number."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert user_cache("x").is_relative_to(tmp_path)


# Forks

_FORK = """
import multiprocessing, os, signal, sys
from concurrent.futures import ProcessPoolExecutor
import polars
import binance_archive_kit as bak
folder, when = sys.argv[1:]
opened = None

def query():
    signal.alarm(20)  # ends a process that hangs
    try:
        return bak.sql(folder, "SELECT count(*) FROM spot_klines").item()
    except bak.ConfigurationError as error:
        return "spawn" if "get_context('spawn')" in str(error) else str(error)

def others():
    signal.alarm(20)
    calls = [lambda: opened.frame(), lambda: opened.scan(), lambda: bak.verify(folder),
             lambda: bak.coverage(folder), lambda: bak.universe("spot", "klines", interval="1h"),
             lambda: bak.plan({}), lambda: bak.sql(connection, "SELECT 1")]
    refused = 0
    for call in calls:
        try:
            call()
        except bak.ConfigurationError as error:
            refused += "get_context('spawn')" in str(error) or "forked" in str(error)
    return refused == len(calls) - 1  # the configuration is checked first

if when == "before":
    if not os.fork():
        os._exit(query() != 24)
else:
    if when == "own":
        polars.DataFrame({"a": [1, 2]}).group_by("a").len()
    else:
        assert query() == 24
        opened = bak.store(folder)["spot"]["klines"]
        connection = bak.connect(folder)
    if not os.fork():
        os._exit(query() != "spawn")
status = os.wait()[1]
assert status == 0, status
if when == "after":
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, fork) as pool:
        assert pool.submit(query).result(30) == "spawn"
        assert pool.submit(others).result(30)
    # The process that was not forked goes on.
    assert query() == 24
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("when", ["before", "own", "after"])
def test_a_fork_works_or_fails_at_once(tmp_path: Path, when: str) -> None:
    """Before or after the first use, also if Polars was only used by others."""
    put(tmp_path, kline("BTCUSDT", "2025-07-01"))
    command = [sys.executable, "-W", "ignore", "-c", _FORK, str(tmp_path), when]
    run = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (run.returncode, run.stderr) == (0, "")
