"""How long a run is, and what happens when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Counts optimiser steps; an epoch ends with a smaller one if the items do not come out even.

    Where items of a batch are compared with each other (`in_batch`, true with the option `batch_texts` too), one that
    would be left alone joins the batch before it.
    """

    items: int
    batch_size: int
    in_batch: bool
    epochs: int
    max_steps: int | None
    checkpoint_every: int
    validate_every: int
    patience: int | None

    @property
    def steps_per_epoch(self) -> int:
        whole, rest = divmod(self.items, self.batch_size)
        joins = self.in_batch and rest == 1 and self.batch_size > 1 and whole > 0
        return whole if joins or rest == 0 else whole + 1

    @property
    def total(self) -> int:
        every = self.epochs * self.steps_per_epoch
        return every if self.max_steps is None else min(every, self.max_steps)

    def batch(self, order: Sequence[int], number: int) -> list[int]:
        """The items of a batch of an epoch, the first of which is number 0."""
        end = None if number + 1 == self.steps_per_epoch else (number + 1) * self.batch_size
        return list(order[number * self.batch_size : end])

    def epoch(self, step: int) -> int:
        """The epoch, from 1, of a step, from 1; 0 before the first."""
        return -(-step // self.steps_per_epoch)

    def validates(self, step: int) -> bool:
        """Whether there is a validation after so many steps: before the first, between epochs, and at the end."""
        return step == self.total or step % (self.steps_per_epoch * self.validate_every) == 0

    def checkpoints(self, step: int) -> bool:
        """Whether a state is written after so many steps."""
        return step > 0 and step % self.checkpoint_every == 0
