"""All errors of the package, as a tree, and the formatting of values in messages.

::

    ArchiveKitError
    ├── ConfigurationError (ValueError)   an invalid field, argument or statement
    ├── ListingError                      the archive could not be listed
    ├── DiskSpaceError                    too little space on the disk
    ├── StoreError                        a folder or a record of the store is unusable
    ├── WorkflowError                     a collection failed; has the result
    ├── CoverageError                     the data do not meet the required coverage
    ├── MissingExtraError (ImportError)   an optional dependency is not installed
    ├── FileError                         a file of the store is invalid
    │   ├── UnreadableZip       unreadable_zip       not a zip with one intact csv member
    │   ├── WrongColumns        wrong_columns        other columns than those of the feed
    │   ├── WrongValues         wrong_values         a field that does not fit its column
    │   ├── WrongUnit           wrong_unit           times in two units within the file
    │   ├── OutOfPeriod         out_of_period        rows of days outside the file's period
    │   ├── ConflictingRows     conflicting_rows     two different rows with one key
    │   ├── ChangedFile         changed              other bytes than were proven
    │   └── NoAccess            no_access            the system does not allow reading it
    └── ObjectError                       one object failed; the run continues
        ├── NotFound            not_found            listed, but gone when requested
        ├── Forbidden           forbidden            refused by the endpoint
        ├── Throttled           throttled            503 SlowDown until the retries ran out
        ├── ServerFault         server_error         any other 5xx
        ├── ConnectionLost      connection           refused, reset or never made
        ├── Truncated           truncated            the body ended before its announced length
        ├── Stalled             timeout              no progress for ``timeout_seconds``
        ├── Corrupt             corrupt              bytes differ from what the archive promises
        ├── StaleChecksum       checksum_stale       as listed, but the digest is of other bytes
        ├── AbsentChecksum      checksum_absent      no digest is published
        ├── BadChecksum         checksum_unreadable  the ``.CHECKSUM`` object has no digest
        ├── BadZip              bad_zip              not a zip with one intact csv member
        ├── DiskFull            disk_full            no space left to write
        ├── TransferFailed      transfer_failed      any other error of s5cmd
        ├── NotUploaded         upload_failed        the bucket of the store did not take it
        └── ShardFailed         shard_failed         the outcome of a shard's objects is unknown

    ArchiveKitWarning (UserWarning)       the work continues, but not quite as asked

No function of the package raises an error of another library for bad data, a bad disk or a bad
network. What users run themselves on the objects of other libraries raises the errors of these:
statements on a connection of `connect` those of DuckDB (`sql` translates them), and expressions on
frames those of Polars.
"""

from __future__ import annotations

import errno
import linecache
import re
import reprlib
import sys
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import FrameType, TracebackType
from typing import Any, ClassVar, NamedTuple, Protocol


class ArchiveKitError(Exception):
    """Base class of the errors of this package.

    A notebook shows the message and the line that raised it. ``%xmode Verbose`` and then
    ``%tb`` show the whole traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows in place of a traceback."""
        return short_traceback(self)


class ArchiveKitWarning(UserWarning):
    """The work continues, but not quite as asked.

    A value was interpreted or ignored (also in the plan's notes), a file or duplicate rows were
    left out, or something could not be recorded.
    """


class FieldProblem(NamedTuple):
    """The problem of one field of a configuration, or of one argument of a call.

    Attributes
    ----------
    field : str
        The name of the field, with dots before nested names, such as ``symbols.spot``. Empty if
        the problem does not belong to a single field.
    message : str
        The invalid value and what to do, without the name of the field.
    label : str or None
        What the text begins with in place of the name of the field.

    Examples
    --------
    >>> print(FieldProblem("sample", "-1 is not a number of files"))
    sample: -1 is not a number of files
    """

    field: str
    message: str
    label: str | None = None

    def __str__(self) -> str:
        """Return the message after the name of the field."""
        label = self.field if self.label is None else self.label
        return f"{label}: {self.message}" if label else self.message


