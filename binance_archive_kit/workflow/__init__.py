"""The documented workflow: its names and its manners, over the one engine of `collect`.

::

    config = WorkflowConfig({"workflow_type": "archive_collection", ...})
    workflow = PrefectArchiveCollectionWorkflow(config)
    result = await workflow.execute()
    print(result["status"], result["collection_stats"]["successful_tasks"])

`archive_collection_flow` does the same in one call. With the ``prefect`` extra it is a
Prefect flow, see `flows`; without it a plain coroutine function, and only what needs
Prefect asks for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from binance_archive_kit.download.collect import acollect
from binance_archive_kit.download.events import EventLog, MetricsCollector
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import (
    ArchiveKitError,
    ArchiveKitWarning,
    ConfigurationError,
    FieldProblem,
    MissingExtraError,
    WorkflowError,
    shown,
)
from binance_archive_kit.planning.config import CollectionConfig, is_field, unknown_field
from binance_archive_kit.storage.layout import BaseStorage

if TYPE_CHECKING:
    #: A Prefect flow with the ``prefect`` extra, else a `PlainFlow`.
    archive_collection_flow: Any

__all__ = [
    "BaseStorage",
    "ConfigurationError",
    "MetricsCollector",
    "PrefectArchiveCollectionWorkflow",
    "WorkflowConfig",
    "WorkflowError",
    "archive_collection_flow",
]

_REQUIRED = (
    "workflow_type",
    "matrix_path",
    "output_directory",
    "markets",
    "symbols",
    "data_types",
)
_FLOWS = "binance_archive_kit.workflow.flow"


class WorkflowConfig(dict[str, Any]):
    """A configuration as a plain dictionary, checked when it is carried out and not before.

    Unknown keys stay in the dictionary, unused, with a warning for each; a `CollectionConfig`
    rejects them.

    Examples
    --------
    >>> config = WorkflowConfig({"markets": ["sport"]})
    >>> config.read()
    Traceback (most recent call last):
    binance_archive_kit.errors.ConfigurationError: workflow_type: required, and not given
    matrix_path: required, and not given
    output_directory: required, and not given
    symbols: required, and not given
    data_types: required, and not given
    """

    def read(self) -> CollectionConfig:
        """Check the configuration, and give it as a `CollectionConfig`.

        Raises
        ------
        ConfigurationError
            If a required field is missing, or a value is invalid.

        Warns
        -----
        ArchiveKitWarning
            For each unknown key, with the nearest known name.
        """
        for name in self:
            if not isinstance(name, str):
                raise ConfigurationError(f"{shown(name)}: not the name of a field; names are text")
        absent = [name for name in _REQUIRED if name not in self]
        if absent:
            raise ConfigurationError(
                *(FieldProblem(name, "required, and not given") for name in absent)
            )
        for name in self:
            if not is_field(name):
                warnings.warn(f"{unknown_field(name)} (ignored)", ArchiveKitWarning, stacklevel=3)
        return CollectionConfig(**{name: value for name, value in self.items() if is_field(name)})


class PrefectArchiveCollectionWorkflow:
    """A collection that is ready to be carried out.

    Parameters
    ----------
    config : WorkflowConfig, dict or CollectionConfig
    metrics : MetricsCollector, optional
        Is told what happens as it happens.

    Attributes
    ----------
    storage : BaseStorage or None
        May be set: its ``get_partition_path`` then decides where files lie.
    """

    def __init__(
        self,
        config: dict[str, Any] | CollectionConfig,
        metrics: MetricsCollector | None = None,
    ) -> None:
        self.config = config
        self.metrics = metrics
        self.storage: BaseStorage | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config!r})"

    async def execute(self) -> CollectionResult:
        """Collect what is asked for, and prove every file.

        Returns
        -------
        CollectionResult
            Read by key or by attribute.

        Raises
        ------
        ConfigurationError
            If a value cannot be meant; before any network use. Trying again is of no use.
        WorkflowError
            If nothing could be had: every object failed, the archive could not be asked, or
            the disk has no room. Trying again may help.
        """
        with EventLog(self.metrics).emitting_errors():
            config = read_config(self.config)
        with documented_errors():
            return await acollect(config, storage=self.storage, metrics=self.metrics)


def read_config(config: object) -> CollectionConfig:
    """Read a configuration in any of the forms that the workflow takes.

    Raises
    ------
    ConfigurationError
        If it is none, or a value cannot be meant.
    """
    if isinstance(config, CollectionConfig):
        return config
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"config: {shown(config)} is not a configuration; "
            "give a dict, as WorkflowConfig({...})"
        )
    return WorkflowConfig(config).read()


@contextmanager
def documented_errors() -> Iterator[None]:
    """Raise what goes wrong as one of the two documented errors."""
    try:
        yield
    except (ConfigurationError, WorkflowError):
        raise
    except ArchiveKitError as error:
        raise WorkflowError(str(error)) from error


class PlainFlow:
    """`archive_collection_flow` where Prefect is not installed: awaitable, not deployable."""

    __name__ = "archive_collection_flow"

    def __call__(
        self,
        config: dict[str, Any] | CollectionConfig,
        metrics: MetricsCollector | None = None,
    ) -> Coroutine[Any, Any, CollectionResult]:
        """Collect what is asked for, as `PrefectArchiveCollectionWorkflow.execute` does."""
        return PrefectArchiveCollectionWorkflow(config, metrics).execute()

    def __repr__(self) -> str:
        return "PlainFlow(archive_collection_flow, without Prefect)"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise MissingExtraError("prefect", f"archive_collection_flow.{name}")


def __getattr__(name: str) -> Any:
    """Load `archive_collection_flow` when it is asked for: Prefect takes seconds to import."""
    if name != "archive_collection_flow":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import_module("prefect")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prefect":
            raise  # Prefect is there, and lacks something
        return PlainFlow()
    return import_module(_FLOWS).archive_collection_flow
