"""Errors carry what is wrong as data, and as text."""

from __future__ import annotations

import pickle

import pytest

from binance_archive_kit.errors import ConfigurationError, FieldProblem, unknown
from binance_archive_kit.paths import read_path


def test_a_configuration_error_lists_its_problems_once() -> None:
    start = FieldProblem("date_range.start", "'soon' is not a day")
    error = ConfigurationError(start, "start and end exclude each other", start)
    assert error.problems == (start, FieldProblem("", "start and end exclude each other"))
    assert str(error) == ("date_range.start: 'soon' is not a day\nstart and end exclude each other")
    again = pickle.loads(pickle.dumps(error))
    assert (again.problems, str(again)) == (error.problems, str(error))


def test_checks_of_values_name_the_field_apart_from_the_message() -> None:
    assert unknown("markets", "sport", ["spot"]).field == "markets"
    with pytest.raises(ConfigurationError) as caught:
        read_path("output_directory", "")
    [problem] = caught.value.problems
    assert problem.field == "output_directory"
    assert problem.message.startswith("'' is empty")
