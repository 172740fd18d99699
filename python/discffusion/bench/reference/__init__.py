"""The method in plain PyTorch on the objects of diffusers and transformers.

It shares no code with the core. The parity tests compare the core with it, the other implementations of the benchmark
take their attention processors from it, and so do the recipes of the bundled models. Needs the extra ``bench``.

* :mod:`.layers`: the names of cross-attention layers;
* :mod:`.processors`: attention processors, to record queries and keys or to pool maps on the way;
* :mod:`.pooling`: maps, their pooling, weights of heads, the choice of layers (Eq. 4, Eq. 7 and the ablations);
* :mod:`.loading`: the parts of a checkpoint folder;
* :mod:`.model`, :mod:`.model_xl`: one image, one text, one timestep at a time, Stable Diffusion and XL;
* :mod:`.scores`: scores of pairs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from discffusion.bench.reference.model import Reference

__all__ = ["load_reference"]


def load_reference(folder: Path, variant: str | None = None) -> Reference:
    """The reference of the pipeline class that ``model_index.json`` names."""
    from discffusion.bench.reference.model import Reference
    from discffusion.bench.reference.model_xl import ReferenceXL

    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    kind = ReferenceXL if index["_class_name"] == "StableDiffusionXLPipeline" else Reference
    return kind(folder, variant)
