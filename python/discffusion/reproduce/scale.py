"""How much is measured and trained: what a full run does, and what a quick one does."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Scale"]


@dataclass(frozen=True)
class Scale:
    """Numbers of items, of passes over them, and of timesteps.

    Attributes:
        name: of the scale, as the report states it.
        seeds: how many, unless the caller says.
        items: by place, test items of the stand-in ``shapes`` (``composition``: of each of its four subsets).
        limit: test items taken of a dataset read from files, evenly over its groups; None for all.
        shots: by recipe of training, items of the stand-in.
        most: by recipe of training, items taken of a dataset read from files at most.
        epochs: by recipe of training, passes over the items.
        thorough: whether the variant ``paper`` is trained and measured on every place, not on ComVG's alone.
        denoising_steps: timesteps of Diffusion Classifier.
        paper_steps: timesteps of the configuration ``paper``, which has 50 of its own.
        curve: numbers of timesteps on the axis of Figure 5.
        maps: items whose attention maps Figure 9 measures.
        generated_images: how many Table 12 generates for each row and seed.
    """

    name: str
    seeds: int
    items: dict[str, int]
    limit: int | None
    shots: dict[str, int]
    most: dict[str, int]
    epochs: dict[str, int]
    thorough: bool
    denoising_steps: int
    paper_steps: int
    curve: tuple[int, ...]
    maps: int
    generated_images: int


#: 270 and 27 items are 5 % and 0.5 % of ComVG's 5400 rows
FULL = Scale(
    name="full",
    seeds=3,
    items={"composition": 100, "referring": 200, "vqa": 200, "winoground": 200},
    limit=None,
    shots={"few": 270, "extreme": 27, "captions": 500},
    most={"captions": 20_000},
    epochs={"few": 8, "extreme": 30, "captions": 3},
    thorough=True,
    denoising_steps=20,
    paper_steps=50,
    curve=(1, 2, 5, 10, 20, 50, 100),
    maps=100,
    generated_images=200,
)
QUICK = Scale(
    name="quick",
    seeds=1,
    items={"composition": 32, "referring": 60, "vqa": 50, "winoground": 90},
    limit=200,
    shots={"few": 270, "extreme": 27, "captions": 320},
    most={"few": 270, "extreme": 27, "captions": 320},
    epochs={"few": 4, "extreme": 20, "captions": 2},
    thorough=False,
    denoising_steps=10,
    paper_steps=10,
    curve=(1, 2, 5, 10, 20),
    maps=40,
    generated_images=48,
)
