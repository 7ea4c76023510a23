"""Every command and option has a help text."""

from __future__ import annotations

import click
import pytest

from binance_archive_kit.cli.main import COMMANDS, main


def test_every_command_and_option_has_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command.name} " in listed
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert str(parameter.help).endswith(".")
