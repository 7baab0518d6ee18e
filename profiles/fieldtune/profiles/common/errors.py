"""Every exception that fieldtune raises deliberately.

::

    FieldtuneError                 exit 1   base class, and errors without a class of their own
    ├── UsageError                 exit 2   the user's input is invalid
    │   ├── StudyError                      a study file: unknown key, wrong value, missing file
    │   ├── ProfileError                    a device profile: unknown name, invalid value
    │   ├── DataError                       a data set: not installed, empty, wrong shape
    │   ├── BundleError                     a device's bundle: missing, damaged, wrong keys
    │   ├── DeploymentError                 a coordinator's folder: missing, damaged, wrong name
    │   └── MissingExtraError               a command whose optional packages are not installed
    ├── InfeasibleError            exit 3   no configuration satisfies the limits
    │   └── NoModelFitsError                no model of any kind does, so none was compiled
    ├── RunFolderError             exit 4   a run folder belongs to another study or is incomplete
    ├── StorageError               exit 5   the disk is full or a file cannot be written
    ├── CompileError               exit 6   a model cannot be compiled or fails verification
    ├── FleetError                 exit 7   the fleet cannot carry out a request
    └── InterruptError             exit 130 Ctrl-C, SIGTERM or SIGHUP

A message is one or two sentences: the value, the limit, the remedy.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class FieldtuneError(Exception):
    """Base of every error that fieldtune raises deliberately.

    ``exit_code`` is what the command exits with.
    """

    exit_code = 1


class UsageError(FieldtuneError):
    """The user's input is invalid."""

    exit_code = 2


class StudyError(UsageError):
    """A study file has an unknown key, a wrong value, or is missing."""


class ProfileError(UsageError):
    """A device profile is unknown or has an invalid value."""


class DataError(UsageError):
    """A data set is not installed, empty, or of the wrong shape."""


class BundleError(UsageError):
    """A device's bundle is missing or damaged."""


class DeploymentError(UsageError):
    """A coordinator's folder is missing or damaged, or a device's name cannot be used."""


class MissingExtraError(UsageError):
    """A command needs packages of an extra that is not installed."""

    def __init__(self, what: str, extra: str, module: str) -> None:
        super().__init__(
            f"{what} needs the package {module!r}, which is not installed: "
            f"pip install 'fieldtune[{extra}]'"
        )


class InfeasibleError(FieldtuneError):
    """No configuration satisfies the limits."""

    exit_code = 3


class NoModelFitsError(InfeasibleError):
    """No model of any kind satisfies the limits, so none was compiled to find that out."""


class RunFolderError(FieldtuneError):
    """A run folder belongs to another study or is incomplete."""

    exit_code = 4


class StorageError(FieldtuneError):
    """The disk is full or a file cannot be written."""

    exit_code = 5


class CompileError(FieldtuneError):
    """A model cannot be compiled, or its artefact failed verification."""

    exit_code = 6


class FleetError(FieldtuneError):
    """The fleet cannot carry out a request."""

    exit_code = 7


class InterruptError(FieldtuneError):
    """Ctrl-C, SIGTERM or SIGHUP; finished trials and rounds are kept."""

    exit_code = 130


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` if a known name is similar, else an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
