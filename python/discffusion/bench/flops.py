"""How many floating-point operations a model's parts take, counted from its configuration files.

Two for every multiply-accumulate of convolutions, linear layers and attention products; norms and activations are not
counted. No weights are read and nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Network", "Op", "text_encoder", "unet", "vae_encoder"]

#: inputs, outputs of a matrix product: rows, inner width, columns
Gemm = tuple[int, int, int]


@dataclass(frozen=True)
class Op:
    """One layer or attention product.

    Attributes:
        block: where it stands: ``in``, ``down.0``, ``mid``, ``up.3``, ``out``.
        kind: ``conv``, ``linear``, ``attention``, ``text`` (keys and values of the text) or ``time``.
        flops: for one sample.
        gemm: the matrix product that it amounts to for one sample, None for attention.
    """

    block: str
    kind: str
    flops: int
    gemm: Gemm | None = None


@dataclass
class Network:
    """The layers of a network in the order they run.

    Attributes:
        ops: the layers.
        parameters: number of weights.
        queries: for every cross-attention site, how many ops stand before its keys and values.
        softmax: for every site, how many ops stand before the product with its values.
    """

    ops: list[Op] = field(default_factory=list)
    parameters: int = 0
    queries: dict[str, int] = field(default_factory=dict)
    softmax: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Operations for one sample."""
        return _sum(self.ops)

    @property
    def shrinks(self) -> int:
        """How many times smaller the latents are in the middle; their side must be a multiple of it."""
        blocks = {op.block for op in self.ops if op.block.startswith("down.")}
        return 1 << (len(blocks) - 1)

    @property
    def text(self) -> int:
        """Of these, those of the text's keys and values: the same at every timestep."""
        return _sum(op for op in self.ops if op.kind == "text")

    @property
    def prefix(self) -> int:
        """Of these, those before any text comes in: the same for all texts of an image at a timestep."""
        return _sum(self.ops[: min(self.queries.values())])

    @property
    def tail(self) -> int:
        """Of these, those after the last site's softmax: of no use to a score of the maps."""
        return _sum(self.ops[max(self.softmax.values()) :])

    @property
    def last_values(self) -> int:
        """Of these, the text's values at the last site: of no use to a score of the maps either."""
        last = max(self.softmax, key=lambda site: self.softmax[site])
        return [op.flops for op in self.ops[: self.softmax[last]] if op.kind == "text"][-1]

    def by_kind(self) -> dict[str, int]:
        """Operations for one sample by kind."""
        found: dict[str, int] = {}
        for op in self.ops:
            found[op.kind] = found.get(op.kind, 0) + op.flops
        return found

    def add(self, block: str, kind: str, gemm: Gemm, weights: int) -> None:
        rows, inner, columns = gemm
        self.ops.append(Op(block, kind, 2 * rows * inner * columns, gemm))
        self.parameters += weights

    def conv(self, block: str, cin: int, cout: int, side: int, kernel: int = 3) -> None:
        """A convolution with an output of `side` by `side`."""
        inner = kernel * kernel * cin
        self.add(block, "conv", (side * side, inner, cout), inner * cout + cout)

    def linear(
        self, block: str, cin: int, cout: int, rows: int, *, bias: bool = True, kind: str = "linear"
    ) -> None:
        self.add(block, kind, (rows, cin, cout), cin * cout + (cout if bias else 0))

    def product(self, block: str, rows: int, columns: int, width: int) -> None:
        """Queries with keys, or probabilities with values, of all heads together."""
        self.ops.append(Op(block, "attention", 2 * rows * columns * width))

    def norm(self, width: int) -> None:
        self.parameters += 2 * width

    def resnet(self, block: str, cin: int, cout: int, side: int, time: int | None) -> None:
        self.norm(cin)
        self.conv(block, cin, cout, side)
        if time is not None:
            self.linear(block, time, cout, 1, kind="time")
        self.norm(cout)
        self.conv(block, cout, cout, side)
        if cin != cout:
            self.conv(block, cin, cout, side, 1)

    def transformer(self, site: str, width: int, side: int, text: tuple[int, int], layers: int) -> None:
        """Self-attention, cross-attention with a text of `text` = (tokens, width), feed-forward."""
        block, rows, (tokens, text_width) = site.rpartition(".")[0], side * side, text
        self.norm(width)
        self.linear(block, width, width, rows)
        for layer in range(layers):
            for _ in range(3):  # one norm before each of the three
                self.norm(width)
            for _ in range(3):
                self.linear(block, width, width, rows, bias=False)
            self.product(block, rows, rows, width)
            self.product(block, rows, rows, width)
            self.linear(block, width, width, rows)
            self.linear(block, width, width, rows, bias=False)
            name = site if layers == 1 else f"{site}.{layer}"
            self.queries[name] = len(self.ops)
            self.linear(block, text_width, width, tokens, bias=False, kind="text")
            self.linear(block, text_width, width, tokens, bias=False, kind="text")
            self.product(block, rows, tokens, width)
            self.softmax[name] = len(self.ops)
            self.product(block, rows, tokens, width)
            self.linear(block, width, width, rows)
            self.linear(block, width, 8 * width, rows)
            self.linear(block, 4 * width, width, rows)
        self.linear(block, width, width, rows)


