"""Notebooks stay short, plain and without outputs; nbval runs each of them."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted(Path(__file__).parents[2].glob("notebooks/*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_one_job(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 20
    assert notebook.cells[0].source.startswith("# ")
    assert not any(line.lstrip().startswith("def ") for c in code for line in c.source.splitlines())
    assert all(len(cell.source.splitlines()) <= 25 for cell in notebook.cells)
    # The demo archive by default, and one line to switch to the real one.
    beginning = "\n".join(cell.source for cell in notebook.cells[:4])
    assert "bak.demo_archive()" in beginning
    assert "endpoint = None" in beginning


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert not {"widgets"} & set(notebook.metadata)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_ends_with_the_next_step(path: Path) -> None:
    last = nbformat.read(path, as_version=4).cells[-1]
    assert last.source.startswith("## Next\n")
    links = re.findall(r"\]\((.*?)\)", last.source)
    assert links
    assert all((path.parent / link).is_file() for link in links)


def test_the_notebooks_are_numbered() -> None:
    numbers = [path.stem.partition("_")[0] for path in NOTEBOOKS]
    assert len(set(numbers)) == len(numbers)
    assert all(number.isdigit() for number in numbers)
