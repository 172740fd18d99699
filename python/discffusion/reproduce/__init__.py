"""The paper's tables and figures, measured: one file each in ``experiments``, one command for all.

>>> from discffusion.reproduce import reproduce
>>> results = reproduce(["table3"], quick=True, output="reproduced")
"""

from __future__ import annotations

from discffusion.reproduce.registry import describe_experiments, experiment, experiment_names
from discffusion.reproduce.run import reproduce

__all__ = ["describe_experiments", "experiment", "experiment_names", "reproduce"]
