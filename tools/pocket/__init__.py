"""The recipes of the bundled models of the ``shapes`` world, a miniature Stable Diffusion and a small CLIP.

Run from the root of the repository: ``python -m tools.pocket.train`` trains the one, ``python -m tools.pocket.clip``
the other; ``python -m tools.pocket.report`` and ``python -m tools.pocket.clip_report`` measure them and write their
cards.
"""
