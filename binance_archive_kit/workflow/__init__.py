"""The documented workflow, with its names and errors, based on `collect`.

::

    config = WorkflowConfig({"workflow_type": "archive_collection", ...})
    workflow = PrefectArchiveCollectionWorkflow(config)
    result = await workflow.execute()
    print(result["status"], result["collection_stats"]["successful_tasks"])

`archive_collection_flow` does the same in one call. With the ``prefect`` extra it is a
Prefect flow, see `flow`; without it a coroutine function, and methods of a Prefect flow raise a
`MissingExtraError`.
"""

from __future__ import annotations

import warnings
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from binance_archive_kit.collection.collect import acollect
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
from binance_archive_kit.planning.config import (
    CollectionConfig,
    check_names,
    is_field,
    unknown_field,
)
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


class WorkflowConfig(dict[str, Any]):
    """A configuration as a plain dictionary, validated when it is executed.

    Unknown keys are ignored with a warning; a `CollectionConfig` rejects them.

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
        """Validate the configuration and return a `CollectionConfig`.

        Raises
        ------
        ConfigurationError
            If a required field is missing, or a value is invalid.

        Warns
        -----
        ArchiveKitWarning
            For each unknown key, with the nearest known name.
        """
        check_names(self)
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
    """A collection, ready to be executed.

    Parameters
    ----------
    config : WorkflowConfig, dict or CollectionConfig
    metrics : MetricsCollector, optional
        Receives the events of the collection while it runs.

    Attributes
    ----------
    storage : BaseStorage or None
        Chooses the folders of files, by its ``get_partition_path``; None by default.
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
        """Collect the data of the configuration, and prove every file.

        Returns
        -------
        CollectionResult
            Read by key or by attribute.

        Raises
        ------
        ConfigurationError
            If a value is invalid. Raised before any network access; retrying does not help.
        WorkflowError
            If nothing was collected: every object failed, the archive could not be listed, or
            the disk is full. Retrying may help.
        """
        with EventLog(self.metrics).emitting_errors():
            config = to_collection_config(self.config)
        with documented_errors():
            return await acollect(config, storage=self.storage, metrics=self.metrics)


def to_collection_config(config: object) -> CollectionConfig:
    """Convert a `CollectionConfig` or a dictionary to a `CollectionConfig`.

    Raises
    ------
    ConfigurationError
        If it is neither, or a value is invalid.
    """
    if isinstance(config, CollectionConfig):
        return config
    if isinstance(config, Mapping):
        return WorkflowConfig(config).read()
    problem = f"{shown(config)} is not a configuration; give a dict, as WorkflowConfig({{...}})"
    raise ConfigurationError(FieldProblem("config", problem))


@contextmanager
def documented_errors() -> Iterator[None]:
    """Convert the package's undocumented errors to `WorkflowError`."""
    try:
        yield
    except (ConfigurationError, WorkflowError):
        raise
    except ArchiveKitError as error:
        raise WorkflowError(str(error)) from error


class PlainFlow:
    """`archive_collection_flow` without Prefect: can be awaited, not deployed."""

    __name__ = "archive_collection_flow"

    def __call__(
        self,
        config: dict[str, Any] | CollectionConfig,
        metrics: MetricsCollector | None = None,
    ) -> Coroutine[Any, Any, CollectionResult]:
        """Collect, as `PrefectArchiveCollectionWorkflow.execute` does."""
        return PrefectArchiveCollectionWorkflow(config, metrics).execute()

    def __repr__(self) -> str:
        return "PlainFlow(archive_collection_flow, without Prefect)"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise MissingExtraError("prefect", f"archive_collection_flow.{name}")


def __getattr__(name: str) -> Any:
    """Load `archive_collection_flow` on first use: importing Prefect takes seconds."""
    if name != "archive_collection_flow":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import_module("prefect")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prefect":
            raise  # Prefect is installed, but one of its dependencies is not
        return PlainFlow()
    return import_module("binance_archive_kit.workflow.flow").archive_collection_flow