class ConfigurationError(ArchiveKitError, ValueError):
    """One or more invalid fields, arguments or statements.

    The fields of a configuration are checked before any work and any network access; loaders,
    `scan` and `sql` also raise it after they have looked into the store. The message has one line
    for each problem: the field, the invalid value, the valid ones and the nearest of them.

    Parameters
    ----------
    *problems : FieldProblem or str
        A str is a problem that does not belong to a single field.

    Attributes
    ----------
    problems : tuple of FieldProblem
        The problems, in the order of the message.
    """

    def __init__(self, *problems: FieldProblem | str) -> None:
        self.problems = tuple(
            problem if isinstance(problem, FieldProblem) else FieldProblem("", problem)
            for problem in dict.fromkeys(problems)
        )
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the problems."""
        return type(self), self.problems


class ListingError(ArchiveKitError):
    """The archive could not be listed; nothing was planned."""


class DiskSpaceError(ArchiveKitError):
    """Too little space on the disk.

    Raised before a download if the plan does not fit, and during any work that fills the disk.
    Files that were proven by then stay.
    """


class StoreError(ArchiveKitError):
    """A folder or a record of the store is unusable; the message names it, and what to do."""


class RunResult(Protocol):
    """The part of a `CollectionResult` that handlers of errors use."""

    @property
    def failures(self) -> Sequence[ObjectError]:
        """The objects that could not be downloaded, and why."""

    @property
    def collection_stats(self) -> dict[str, int | float]:
        """Counts of objects and bytes."""


class WorkflowError(ArchiveKitError):
    """A collection failed.

    `collect` raises it if no object could be downloaded, and ``result.raise_for_failures()`` if
    any object failed. `binance_archive_kit.workflow` raises it for every error of this package
    except `ConfigurationError`; its Prefect flow also if proven files have changed.

    Attributes
    ----------
    result : CollectionResult or None
        The result of the run, with the failure of each object; None if the run did not begin.
    """

    def __init__(self, message: str, result: RunResult | None = None) -> None:
        super().__init__(message)
        self.result = result


class CoverageError(ArchiveKitError):
    """The data do not meet the required coverage; the message is the report's verdict."""


class MissingExtraError(ArchiveKitError, ImportError):
    """An optional dependency is not installed.

    >>> print(MissingExtraError("prefect", "a deployment"))
    a deployment needs the prefect extra: pip install 'binance-archive-kit[prefect]'
    """

    def __init__(self, extra: str, feature: str) -> None:
        super().__init__(
            f"{feature} needs the {extra} extra: pip install 'binance-archive-kit[{extra}]'"
        )
        self.args = (extra, feature)  # for pickle


class ObjectError(ArchiveKitError):
    """One object of the archive could not be downloaded; listed in ``result.failures``.

    Attributes
    ----------
    key : str
        The object's key in the archive.
    reason : str
        The kind of failure, in one word.
    detail : str
        What happened and, if possible, what to do.
    """

    reason: ClassVar[str]
    #: Whether the same request may succeed later.
    retryable: ClassVar[bool]

    def __init_subclass__(cls, *, reason: str, retryable: bool = False) -> None:
        cls.reason, cls.retryable = reason, retryable

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"{key}: {self.reason}: {detail}")
        self.key = key
        self.detail = detail

    def __reduce__(self) -> tuple[type[ObjectError], tuple[str, str]]:
        """Pickle by key and detail."""
        return type(self), (self.key, self.detail)


class NotFound(ObjectError, reason="not_found"):
    """The archive does not have the object, or no longer."""


class Forbidden(ObjectError, reason="forbidden"):
    """The endpoint refuses the object."""


class Throttled(ObjectError, reason="throttled", retryable=True):
    """The endpoint asked to slow down until the retries ran out."""


