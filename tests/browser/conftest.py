"""A JupyterLab of its own, and Debian's Chromium that looks at it.

Screenshots go to a folder outside the repository: the one that ``BINANCE_ARCHIVE_SCREENSHOTS``
names, else a temporary one. Where there is no browser, these tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest

from tests.support.kernels import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
#: The look of the page is the same every time, and no news come in.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
}


def _settings(theme: str) -> Iterator[tuple[str, dict[str, object]]]:
    yield from SETTINGS.items()
    yield "apputils-extension/themes", {"theme": theme, "adaptive-theme": False}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Chromium once."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install it")
    if CHROMIUM is None:
        pytest.skip("no browser here: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        # As root, as in a container, Chromium has no sandbox.
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Name the folder for pictures, outside the repository."""
    named = os.environ.get("BINANCE_ARCHIVE_SCREENSHOTS")
    folder = Path(named) if named else Path(tempfile.mkdtemp(prefix="binance-archive-pictures-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"\nscreenshots: {folder}")
    return folder


class Lab:
    """A running JupyterLab, and the folder it shows."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Run JupyterLab with settings of its own."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "work"
    folder.mkdir()
    for name, values in _settings("JupyterLab Light"):
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    port = free_port()
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                "--expose-app-in-browser",
                f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0",
                "--ServerApp.ip=127.0.0.1",
                "--IdentityProvider.token=",
                "--ServerApp.disable_check_xsrf=True",
                f"--ServerApp.root_dir={folder}",
            ],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            until = time.monotonic() + 60
            while True:
                with suppress(URLError, OSError), urlopen(f"{url}/api/status", timeout=5):
                    break
                assert server.poll() is None, (home / "log").read_text()
                assert time.monotonic() < until, "JupyterLab does not start"
                time.sleep(0.1)
            yield Lab(url, folder)
        finally:
            server.terminate()
            server.wait(timeout=20)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a window, 1,280 px wide, that may use the clipboard."""
    from playwright import sync_api

    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(20_000)
    sync_api.expect.set_options(timeout=20_000)
    yield page
    context.close()


class Notebook:
    """A notebook that is open in the browser."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url

    def open(self, *, reset: bool) -> None:
        """Load the page, and wait until JupyterLab is there and the kernel is idle."""
        self.page.goto(f"{self._url}{'?reset' if reset else ''}")
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
        )
        self.page.evaluate("jupyterapp.restored")
        self.idle()
        # Its own dialogs and side bars are not what is looked at.
        self.page.evaluate(
            "if (!jupyterapp.shell.leftCollapsed)"
            " jupyterapp.commands.execute('application:toggle-left-area')"
        )

    def idle(self) -> None:
        """Wait until the kernel has nothing to do."""
        self.page.wait_for_function(
            "jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )

    def run_through(self, words: str, *, wait: bool = True) -> Locator:
        """Run the cells up to the first one not run yet that holds some words.

        Returns that cell.
        """
        at = self.page.evaluate(
            """words => {
              const {content} = jupyterapp.shell.currentWidget;
              const cells = content.widgets.map(cell => cell.model);
              const at = cells.findIndex(
                cell => cell.type === 'code' && cell.sharedModel.source.includes(words));
              const done = cells.slice(0, at).findLastIndex(cell => cell.executionCount);
              content.activeCellIndex = done + 1;
              content.deselectAll();
              if (at > done + 1) content.extendContiguousSelectionTo(at);
              return at;
            }""",
            words,
        )
        assert at >= 0, f"no cell holds {words!r}"
        cell = self.page.locator(".jp-Notebook .jp-Cell").nth(at)
        self.page.evaluate("void jupyterapp.commands.execute('notebook:run-cell')")
        if wait:
            self.page.wait_for_function(
                "at => jupyterapp.shell.currentWidget.content.widgets[at].model.executionCount",
                arg=at,
                timeout=60_000,
            )
            self.idle()
        return cell

    def interrupt(self) -> None:
        """Press the button with the square."""
        self.page.get_by_role("button", name="Interrupt the kernel").first.click()

    def theme(self, name: str) -> None:
        """Change to the light or the dark theme."""
        self.page.evaluate(
            f"jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {name}'}})"
        )
        light = str(name == "Light").lower()
        self.page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")

    def come_back(self) -> None:
        """Close the tab, and open the notebook in another one; its kernel ran on."""
        self.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
        context = self.page.context
        self.page.close()
        self.page = context.new_page()
        self.open(reset=False)

    def shut_down(self) -> None:
        """End its kernel."""
        self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")


Open = Callable[[str, "nbformat.NotebookNode"], Notebook]


@pytest.fixture
def open_notebook(lab: Lab, page: Page) -> Open:
    """Lend a function that opens a notebook in the browser."""

    def make(name: str, source: nbformat.NotebookNode) -> Notebook:
        source.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(source, lab.folder / name)
        notebook = Notebook(page, f"{lab.url}/lab/tree/{name}")
        notebook.open(reset=True)
        return notebook

    return make


def fits(form: Locator) -> list[str]:
    """Name what does not fit: what is cut off, and what lies over something else."""
    found: list[str] = form.evaluate(
        """form => {
          const seen = [...form.querySelectorAll(
            'label, button, input, summary, strong, small, .bak-label, .bak-message, .bak-state,'
            + '.bak-plan')]
            .filter(each => each.checkVisibility());
          const text = each => (each.textContent || each.value || '').slice(0, 40);
          const name = each => `${each.tagName} ${text(each)}`;
          const cut = seen.filter(each => !['INPUT', 'SMALL', 'STRONG'].includes(each.tagName)
              && each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0)
            .map(each => `cut off: ${name(each)}`);
          const edge = form.getBoundingClientRect();
          const out = seen.filter(each => each.getBoundingClientRect().right > edge.right + 1)
            .map(each => `outside: ${name(each)}`);
          const over = [];
          for (const a of seen) for (const b of seen) {
            if (a === b || a.contains(b) || b.contains(a)) continue;
            const [p, q] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
            if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1
                && q.top < p.bottom - 1) over.push(`over each other: ${name(a)} / ${name(b)}`);
          }
          return [...cut, ...out, ...over];
        }"""
    )
    return found


def unlabelled(form: Locator) -> list[str]:
    """Name the fields that no label tells of."""
    found: list[str] = form.evaluate(
        """form => [...form.querySelectorAll('input, textarea, button, [role=listbox]')]
          .filter(each => each.checkVisibility())
          .filter(each => !(each.labels?.length || each.ariaLabel || each.textContent.trim()))
          .map(each => each.outerHTML.slice(0, 120))"""
    )
    return found
