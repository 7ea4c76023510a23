"""Names are read in any accepted spelling; errors name the argument."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from binance_archive_kit.archive.enums import read_interval, read_market, read_names
from binance_archive_kit.errors import ConfigurationError, FieldProblem


@pytest.mark.parametrize(
    ("read", "field", "message"),
    [
        (lambda: read_market("sport"), "market", "'sport' is not valid; did you mean 'spot'?"),
        (lambda: read_interval("10m"), "interval", "'10m' is not valid. Valid: 1s, 1m"),
        (lambda: read_names("symbols", 5), "symbols", "5 is neither a name nor several"),  # type: ignore[arg-type]
        (lambda: read_names("symbols", b"A"), "symbols", "b'A' is neither a name nor several"),  # type: ignore[arg-type]
        (lambda: read_names("symbols", []), "symbols", "it is empty; give one name or several"),
        (lambda: read_names("symbols", [1]), "symbols", "1 is not a name; names are text"),  # type: ignore[list-item]
        (lambda: read_names("symbols", " "), "symbols", "' ' is empty; give one name or several"),
    ],
)
def test_errors_name_the_argument(read: Callable[[], object], field: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read()
    [problem] = caught.value.problems
    assert problem.field == field
    assert problem.message.startswith(message)
    assert str(caught.value) == str(FieldProblem(field, problem.message))
