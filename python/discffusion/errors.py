"""Errors that reach the user: each is a :class:`DiscffusionError` and the builtin a caller expects.

The core raises them by name, so a new variant of its error type needs a class of that name here. A message says
what was given, what was expected and what to do.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "CopyError",
    "DatasetError",
    "DatasetOptionError",
    "DeltasError",
    "DeviceError",
    "DiscffusionError",
    "ImageError",
    "InstallationError",
    "NumericalError",
    "OutOfMemoryError",
    "OutputError",
    "TrainingError",
]


class DiscffusionError(Exception):
    """Base of all errors of this package."""


class ConfigError(DiscffusionError, ValueError):
    """An option, a text or an argument is unknown or out of range."""


class CopyError(DiscffusionError, TypeError):
    """An object cannot be pickled or copied; the message says what can."""


class ImageError(DiscffusionError, ValueError):
    """An image cannot be read, or an array is not one."""


class CheckpointError(DiscffusionError, ValueError):
    """A model is missing, incomplete, corrupt or of an unsupported kind."""


class DeltasError(DiscffusionError, ValueError):
    """A file of deltas or of a training state cannot be read or belongs to another architecture."""


class DatasetError(DiscffusionError, ValueError):
    """A dataset, or an item of one, is missing or malformed."""


class DatasetOptionError(DatasetError, ConfigError):
    """The name, split, subset or another option of a dataset is unknown or out of range."""


class OutputError(ConfigError):
    """A file or folder for results cannot be used, or holds the results of something else."""


class NumericalError(DiscffusionError, ArithmeticError):
    """The network gave numbers that are not finite, in half precision most of the time; the message says where."""


class OutOfMemoryError(DiscffusionError, MemoryError):
    """Memory ran out on the device."""


class DeviceError(DiscffusionError, RuntimeError):
    """The device or the data type asked for is not available."""


class InstallationError(DiscffusionError, ImportError):
    """Something that has to be installed is missing or of another version: torch, the core, an optional package."""


class TrainingError(DiscffusionError, RuntimeError):
    """Training cannot go on: the loss is not a number, or the folder of the run is in use."""
