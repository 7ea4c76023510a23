"""Errors carry what is wrong as data, and as text."""

from __future__ import annotations

import pickle

import pytest

import binance_archive_kit as bak
from binance_archive_kit import errors
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
    FieldProblem,
    ObjectError,
    warn_user,
)
from binance_archive_kit.paths import read_path


def test_a_configuration_error_lists_its_problems_once() -> None:
    start = FieldProblem("date_range.start", "'soon' is not a day")
    error = ConfigurationError(start, "start and end exclude each other", start)
    assert error.problems == (start, FieldProblem("", "start and end exclude each other"))
    assert str(error) == ("date_range.start: 'soon' is not a day\nstart and end exclude each other")
    again = pickle.loads(pickle.dumps(error))
    assert (again.problems, str(again)) == (error.problems, str(error))


def test_checks_of_values_name_the_field_apart_from_the_message() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_path("output_directory", "")
    [problem] = caught.value.problems
    assert problem.field == "output_directory"
    assert problem.message.startswith("'' is empty")


def every(kind: type[ObjectError]) -> list[type[ObjectError]]:
    return [each for sub in kind.__subclasses__() for each in (sub, *every(sub))]


def test_each_failure_has_its_own_word_and_stands_in_the_tree() -> None:
    kinds = every(ObjectError)
    reasons = [kind.reason for kind in kinds]
    assert len(set(reasons)) == len(reasons)
    for kind in kinds:
        assert kind.__name__ in str(errors.__doc__)
        assert kind.reason in str(errors.__doc__)
        error = kind("data/x.zip", "why")
        assert str(error) == f"data/x.zip: {kind.reason}: why"
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.key, again.detail) == (kind, "data/x.zip", "why")


def test_a_missing_extra_can_be_pickled() -> None:
    error = errors.MissingExtraError("prefect", "a deployment")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (errors.MissingExtraError, str(error))


def test_code_run_by_exec_is_warned_too() -> None:
    with pytest.warns(ArchiveKitWarning, match="look here"):
        exec("warn_user('look here')", {"warn_user": warn_user})


def test_an_unknown_public_name_is_answered_by_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"attribute to_panda; did you mean 'to_pandas'\?"):
        _ = bak.to_panda  # type: ignore[attr-defined]
    assert not hasattr(bak, "__wrapped__")
