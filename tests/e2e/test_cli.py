"""The command line, as a user's shell runs it."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import Market
from binance_archive_kit.cli.main import main
from tests.support.bucket import daily_klines
from tests.support.checks import assert_no_downloader, assert_nothing_staged, rot
from tests.support.s3_server import Fault, LocalS3, Request


def run(
    *arguments: str, cwd: Path, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "binance_archive_kit", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    fields = {
        "workflow_type": "archive_collection",
        "matrix_path": "enhanced_binance_archive_matrix.json",
        "output_directory": "out",
        "markets": ["spot"],
        "symbols": ["BTCUSDT"],
        "data_types": ["klines"],
        "intervals": {"klines": ["1h"]},
        "date_range": {"start": "2025-07-01", "end": "2025-07-03"},
    }
    path.write_text(json.dumps(fields))
    return path


BUCKET = daily_klines("BTCUSDT", days=3)


def test_demo_collects_everything_and_the_second_run_keeps_it(tmp_path: Path) -> None:
    said = run("demo", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "synthetic" in said.stdout
    first, second = said.stdout.split("# Second run")
    assert "Collection complete" in first
    for market in ("spot", "futures_um", "futures_cm", "options"):
        assert f'"{market}"' in first
    assert "0 downloaded, 651 kept" in second
    assert list(tmp_path.iterdir()) == []


def test_plan_then_collect_then_collect_again(tmp_path: Path, config: Path) -> None:
    with LocalS3(BUCKET) as server:
        planned = run("plan", "config.json", "--endpoint-url", server.url, cwd=tmp_path)
        assert (planned.returncode, planned.stderr) == (0, "")
        assert "3 objects: 3 to download" in planned.stdout
        assert not (tmp_path / "out").exists()
        collected = run("collect", "config.json", cwd=tmp_path, S3_ENDPOINT_URL=server.url)
        assert (collected.returncode, collected.stderr) == (0, "")
        assert "3 downloaded, 0 kept" in collected.stdout
        again = run("collect", "config.json", cwd=tmp_path, S3_ENDPOINT_URL=server.url)
        assert "0 downloaded, 3 kept" in again.stdout
    files = sorted(path.name for path in (tmp_path / "out" / "data").rglob("*.zip"))
    assert files == [f"BTCUSDT-1h-2025-07-0{day}.zip" for day in (1, 2, 3)]


def test_a_wrong_question_exits_with_2_and_says_what_is_right(tmp_path: Path, config: Path) -> None:
    config.write_text(config.read_text().replace('"spot"', '"sport"'))
    said = run("collect", "config.json", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert "markets: 'sport' is not valid; did you mean 'spot'?" in said.stderr
    absent = run("plan", "nothing.json", cwd=tmp_path)
    assert absent.returncode == 2
    assert "nothing.json" in absent.stderr


def test_failures_exit_with_1(tmp_path: Path, config: Path) -> None:
    def forbid(request: Request) -> Fault | None:
        return Fault(status=403) if request.key.endswith("07-02.zip") else None

    with LocalS3(BUCKET, fault=forbid) as server:
        some = run("collect", "config.json", "--endpoint-url", server.url, cwd=tmp_path)
    assert some.returncode == 1
    assert "Collection partial" in some.stdout
    assert "forbidden" in some.stdout

    def forbid_all(request: Request) -> Fault | None:
        return Fault(status=403) if request.key else None

    with LocalS3(BUCKET, fault=forbid_all) as server:
        every = run(
            "collect",
            "config.json",
            "--endpoint-url",
            server.url,
            "--output-directory",
            "other",
            cwd=tmp_path,
        )
    assert every.returncode == 1
    assert "Collection failed" in every.stdout
    assert "nothing was collected" in every.stderr


def test_an_endpoint_that_is_not_there_is_named(tmp_path: Path, config: Path) -> None:
    said = run("plan", "config.json", "--endpoint-url", "http://127.0.0.1:9", cwd=tmp_path)
    assert said.returncode == 1
    assert "http://127.0.0.1:9" in said.stderr
    assert "Traceback" not in said.stderr


def ended_by(
    number: signal.Signals,
    flags: Sequence[str],
    server: LocalS3,
    folder: Path,
    reached: Callable[[str, str], bool],
) -> tuple[int, str]:
    """Collect, and send a signal once a request has reached the server; code and complaint."""
    command = [sys.executable, "-m", "binance_archive_kit", "collect", *flags]
    with subprocess.Popen(
        [*command, "--endpoint-url", server.url],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as child:
        while not any(reached(verb, key) for verb, key in server.requests):
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(number)
        _, complaint = child.communicate(timeout=20)
    return child.returncode, complaint


def test_an_interrupt_exits_with_130_and_leaves_only_proven_files(
    tmp_path: Path, config: Path
) -> None:
    def hang(request: Request) -> Fault | None:
        wanted = request.method == "GET" and request.key.endswith("07-02.zip")
        return Fault(hang_after=10) if wanted else None

    with LocalS3(BUCKET, fault=hang) as server:

        def reached(verb: str, key: str) -> bool:
            return verb == "GET" and key.endswith("07-02.zip")

        code, complaint = ended_by(signal.SIGINT, ["config.json"], server, tmp_path, reached)
    assert code == 130
    assert "run it again" in complaint
    for path in (tmp_path / "out" / "data").rglob("*.zip"):
        assert path.read_bytes() == BUCKET[path.relative_to(tmp_path / "out").as_posix()]


IMPORTING = """
import sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[0]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
del sys.argv[0]
from binance_archive_kit.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "module",
    [
        "binance_archive_kit.cli.archive_commands",
        "pydantic",
        "binance_archive_kit.planning.planner",
    ],
)
def test_an_interrupt_while_modules_are_loaded_is_one_line(
    tmp_path: Path, config: Path, module: str
) -> None:
    said = subprocess.run(
        [sys.executable, "-c", IMPORTING, module, "plan", "config.json", "--no-listing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 130
    assert said.stderr.startswith("binance-archive: interrupted")
    assert said.stderr.endswith("run it again\n")
    assert said.stderr.count("\n") == 1


# A configuration by flags

FLAGS = [
    *("--markets", "spot", "--symbols", "BTCUSDT", "--data-types", "klines"),
    *("--intervals", "1h", "--start", "2025-07-01", "--end", "2025-07-03"),
    *("--output-directory", "out"),
]


@pytest.fixture
def archive() -> Iterator[LocalS3]:
    with LocalS3(BUCKET) as server:
        yield server


def test_flags_take_the_place_of_a_file(tmp_path: Path, archive: LocalS3) -> None:
    said = run("collect", *FLAGS, cwd=tmp_path, S3_ENDPOINT_URL=archive.url)
    assert (said.returncode, said.stderr) == (0, "")
    assert "3 downloaded, 0 kept" in said.stdout


def test_flags_change_what_a_file_says(tmp_path: Path, config: Path, archive: LocalS3) -> None:
    changes = ["--start=2025-07-02", "--end=2025-07-02", "--no-download-checksum"]
    for source, stdin in (("config.json", ""), ("-", config.read_text())):
        said = run("plan", source, *changes, cwd=tmp_path, stdin=stdin, S3_ENDPOINT_URL=archive.url)
        assert (said.returncode, said.stderr) == (0, "")
        assert "1 object: 1 to download" in said.stdout
    said = run("collect", "config.json", *changes, cwd=tmp_path, S3_ENDPOINT_URL=archive.url)
    assert said.returncode == 0
    assert not any(".CHECKSUM" in key for _, key in archive.requests)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan"], "config: missing; give a JSON file, or options"),
        (["plan", "--markets", "sport"], "'sport' is not valid; did you mean 'spot'?"),
        (["plan", "--markets", "spot"], "symbols: required, and not given"),
        (["plan", *FLAGS, "--end", "-x"], "'-x' is not a day"),
        (["plan", *FLAGS, "--start=tomorrow"], "'tomorrow' is not a day"),
        (["plan", *FLAGS, "--batch-size", "x"], "batch_size: 'x' is not valid"),
        (
            ["plan", *FLAGS, "--symbols", "spot=A"],
            "'BTCUSDT' has no NAME=, and other values have one",
        ),
        (["collect", "-"], "standard input has no JSON object"),
        (["verify", "nowhere"], "'nowhere' is not a folder"),
        (["sql", ".", "SELEKT 1"], "Parser Error"),
        (["sql", ".", ""], "it holds no statement"),
        (["sql", ".", "SELECT 1; SELECT 2"], "it holds 2 statements"),
        (["sql", ".", "SELECT 1", "--jsn"], "--jsn"),
        (["symbols", "sport"], "market: 'sport' is not valid; did you mean 'spot'?"),
        (["symbols", "spot", "metrics"], "data type of spot: 'metrics' is not valid"),
        (["symbols", "um", "metrics", "--partition", "monthly"], "Valid: daily"),
        (["matrix", "--matrix-path", "x.json"], "neither a file here nor a shipped one"),
        (["frobnicate"], "No such command"),
        *[([command, ""], "store: '' is empty") for command in ("verify", "build", "cache")],
        *[
            ([command, "s3://b/x"], "'s3://b/x' is not the URL of a bucket")
            for command in ("verify", "coverage", "build", "cache")
        ],
        *[([command, "x" * 5_000], "the name is too long") for command in ("verify", "coverage")],
        (["sql", "", "SELECT 1"], "store: '' is empty"),
        (["sql", "a\nb", "SELECT 1"], "control characters"),
        (["coverage", ""], "source: '' is empty"),
        (["coverage", "folder", "--start", "9999-12-31"], "start: 9999-12-31 is not between"),
        (["coverage", "folder", "--html", "s3://x"], "--html: 's3://x' is a URL"),
        (["plan", "binary"], "config: 'binary' cannot be read: it is not UTF-8 text"),
        (["plan", "folder"], "config: 'folder' cannot be read: Is a directory"),
        (["plan", '{"markets": ["spot"], "symbol": 1}'], "symbol: no such field"),
        (["plan", '{"markets": NaN}'], "NaN is not a number"),
        (["coverage", "binary"], "config: 'binary' cannot be read"),
        (["plan", *FLAGS, "--s5cmd-extra-args", "'"], 's5cmd_extra_args: "\'" is not valid'),
        (["plan", *FLAGS, "--batch-size", "9" * 5_000], "batch_size: '999"),
        (["plan", *FLAGS, "--start", "0001-01-01"], "start: 0001-01-01 is not between"),
        (["plan", *FLAGS[:8], *FLAGS[10:]], "start: required"),
        (["plan", *FLAGS, "--output-directory", "binary/x"], "'binary/x' cannot be a folder"),
        (["plan", *FLAGS, "--output-directory", "loop/x"], "symbolic links lead in a circle"),
        (["plan", *FLAGS, "--output-directory", "dangling"], "a broken link"),
        (["plan", *FLAGS, "--matrix-path", "binary"], "matrix_path: 'binary' cannot be read"),
        (["plan", *FLAGS, "--endpoint-url", "http://me:hidden@h"], "a user or a password"),
        (["symbols", "spot", "--endpoint-url", "http://me:hidden@h"], "a user or a password"),
        (["matrix", "--matrix-path", ""], "matrix_path: '' is empty"),
        (["demo", "--output-directory", "binary"], "'binary' cannot be a folder"),
    ],
)
def test_wrong_questions_end_with_2(
    tmp_path: Path,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("no JSON"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    try:
        code = main(arguments)
    except SystemExit as end:  # argparse's own
        code = int(str(end.code))
    answer = capsys.readouterr()
    assert (code, answer.out if arguments[0] != "demo" else "") == (2, "")
    assert said in answer.err
    assert "hidden" not in answer.err
    assert len(answer.err) < 2_000


def test_days_ago_stand_apart_from_their_flag(tmp_path: Path, archive: LocalS3) -> None:
    flags = [*FLAGS[:8], "--output-directory", "out", "--start", "-2d", "--end", "-1d"]
    said = run("plan", *flags, cwd=tmp_path, S3_ENDPOINT_URL=archive.url)
    assert said.returncode == 3
    assert "date_range: -2d to -1d means " in said.stdout


# For machines


def test_json_says_what_was_planned_and_collected(tmp_path: Path, archive: LocalS3) -> None:
    there = {"S3_ENDPOINT_URL": archive.url}
    flags = [*FLAGS, "--data-types", "bookDepth", "--end", "2025-07-04", "--json"]
    planned = run("plan", *flags, cwd=tmp_path, **there)
    said = json.loads(planned.stdout)
    assert (said["objects"], said["to_download"], said["to_keep"]) == (3, 3, 0)
    assert [each["reason"] for each in said["unavailable"]] == ["no_such_feed"]
    assert [each["start"] for each in said["missing"]] == ["2025-07-04"]
    assert said["feeds"][0]["objects"] == 3
    collected = run("collect", *flags, cwd=tmp_path, **there)
    assert (collected.returncode, collected.stderr) == (0, "")
    said = json.loads(collected.stdout)
    assert said["outcome"] == "complete"
    assert said["collection_stats"]["successful_tasks"] == 3
    assert sorted(said["output_files"]) == sorted(map(str, tmp_path.rglob("*.zip")))
    assert said["failures"] == []


def test_keys_can_be_handed_on(tmp_path: Path, archive: LocalS3) -> None:
    said = run("plan", *FLAGS, "--keys", cwd=tmp_path, S3_ENDPOINT_URL=archive.url)
    assert said.stdout.splitlines() == [key for key in BUCKET if key.endswith(".zip")]


def test_json_says_what_failed(tmp_path: Path) -> None:
    def forbid_all(request: Request) -> Fault | None:
        return Fault(status=403) if request.key else None

    with LocalS3(BUCKET, fault=forbid_all) as server:
        said = run("collect", *FLAGS, "--json", cwd=tmp_path, S3_ENDPOINT_URL=server.url)
    assert said.returncode == 1
    failures = json.loads(said.stdout)["failures"]
    assert [each["reason"] for each in failures] == ["forbidden"] * 3
    assert "nothing was collected" in said.stderr


def test_nothing_to_do_ends_with_3(tmp_path: Path, archive: LocalS3) -> None:
    flags = [*FLAGS, "--symbols", "NOSUCHUSDT", "--output-directory", "out"]
    flags[flags.index("BTCUSDT")] = "NOSUCHUSDT"
    for command in ("plan", "collect"):
        said = run(command, *flags, cwd=tmp_path, S3_ENDPOINT_URL=archive.url)
        assert said.returncode == 3
        assert "the archive has no" in said.stdout
    (tmp_path / "empty").mkdir()
    said = run("verify", "empty", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (3, "Store empty · it has no files of the archive\n")
    said = run("symbols", "spot", "--like", "NOSUCH*", cwd=tmp_path, S3_ENDPOINT_URL=archive.url)
    assert (said.returncode, said.stdout) == (3, "")
    assert said.stderr.endswith("no symbol matches 'NOSUCH*'\n")
    said = run("symbols", "spot", "--like", "btc*", cwd=tmp_path, S3_ENDPOINT_URL=archive.url)
    assert "no symbol matches 'btc*'; did you mean 'BTC*'?" in said.stderr


def test_a_path_that_cannot_be_is_a_wrong_question(tmp_path: Path, archive: LocalS3) -> None:
    (tmp_path / "taken").write_text("")
    (tmp_path / "store").mkdir()
    wrong = {
        "is a file": ("plan", *FLAGS, "--output-directory", "taken/below"),
        "not the path of a file": ("coverage", "store", "--html", "nowhere/report.html"),
        "the part of the bucket's layout": ("verify", "copy/data"),
    }
    (tmp_path / "copy" / "data" / "spot").mkdir(parents=True)
    for words, command in wrong.items():
        said = run(*command, cwd=tmp_path, S3_ENDPOINT_URL=archive.url)
        assert said.returncode == 2, said.stderr
        assert words in said.stderr
        assert "Traceback" not in said.stderr


# What there is


def test_symbols_are_those_of_the_listing(tmp_path: Path, archive: LocalS3) -> None:
    said = run("symbols", "spot", cwd=tmp_path, S3_ENDPOINT_URL=archive.url)
    assert (said.returncode, said.stdout, said.stderr) == (0, "BTCUSDT\n", "")
    url = ["--endpoint-url", archive.url]
    said = run("symbols", "spot", "klines", "--like", "BTC*", "--json", *url, cwd=tmp_path)
    assert json.loads(said.stdout) == ["BTCUSDT"]
    assert run("symbols", "spot", "--like", "*BUSD", *url, cwd=tmp_path).returncode == 3
    assert run("symbols", "option", *url, cwd=tmp_path).returncode == 3


def test_the_universe_is_a_table(tmp_path: Path, archive: LocalS3) -> None:
    feed = ["universe", "spot", "klines", "--interval", "1h", "--endpoint-url", archive.url]
    said = run(*feed, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    head, row = said.stdout.splitlines()
    assert head.split()[:3] == ["symbol", "base", "quote"]
    assert row.split()[:7] == [
        "BTCUSDT",
        "BTC",
        "USDT",
        "spot",
        "2025-07-01",
        "2025-07-03",
        "False",
    ]
    said = run(*feed, "--at", "2025-07-02", "--symbols", "BTC*,*USDT", "--json", cwd=tmp_path)
    assert [(row["symbol"], row["first"]) for row in json.loads(said.stdout)] == [
        ("BTCUSDT", "2025-07-01")
    ]
    said = run(*feed, "--at", "2025-06-30", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (3, "")
    assert "no symbol has files on 2025-06-30" in said.stderr
    said = run(*feed, "--quote", "USDC", cwd=tmp_path)
    assert said.returncode == 2
    assert "did you mean 'USDT'" in said.stderr


def test_the_matrix_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "um"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["market", "data", "type", "files", "first", "last", "intervals"]
    assert {line.split()[0] for line in lines[1:]} == {"futures_um"}
    [daily, monthly] = [line.split()[2:] for line in lines if "bookTicker" in line]
    assert (daily, monthly) == (
        ["daily", "2023-05-16", "2024-03-30"],
        ["monthly", "unknown", "2024-04"],
    )
    assert main(["matrix", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["market"] for row in rows} == set(Market)
    [ended] = [
        row for row in rows if (row["market"], row["data_type"]) == ("options", "EOHSummary")
    ]
    assert (ended["partition"], ended["last"]) == ("daily", "2023-10-23")


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("SELECT 'infinity'::DATE AS x", {"x": "infinity"}),
        ("SELECT INTERVAL 3 DAY AS x", {"x": "3 days"}),
        ("SELECT TIMESTAMP '294247-01-10 04:00:54' AS x", {"x": "294247-01-10 04:00:54"}),
        ("SELECT 170141183460469231731687303715884105727 AS x", {"x": 2**127 - 1}),
        ("SELECT 98237902.75557831::DOUBLE AS x, TRUE AS y", {"x": 98237902.75557831, "y": True}),
        ("SELECT '币' AS x, NULL AS y, [1, 2] AS z", {"x": "币", "y": None, "z": [1, 2]}),
        ("-- a comment first\nSELECT 1 AS one", {"one": 1}),
    ],
)
def test_rows_of_every_type_are_json(
    tmp_path: Path, query: str, row: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    assert main(["sql", str(tmp_path / "store"), query, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == row


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("matrix --json >&-", 0),
        ("--help >&- 2>&-", 0),
        ("verify nowhere 2>/dev/full", 2),
        ("plan - <&-", 2),
        ("matrix > /dev/full", 1),
        ("verify . ; cd gone", 2),
    ],
)
def test_streams_may_be_closed_or_full(tmp_path: Path, command: str, code: int) -> None:
    (tmp_path / "gone").mkdir()
    python = shlex.quote(sys.executable)
    script = f"{python} -W error -m binance_archive_kit {command}"
    if command.endswith("gone"):
        script = f"cd gone; rmdir ../gone; {script.partition(';')[0]}"
    said = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(bak.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == code, said.stderr
    assert "Traceback" not in said.stderr
    assert "Error" not in said.stderr


def test_sql_reads_standard_input(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    said = run("sql", "store", "-", "--json", cwd=tmp_path, stdin="SELECT 1 AS one")
    assert (said.returncode, said.stdout) == (0, '{"one":1}\n')


# Proving again


def test_verify_finds_what_rotted_and_collect_mends_it(tmp_path: Path, archive: LocalS3) -> None:
    there = {"S3_ENDPOINT_URL": archive.url}
    run("collect", *FLAGS, cwd=tmp_path, **there)
    said = run("verify", "out", cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == "Store sound · 3 of 3 files read; 3 proven\n"
    # A flipped byte, of which no stamp tells.
    rotten = next((tmp_path / "out").rglob("*07-02.zip"))
    good = rotten.read_bytes()
    rot(rotten, tmp_path / "out")
    assert "3 kept" in run("collect", *FLAGS, cwd=tmp_path, **there).stdout
    sampled = json.loads(run("verify", "out", "--sample", "0", "--json", cwd=tmp_path).stdout)
    assert (sampled["read"], sampled["proven"], sampled["sound"]) == (0, 3, True)
    said = run("verify", "out", "--json", cwd=tmp_path)
    assert said.returncode == 1
    [problem] = json.loads(said.stdout)["problems"]
    assert (problem["reason"], problem["file"]) == (
        "changed",
        rotten.relative_to(tmp_path / "out").as_posix(),
    )
    assert "1 downloaded, 2 kept" in run("collect", *FLAGS, cwd=tmp_path, **there).stdout
    assert rotten.read_bytes() == good
    assert run("verify", "out", cwd=tmp_path).returncode == 0


def test_verify_can_ask_the_archive(tmp_path: Path, archive: LocalS3) -> None:
    there = {"S3_ENDPOINT_URL": archive.url}
    run("collect", *FLAGS, cwd=tmp_path, **there)
    (tmp_path / "out/.binance_archive_kit/proofs.sqlite").unlink()
    unverified = run("verify", "out", cwd=tmp_path)
    assert (unverified.returncode, "3 unverified" in unverified.stdout) == (4, True)
    assert run("verify", "out", "--allow-unverified", cwd=tmp_path).returncode == 0
    said = run("verify", "out", "--archive", cwd=tmp_path, **there)
    assert said.stdout == "Store sound · 3 of 3 files read; 3 proven\n"
    other = daily_klines("BTCUSDT", days=3, issue=2)
    with LocalS3(BUCKET | {key: other[key] for key in other if "07-03" in key}) as server:
        said = run("verify", "out", "--archive", "--endpoint-url", server.url, cwd=tmp_path)
    assert said.returncode == 1
    assert "and the archive publishes" in said.stdout


# Among other programs


def bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    python = shlex.quote(sys.executable)
    command = f"{python} -m binance_archive_kit matrix --json | head -c 10"
    said = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (said.stdout, said.stderr) == ('[{"market"', "")


def test_it_prints_whatever_the_encoding(tmp_path: Path, config: Path) -> None:
    bucket = daily_klines("币安人生USDT", days=1)
    flags = ["--symbols", "币安人生USDT", "--endpoint-url"]
    with LocalS3(bucket) as server:
        said = run(
            "plan", "config.json", *flags, server.url, cwd=tmp_path, PYTHONIOENCODING="ascii"
        )
    assert said.returncode == 0
    assert "1 object" in said.stdout


def test_a_schedule_that_ends_it_interrupts_it(tmp_path: Path) -> None:
    """A scheduler sends SIGTERM: what is on its way is cleaned up as after Ctrl-C."""
    with LocalS3(BUCKET, fault=lambda request: Fault(hang_after=0) if request.key else None) as it:
        code, complaint = ended_by(
            signal.SIGTERM, FLAGS, it, tmp_path, lambda verb, key: key.endswith(".zip")
        )
        assert_no_downloader(it.url, within=2)
    assert code == 130
    assert "interrupted" in complaint
    assert_nothing_staged(tmp_path / "out")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "binance-archive"
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m binance_archive_kit "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ver"], {"verify"}),
        (["plan", "--mark"], {"--markets"}),
        (["plan", "--markets", "fut"], {"futures_um", "futures_cm"}),
        (["plan", "--markets", "spot,opt"], {"spot,options"}),
        (["symbols", "op"], {"options"}),
        (["completion", "z"], {"zsh"}),
    ],
)
def test_bash_completes(
    tmp_path: Path,
    program: Path,
    words: list[str],
    offered: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    line = " ".join(["binance-archive", *words])
    ask = (
        f"source ./script; COMP_WORDS=({line}); COMP_CWORD={len(words)}; "
        f"_binance_archive_completion {program}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    said = bash(ask, tmp_path)
    assert {word.strip() for word in said.stdout.splitlines()} == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert f"_BINANCE_ARCHIVE_COMPLETE={shell}_complete" in capsys.readouterr().out