def unet(config: Mapping[str, Any], side: int | None = None, tokens: int = 77) -> Network:
    """One evaluation of a UNet.

    Args:
        config: the contents of ``unet/config.json``.
        side: side of the latents; default: the model's own.
        tokens: length of the text.
    """
    found, widths = Network(), list(config["block_out_channels"])
    side = int(config["sample_size"]) if side is None else side
    text = (tokens, int(config["cross_attention_dim"]))
    layers = int(config.get("transformer_layers_per_block", 1))
    per_block = int(config["layers_per_block"])
    time, before = 4 * widths[0], widths[0]
    found.linear("in", widths[0], time, 1, kind="time")
    found.linear("in", time, time, 1, kind="time")
    found.conv("in", int(config["in_channels"]), widths[0], side)
    skips = [widths[0]]
    for i, (kind, width) in enumerate(zip(config["down_block_types"], widths, strict=True)):
        for j in range(per_block):
            found.resnet(f"down.{i}", before, width, side, time)
            before = width
            if "CrossAttn" in kind:
                found.transformer(f"down.{i}.{j}", width, side, text, layers)
            skips.append(width)
        if i < len(widths) - 1:
            side //= 2
            found.conv(f"down.{i}", width, width, side)
            skips.append(width)
    found.resnet("mid", before, before, side, time)
    found.transformer("mid.0", before, side, text, layers)
    found.resnet("mid", before, before, side, time)
    for i, (kind, width) in enumerate(zip(config["up_block_types"], widths[::-1], strict=True)):
        for j in range(per_block + 1):
            found.resnet(f"up.{i}", before + skips.pop(), width, side, time)
            before = width
            if "CrossAttn" in kind:
                found.transformer(f"up.{i}.{j}", width, side, text, layers)
        if i < len(widths) - 1:
            side *= 2
            found.conv(f"up.{i}", width, width, side)
    found.norm(before)
    found.conv("out", before, int(config["out_channels"]), side)
    return found


def vae_encoder(config: Mapping[str, Any], side: int) -> Network:
    """One image of `side` by `side` pixels through the encoder; `config` is that of ``vae/config.json``."""
    found, widths = Network(), list(config["block_out_channels"])
    before = widths[0]
    found.conv("in", int(config["in_channels"]), before, side)
    for i, width in enumerate(widths):
        for _ in range(int(config["layers_per_block"])):
            found.resnet(f"down.{i}", before, width, side, None)
            before = width
        if i < len(widths) - 1:
            side //= 2
            found.conv(f"down.{i}", width, width, side)
    found.resnet("mid", before, before, side, None)
    if config.get("mid_block_add_attention", True):
        found.norm(before)
        for _ in range(4):
            found.linear("mid", before, before, side * side)
        found.product("mid", side * side, side * side, before)
        found.product("mid", side * side, side * side, before)
    found.resnet("mid", before, before, side, None)
    found.norm(before)
    latent = 2 * int(config["latent_channels"])
    found.conv("out", before, latent, side)
    if config.get("use_quant_conv", True):
        found.conv("out", latent, latent, side, 1)
    return found


def text_encoder(config: Mapping[str, Any]) -> Network:
    """One text, at its full length; `config` is that of ``text_encoder/config.json``."""
    found, width = Network(), int(config["hidden_size"])
    tokens = int(config["max_position_embeddings"])
    found.parameters = (int(config["vocab_size"]) + tokens) * width
    for layer in range(int(config["num_hidden_layers"])):
        block = f"layer.{layer}"
        for _ in range(4):
            found.linear(block, width, width, tokens)
        found.product(block, tokens, tokens, width)
        found.product(block, tokens, tokens, width)
        found.linear(block, width, int(config["intermediate_size"]), tokens)
        found.linear(block, int(config["intermediate_size"]), width, tokens)
        found.norm(width)
        found.norm(width)
    found.norm(width)
    return found


def _sum(ops: Iterable[Op]) -> int:
    return sum(op.flops for op in ops)