class ServerFault(ObjectError, reason="server_error", retryable=True):
    """The endpoint failed with a 5xx status."""


class ConnectionLost(ObjectError, reason="connection", retryable=True):
    """The connection could not be made, or was reset."""


class Truncated(ObjectError, reason="truncated", retryable=True):
    """The body ended before its announced length, on every try."""


class Stalled(ObjectError, reason="timeout", retryable=True):
    """The object made no progress, or hardly any, for ``timeout_seconds``."""


class Corrupt(ObjectError, reason="corrupt", retryable=True):
    """The bytes differ from what the archive promises; they are in quarantine."""


class StaleChecksum(ObjectError, reason="checksum_stale"):
    """The bytes are as listed, but the published digest is of other bytes."""


class AbsentChecksum(ObjectError, reason="checksum_absent"):
    """The archive has no ``.CHECKSUM`` object for this zip."""


class BadChecksum(ObjectError, reason="checksum_unreadable"):
    """The ``.CHECKSUM`` object does not begin with a SHA-256 digest."""


class BadZip(ObjectError, reason="bad_zip"):
    """The object is not a zip with exactly one intact csv member of the right name."""


class DiskFull(ObjectError, reason="disk_full"):
    """The disk has no space for the object."""


class TransferFailed(ObjectError, reason="transfer_failed"):
    """s5cmd reported another error."""


class ShardFailed(ObjectError, reason="shard_failed", retryable=True):
    """A part of a collection has no result; its ``key`` is the feed, symbols and days in words."""


class NotUploaded(ObjectError, reason="upload_failed", retryable=True):
    """The bucket of the store did not take the proven bytes; the next collection tries again."""


class FileError(ArchiveKitError):
    """A file of the store is invalid.

    Raised on reading it; ``on_error="skip"`` leaves such files out instead.

    Attributes
    ----------
    file : str
        Its path inside the store.
    reason : str
        The kind of problem, in one word.
    detail : str
        The problem, in a sentence.
    at_source : bool
        Whether the archive publishes the file like this: its bytes were hashed after the
        problem was found, and match the published SHA-256.
    """

    reason: ClassVar[str]
    #: Whether reading the same bytes again fails again.
    lasting: bool

    def __init_subclass__(cls, *, reason: str, lasting: bool = True) -> None:
        cls.reason, cls.lasting = reason, lasting

    def __init__(self, file: str, detail: str, *, at_source: bool = False) -> None:
        super().__init__(file, detail)
        self.file = file
        self.detail = detail
        self.at_source = at_source

    def __str__(self) -> str:
        """Return the problem, and what to do."""
        return f'{self.problem()}, or leave such files out with on_error="skip"'

    def problem(self) -> str:
        """Return the problem, and what to do about the file."""
        return f"{self.file}: {self.reason}: {self.detail}; {self._advice()}"

    def _advice(self) -> str:
        """Return what to do about the file."""
        if self.at_source:
            return (
                "the archive publishes it like this (its bytes match the published SHA-256), so "
                "force_redownload=True gives the same bytes; delete it and use the monthly file "
                "of its days, or the daily ones of its month"
            )
        if not self.file.lower().endswith(".zip"):
            return "unzip it again, or collect the zip, which is used instead"
        return "collect it again with force_redownload=True"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the arguments."""
        return file_error, (self.reason, self.file, self.detail, self.at_source)


class UnreadableZip(FileError, reason="unreadable_zip"):
    """The file is not a zip with exactly one intact csv member of the right name."""


class WrongColumns(FileError, reason="wrong_columns"):
    """The header or the rows do not have the columns of the feed."""


class WrongValues(FileError, reason="wrong_values"):
    """A field does not fit the type of its column."""


class WrongUnit(FileError, reason="wrong_unit"):
    """The times of the file are in two units, milliseconds and microseconds."""


class OutOfPeriod(FileError, reason="out_of_period"):
    """There are rows of days outside the file's period."""


