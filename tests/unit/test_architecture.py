"""Modules do nothing on import, names are public once, and the import costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import binance_archive_kit as bak

PACKAGE = Path(bak.__file__).parent

#: Imported on first use, never by the package itself.
HEAVY = [
    "matplotlib",
    "IPython",
    "ipywidgets",
    "anywidget",
    "jupyterlab",
    "prefect",
    "pandas",
    "nautilus_trader",
    "polars",
    "duckdb",
    "pydantic",
    "httpx",
    "pycurl",
]


def is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imports(node: ast.AST) -> Iterator[str]:
    """Dotted names that a module imports when it runs, function bodies included."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            if child.module == "binance_archive_kit":
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            else:
                yield str(child.module)
        yield from imports(child)


MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def test_no_package_is_named_like_a_public_name() -> None:
    # The submodule would replace the name on its second use.
    top = {path.stem for path in PACKAGE.iterdir() if path.stem != "__init__"}
    assert not top & set(bak.__all__)
    assert not {"utils", "common", "helpers", "manager"} & {m.split(".")[-1] for m in MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_modules_say_what_they_are_for(name: str) -> None:
    docstring = ast.get_docstring(tree(name))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__main__"])
def test_no_module_does_anything_on_import(name: str) -> None:
    for node in tree(name).body:
        loose = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        main = isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        assert not loose or main, ast.unparse(node)
        assert not isinstance(node, ast.For | ast.While | ast.With | ast.Global)


def test_pure_modules_touch_nothing_outside() -> None:
    outside = {"os", "socket", "subprocess", "sqlite3", "pathlib", "time", "shutil", "asyncio"}
    for name in (
        "errors",
        "suggestions",
        "timestamps",
        "archive.enums",
        "archive.keys",
        "display.render",
        "planning.requests",
        "planning.plan",
        "planning.decide",
        "planning.date_range",
        "planning.s5cmd_flags",
        "download.result",
        "form.model",
        "form.messages",
        "form.edits",
        "planning.absences",
        "planning.field_values",
    ):
        assert not {i.partition(".")[0] for i in imports(tree(name))} & outside, name


# The public surface


def test_public_names_are_there() -> None:
    assert len(set(bak.__all__)) == len(bak.__all__)
    assert set(bak.__all__) <= set(dir(bak))
    for name in bak.__all__:
        assert getattr(bak, name) is not None
    assert {"CollectionConfig", "plan", "aplan", "collect", "acollect"} <= set(bak.__all__)


def stub() -> ast.Module:
    return ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))


def homes() -> dict[str, str]:
    """The module of each public name."""
    return {
        alias.name: f"binance_archive_kit.{node.module}"
        for node in stub().body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_public_names_are_listed_once() -> None:
    [listed] = [node.value for node in stub().body if isinstance(node, ast.Assign)]
    assert ast.literal_eval(listed) == sorted(bak.__all__)
    assert set(bak.__all__) == {*homes(), "__version__"}


def test_public_names_say_where_they_live() -> None:
    for name, home in homes().items():
        value = getattr(bak, name)
        assert value.__module__ == home
        assert value.__doc__


def test_each_package_is_described_in_the_docstring() -> None:
    packages = {path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    described = str(bak.__doc__).partition("from the ground up")[2]
    assert not {name for name in packages | modules if name not in described}


def test_unknown_names_are_said_to_be_unknown() -> None:
    with pytest.raises(AttributeError, match="attribute frobnicate"):
        _ = bak.frobnicate  # type: ignore[attr-defined]
    assert not hasattr(bak, "frobnicate")


def fresh(code: str) -> str:
    """Run code in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=PACKAGE.parent,
    ).stdout.strip()


def test_the_import_loads_nothing_heavy() -> None:
    said = fresh(
        "import sys, time; before = set(sys.modules); start = time.perf_counter(); "
        "import binance_archive_kit; took = time.perf_counter() - start; "
        "dir(binance_archive_kit); binance_archive_kit.ConfigurationError; "
        "print(took, *sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    took, *loaded = said.split()
    assert not set(HEAVY) & set(loaded)
    assert float(took) < 1


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "import binance_archive_kit as b; b.CollectionConfig",
            "polars httpx pycurl duckdb matplotlib",
        ),
        (
            "import binance_archive_kit as b; b.collect",
            "matplotlib IPython ipywidgets prefect httpx",
        ),
        ("import binance_archive_kit as b; b.plan", "duckdb jupyterlab httpx"),
    ],
)
def test_names_load_no_more_than_they_need(code: str, absent: str) -> None:
    loaded = fresh(f"import sys; {code}; print(*{{m.partition('.')[0] for m in sys.modules}})")
    assert not set(absent.split()) & set(loaded.split())


def test_star_import_gives_the_public_names() -> None:
    said = fresh("from binance_archive_kit import *; print(*sorted(globals()))")
    assert set(bak.__all__) <= set(said.split())
