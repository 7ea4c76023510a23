"""Flags for s5cmd: each in its place, and none that would break the proof."""

from __future__ import annotations

import pytest

from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.planning.s5cmd_flags import Flags


@pytest.mark.parametrize(
    ("given", "general", "copy"),
    [
        ([], {}, {}),
        # The documented examples.
        (
            ["--no-sign-request", "--retry-count=3", "--numworkers=16", "--part-size=100MB"],
            {"--no-sign-request": None, "--retry-count": "3", "--numworkers": "16"},
            {"--part-size": "100"},
        ),
        (
            ["--no-sign-request", "--retry-count=5", "--part-size=50MB"],
            {"--no-sign-request": None, "--retry-count": "5"},
            {"--part-size": "50"},
        ),
        # In two words, and short.
        (["--part-size", "100"], {}, {"--part-size": "100"}),
        (
            ["-r", "4", "-p", "64", "-c=3"],
            {"--retry-count": "4"},
            {"--part-size": "64", "--concurrency": "3"},
        ),
        (
            ["--part-size", "10", "--no-sign-request"],
            {"--no-sign-request": None},
            {"--part-size": "10"},
        ),
        # MB in every spelling.
        *[
            ([f"--part-size=20{unit}"], {}, {"--part-size": "20"})
            for unit in ("", "M", "m", "MB", "mb", "MiB", "MIB", " MB")
        ],
        # The last of two wins, and stands once.
        (["--numworkers=1", "--numworkers=2"], {"--numworkers": "2"}, {}),
        (["-p", "5", "--part-size=6MB"], {}, {"--part-size": "6"}),
        (["--json=true"], {"--json": None}, {}),
        (
            ["--endpoint-url=http://a:1/?b=c", "--source-region", "eu-west-1"],
            {"--endpoint-url": "http://a:1/?b=c"},
            {"--source-region": "eu-west-1"},
        ),
        (["--use-list-objects-v1"], {"--use-list-objects-v1": None}, {}),
    ],
)
def test_flags_are_sorted_to_their_places(
    given: list[str], general: dict[str, str | None], copy: dict[str, str | None]
) -> None:
    flags = Flags.read(given)
    assert (flags.general, flags.copy) == (general, copy)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--part-sise=5"], "did you mean '--part-size'?"),
        (["--no-verify-ssl"], "certificates are always verified"),
        (["--worker"], "--worker"),
        (["cp"], "'cp' is not valid"),
        (["--numworkers=0"], "--numworkers=0 is not a number of at least 1"),
        (["--numworkers=-4"], "--numworkers=-4"),
        (["--numworkers=four"], "--numworkers=four"),
        (["--numworkers=４"], "--numworkers=４"),
        (["--numworkers="], "--numworkers="),
        (["--numworkers"], "--numworkers="),
        (["--numworkers", "--json"], "--numworkers=--json"),
        (["--part-size=1GB"], "--part-size=1G"),
        (["--part-size=-1"], "--part-size=-1"),
        (["--part-size=1.5MB"], "--part-size=1.5"),
        (["--part-size=MB"], "--part-size="),
        (["--endpoint-url"], "--endpoint-url has no value"),
        (["--endpoint-url="], "--endpoint-url has no value"),
        (["--json=false"], "--json takes no value"),
        (["--no-sign-request=0"], "takes no value"),
        *[
            ([flag], f"{flag} cannot be set")
            for flag in (
                "-n",
                "-s",
                "-u",
                "--no-clobber",
                "--if-size-differ",
                "--if-source-newer",
                "--dry-run",
                "--stat",
                "--raw",
                "--show-progress",
            )
        ],
        (["--log=debug"], "--log cannot be set"),
        (["--exclude=*"], "--exclude cannot be set"),
        ([""], "'' is not valid"),
    ],
)
def test_flags_that_are_refused(given: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Flags.read(given)
    assert str(caught.value).startswith("s5cmd_extra_args: ")
    assert said in str(caught.value)


def test_an_unknown_flag_is_answered_with_all_there_are() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Flags.read(["--frobnicate"])
    for flag in ("--numworkers", "--retry-count", "--part-size", "--concurrency"):
        assert flag in str(caught.value)