class ConflictingRows(FileError, reason="conflicting_rows"):
    """Two rows with one key, such as candles of one open time, differ."""

    def _advice(self) -> str:
        return "use scan(...), which returns both rows"


class ChangedFile(FileError, reason="changed", lasting=False):
    """The bytes differ from those that were proven."""

    def _advice(self) -> str:
        # A collection detects the changed file by itself.
        return "collect it again"


class NoAccess(FileError, reason="no_access", lasting=False):
    """The system does not allow reading the file."""

    def _advice(self) -> str:
        return "collect it again if it is gone, or check its permissions and the disk"


def file_error(reason: str, file: str, detail: str, at_source: bool = False) -> FileError:
    """Return the error of a recorded reason."""
    kinds = {kind.reason: kind for kind in FileError.__subclasses__()}
    return kinds.get(reason, WrongValues)(file, detail, at_source=at_source)


#: Meanings of error numbers of the operating system, and what to do.
_DISK = {
    errno.EROFS: "the disk is read-only; make it writable, or choose another folder",
    errno.EACCES: "permission denied; change the permissions or the user, or choose another folder",
    errno.EPERM: "not permitted; change the permissions or the user, or choose another folder",
    errno.ENOTDIR: "it, or a folder above it, is not a folder; move it away",
    errno.EEXIST: "it, or a folder above it, is not a folder; move it away",
    errno.EISDIR: "a folder is where a file should be; move the folder away",
    errno.ELOOP: "symbolic links lead in a circle; remove them",
    errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter folder",
    errno.EFBIG: "the file would be larger than is allowed; raise the limit (ulimit -f), or "
    "choose a folder on another file system",
    errno.EIO: "the disk does not work; check it, and run verify on the store afterwards",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine; end other programs",
    errno.ESTALE: "the network file system no longer has it; mount it again",
}
#: Error numbers for a full disk: no space for bytes, or for one more file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def disk_error(error: OSError, path: object) -> ArchiveKitError:
    """Translate an error of the operating system about a file or folder.

    Parameters
    ----------
    error : OSError
    path : object
        Named in the message if `error` names no file.

    Examples
    --------
    >>> disk_error(OSError(errno.ENAMETOOLONG, "File name too long", "/data/x"), "/data")
    StoreError('/data/x: the name is too long for the file system; choose a shorter folder')
    """
    # If moving a file failed, its destination is the cause.
    names = (error.filename2, error.filename, path)
    name = next(name for name in names if name is not None)
    if isinstance(name, bytes):
        name = name.decode(errors="backslashreplace")
    if error.errno in NO_ROOM:
        return DiskSpaceError(
            f"{name}: no space (or no inode) is left on its disk; "
            "free some space, or choose a folder on another disk"
        )
    return StoreError(f"{name}: {disk_advice(error.errno) or error.strerror or error}")


def disk_advice(number: int | None) -> str:
    """Return the meaning of an error number, and what to do; empty for other numbers."""
    return _DISK.get(number or 0, "")


def field_error(field: str, message: str, label: str | None = None) -> ConfigurationError:
    """Return the error of one invalid field."""
    return ConfigurationError(FieldProblem(field, message, label))


@contextmanager
def arguments(**names: str) -> Iterator[None]:
    """Name the caller's arguments in errors; the text stays the same.

    Parameters
    ----------
    **names : str
        The caller's name of each argument that is called differently below.

    Examples
    --------
    >>> with arguments(symbols="symbol"):
    ...     raise field_error("symbols", "it is empty")
    Traceback (most recent call last):
    binance_archive_kit.errors.ConfigurationError: symbols: it is empty
    """
    try:
        yield
    except ConfigurationError as error:
        error.problems = tuple(
            FieldProblem(names[field], message, field if label is None else label)
            if field in names
            else FieldProblem(field, message, label)
            for field, message, label in error.problems
        )
        raise


