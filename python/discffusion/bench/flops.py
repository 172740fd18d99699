"""How many floating-point operations a model's parts take, by the formulas of torch's own counter.

The modules of diffusers and transformers are made from their configuration files on torch's meta device and run once on
tensors without contents: no weights are read and nothing is computed. Two for every multiply-accumulate of
convolutions, linear layers and attention products; norms and activations are not counted. Needs the extra ``bench``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from discffusion._extras import need
from discffusion.bench.reference.layers import layer_names

__all__ = ["Gemm", "Network", "Op", "text_encoder", "unet", "vae_encoder"]

#: inputs, outputs of a matrix product: rows, inner width, columns
Gemm = tuple[int, int, int]

_ATEN = torch.ops.aten
_PRODUCTS = (_ATEN.bmm, _ATEN.baddbmm)
_CROSS = ".attn2"


@dataclass(frozen=True)
class Op:
    """One layer or attention product, of one sample.

    Attributes:
        path: of the module that it is in, as ``down_blocks.0.resnets.0.conv1``.
        kind: ``conv``, ``linear``, ``attention``, ``text`` (keys and values of the text) or ``time``.
        gemm: the matrix product that it amounts to, None for attention.
    """

    path: str
    kind: str
    flops: int
    gemm: Gemm | None = None

    @property
    def block(self) -> str:
        """Where in a UNet or a VAE's encoder it stands: ``in``, ``down.0``, ``mid``, ``up.3``, ``out``."""
        first, *rest = self.path.split(".")
        if first in ("down_blocks", "up_blocks"):
            return f"{first.removesuffix('_blocks')}.{rest[0]}"
        return {"mid_block": "mid", "conv_out": "out", "quant_conv": "out"}.get(first, "in")


@dataclass(frozen=True)
class Network:
    """The layers of a network in the order they run, and its number of weights."""

    ops: tuple[Op, ...]
    parameters: int

    @property
    def total(self) -> int:
        """Operations for one sample."""
        return _sum(self.ops)

    @cached_property
    def softmax(self) -> dict[str, int]:
        """For every cross-attention layer in forward order, how many ops stand before the product with its values."""
        values: dict[str, int] = {}
        for position, op in enumerate(self.ops):
            if op.kind == "attention" and op.path.endswith(_CROSS):
                values[op.path] = position  # the later of the two products
        names = layer_names(f"{path}.processor" for path in values)
        return {name: values[key.removesuffix(".processor")] for name, key in names.items()}

    @property
    def text(self) -> int:
        """Of these, those of the text's keys and values: the same at every timestep."""
        return _sum(op for op in self.ops if op.kind == "text")

    @property
    def prefix(self) -> int:
        """Of these, those before any text comes in: the same for all texts of an image at a timestep."""
        first = next(position for position, op in enumerate(self.ops) if op.kind == "text")
        return _sum(self.ops[:first])

    @property
    def tail(self) -> int:
        """Of these, those after the last layer's softmax: of no use to a score of the maps."""
        return _sum(self.ops[max(self.softmax.values()) :])

    @property
    def last_values(self) -> int:
        """Of these, the text's values at the last layer: of no use to a score of the maps either."""
        return [op.flops for op in self.ops if op.kind == "text"][-1]

    def by_kind(self) -> dict[str, int]:
        """Operations for one sample by kind."""
        kinds: dict[str, int] = {}
        for op in self.ops:
            kinds[op.kind] = kinds.get(op.kind, 0) + op.flops
        return kinds


class _Recorder(TorchDispatchMode):
    """Lists the operations that torch's counter has a formula for, with the module they are in."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker, self.ops = ModuleTracker(), list[Op]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in flop_registry:
            path = max(self.tracker.parents, key=len).partition(".")[2]
            flops = int(flop_registry[packet](*args, **(kwargs or {}), out_val=result))
            self.ops.append(Op(path, _kind(path, packet), flops, _gemm(packet, args, result)))
        return result


def _kind(path: str, packet: Any) -> str:
    if packet in _PRODUCTS:
        return "attention"
    if packet == _ATEN.convolution:
        return "conv"
    if path.endswith((f"{_CROSS}.to_k", f"{_CROSS}.to_v")):
        return "text"
    return "time" if any(part in path for part in ("time_emb", "add_embedding")) else "linear"


def _gemm(packet: Any, args: tuple[Any, ...], result: Any) -> Gemm | None:
    if packet in _PRODUCTS:
        return None
    if packet == _ATEN.convolution:
        weight = args[1]
        return (result.numel() // result.shape[1], weight[0].numel(), weight.shape[0])
    left, right = args[-2:]  # of mm and addmm
    return (left.shape[0], left.shape[1], right.shape[1])


def _count(model: Any, run: Callable[[], Any], parts: Iterable[Any]) -> Network:
    """What `run` does; `parts` are the modules whose weights it uses."""
    if hasattr(model, "set_attn_processor"):  # both products by themselves, the softmax between them
        model.set_attn_processor(need("diffusers.models.attention_processor", "bench").AttnProcessor())
    recorder = _Recorder()
    with recorder.tracker, recorder:
        run()
    return Network(tuple(recorder.ops), sum(p.numel() for part in parts for p in part.parameters()))


def unet(config: Mapping[str, Any], side: int | None = None, tokens: int = 77) -> Network:
    """One evaluation of a UNet.

    Args:
        config: the contents of ``unet/config.json``.
        side: side of the latents; default: the model's own.
        tokens: length of the text.
    """
    side = int(config["sample_size"]) if side is None else side
    with torch.device("meta"), torch.no_grad():
        model = need("diffusers", "bench").UNet2DConditionModel.from_config(config)
        noised = torch.empty(1, model.config.in_channels, side, side)
        text = torch.empty(1, tokens, model.config.cross_attention_dim)
        more: dict[str, Any] = {}
        if model.config.time_cond_proj_dim is not None:
            more["timestep_cond"] = torch.empty(1, model.config.time_cond_proj_dim)
        if model.config.addition_embed_type == "text_time":
            ids = 6
            pooled = model.add_embedding.linear_1.in_features - ids * model.config.addition_time_embed_dim
            more["added_cond_kwargs"] = {
                "text_embeds": torch.empty(1, pooled),
                "time_ids": torch.empty(1, ids),
            }
        return _count(model, lambda: model(noised, torch.zeros(1), text, **more), [model])


def vae_encoder(config: Mapping[str, Any], side: int) -> Network:
    """One image of `side` by `side` pixels through the encoder; `config` is that of ``vae/config.json``."""
    with torch.device("meta"), torch.no_grad():
        model = need("diffusers", "bench").AutoencoderKL.from_config(config)
        image = torch.empty(1, model.config.in_channels, side, side)
        parts = [part for part in (model.encoder, model.quant_conv) if part is not None]

        def encode() -> None:
            hidden = image
            for part in parts:
                hidden = part(hidden)

        return _count(model, encode, parts)


def text_encoder(config: Mapping[str, Any]) -> Network:
    """One text, at its full length; `config` is that of ``text_encoder/config.json``."""
    transformers = need("transformers", "bench")
    with torch.device("meta"), torch.no_grad():
        kind = getattr(transformers, (config.get("architectures") or ["CLIPTextModel"])[0])
        model = kind(transformers.CLIPTextConfig(**config, attn_implementation="eager"))
        ids = torch.zeros(1, int(config["max_position_embeddings"]), dtype=torch.int64)
        return _count(model, lambda: model(ids), [model])


def _sum(ops: Iterable[Op]) -> int:
    return sum(op.flops for op in ops)
