"""How long a run is, and what happens when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from discffusion.errors import ConfigError

__all__ = ["Plan", "whole_number"]


@dataclass(frozen=True)
class Plan:
    """Counts optimiser steps; an epoch ends with a smaller step if the items do not come out even."""

    items: int
    items_per_step: int
    epochs: int
    max_steps: int | None
    checkpoint_every: int
    validate_every: int
    patience: int | None

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.items // self.items_per_step)

    @property
    def total(self) -> int:
        every = self.epochs * self.steps_per_epoch
        return every if self.max_steps is None else min(every, self.max_steps)

    def epoch(self, step: int) -> int:
        """The epoch, from 1, of a step, from 1; 0 before the first."""
        return -(-step // self.steps_per_epoch)

    def validates(self, step: int) -> bool:
        """Whether there is a validation after so many steps: before the first, between epochs, and at the end."""
        return step == self.total or step % (self.steps_per_epoch * self.validate_every) == 0

    def checkpoints(self, step: int) -> bool:
        """Whether a state is written after so many steps."""
        return step > 0 and step % self.checkpoint_every == 0


def whole_number(name: str, value: object, least: int) -> int:
    """`value`, if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigError(f"{name} is {value!r}; expected a whole number, {least} or more")
    return int(value)