def check_flag(field: str, value: object) -> None:
    """Raise a ConfigurationError unless a value is True or False."""
    if not isinstance(value, bool):
        raise field_error(field, f"{shown(value)} is neither True nor False")


def shown(value: object) -> str:
    """Format any value for a message: shortened, without passwords in URLs; never raises.

    >>> shown("BTCUSDT"), shown([1] * 1000), len(shown("x" * 10**6))
    ("'BTCUSDT'", '[1, 1, 1, 1, 1, 1, ...]', 120)
    """
    try:
        # Members of enums are shown as their values.
        text = _SHORT.repr(str(value) if isinstance(value, str) else value)
        # The repr of a frame is a table of several lines.
        return f"<{type(value).__name__}>" if "\n" in text else text
    except Exception:  # a repr of a foreign object, or of a number of 5,000 digits
        return f"<{type(value).__name__}>"


def masked(text: str) -> str:
    """Replace a user and a password in a URL.

    >>> masked("http://me:secret@proxy:3128")
    'http://***@proxy:3128'
    """
    return re.sub(r"^((?:[\w+.-]+:/+)?).*@", r"\1***@", text, flags=re.DOTALL)


class _Short(reprlib.Repr):
    """Shortens text after masking passwords."""

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(masked(x), level)

    def repr_bytes(self, x: bytes, level: int) -> str:
        return f"b{self.repr_str(x.decode('latin-1'), level)}"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120
_SHORT.maxlevel = 4


# Lines of the user's code


@cache
def _library_paths() -> tuple[str, ...]:
    """Return the beginnings of the paths of this package and of installed modules."""
    installed = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    return (*filter(None, installed), __file__.removesuffix("errors.py"), "<frozen")


def _is_library(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_library_paths())


def warn_user(message: str) -> None:
    """Issue an `ArchiveKitWarning` at the innermost line of the user's code.

    On a thread that runs no such code, as those that read files, it is the line that the main
    thread is running.
    """
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    lines = [*traceback.walk_stack(sys._getframe()), *traceback.walk_stack(main)]
    frame, line = next((each for each in lines if not _is_library(each[0])), lines[-1])
    warnings.warn_explicit(
        message,
        ArchiveKitWarning,
        frame.f_code.co_filename,
        line,
        # Python drops a warning whose module is None, as in code run by exec.
        module=frame.f_globals.get("__name__") or "<unknown>",
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


# In notebooks


def running_shell() -> Any:
    """Return the IPython shell that runs this code, or None; never imports IPython."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def short_traceback(error: BaseException) -> list[str]:
    """Return the lines to show for an error in IPython: its message, and the user's line.

    With ``%xmode Verbose`` these are the lines of the whole traceback.
    """
    shell = running_shell()
    full = getattr(shell, "InteractiveTB", None)
    if getattr(full, "mode", "") == "Verbose":
        whole: Any = full.structured_traceback(type(error), error, error.__traceback__)  # type: ignore[union-attr]
        return list(whole)
    lines = "".join(traceback.format_exception_only(error)).rstrip().split("\n")
    # Users know the name of an error, not its module.
    lines[0] = lines[0].removeprefix(f"{type(error).__module__}.")
    if user_lines := _user_lines(error.__traceback__, shell):
        lines += ["", *user_lines]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        text = "".join(traceback.format_exception_only(cause)).strip()
        lines.append(f"caused by {text}")
    return lines


def _user_lines(trace: TracebackType | None, shell: Any) -> list[str]:
    """Format the innermost lines of the user's own code, the outermost first."""
    names = getattr(getattr(shell, "compile", None), "format_code_name", None)
    lines = []
    for frame, number in traceback.walk_tb(trace):
        file = frame.f_code.co_filename
        if not _is_library(frame):
            label = " ".join((names(file) if names else None) or ("File", file))
            code = linecache.getline(file, number).strip()
            lines.append(f"{label}, line {number}: {code[:120]}")
    return lines[-3:]
