"""Head weights, and the scores made with them, against autograd through diffusers' UNet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity.attribution import head_weights
from tests.parity.case import PLAIN, SCORE_TOLERANCE, Case, relative
from tests.parity.training import Trainable
from tests.parity.training_case import TrainingCase, drawn

from discffusion import _native

_core = _native.core()

WEIGHT_TOLERANCE = 1e-4
MAPS = ("probs", "logits", "cosine")
# Where the deltas are: keys and values of two layers.
SITES = ("down.1.1", "up.2.0")


class Attributed:
    """One checkpoint whose head weights are computed both ways, without deltas and with some."""

    def __init__(self, folder: Path, timesteps: tuple[int, ...] = (601, 101), resolution: int = 128) -> None:
        self.case = Case(folder, timesteps=timesteps, resolution=resolution)
        self.model = Trainable(self.case.reference)
        self.latent = self.case.reference.latent(self.case.images[0], resolution)
        self.noise = torch.stack(list(self.case.noise.values())).numpy()
        modules = [
            f"{self.model.processors[site].path}.{name}" for site in SITES for name in ("to_k", "to_v")
        ]
        weights = {module: self.model.unet.get_submodule(module).weight.numpy() for module in modules}
        self.arrays = drawn({f"{module}.delta": weight for module, weight in weights.items()}, seed=1)

    def scorer(self, deltas: bool) -> Any:
        return self.case.core.with_deltas(self.deltas() if deltas else None, None)

    def deltas(self) -> Any:
        return _core.Deltas.from_arrays(self.arrays, {}, self.case.core, True)

    def ours(self, fields: Mapping[str, Any], deltas: bool = False) -> dict[str, np.ndarray]:
        """[steps, H] for every chosen site."""
        case = self.case
        weights: dict[str, np.ndarray] = self.scorer(deltas).head_weights(
            case.images[0], case.texts[0], case.config(**fields), self.noise
        )
        return weights

    def theirs(self, fields: Mapping[str, Any], deltas: bool = False) -> dict[str, torch.Tensor]:
        config, tensors = {**PLAIN, **fields}, self.tensors(deltas)
        each = [
            head_weights(self.model, self.noised(t), t, self.case.texts[0], tensors, config)
            for t in self.case.timesteps
        ]
        return {site: torch.stack([weights[site] for weights in each]) for site in each[0]}

    def score(self, fields: Mapping[str, Any], weights: Mapping[str, torch.Tensor], deltas: bool) -> float:
        """The mean over timesteps and layers of `1/H Σ_h w_h f(A_h)`; `weights` are [steps, H]."""
        scores = []
        for step, t in enumerate(self.case.timesteps):
            text = self.case.texts[0]
            kind = fields.get("map", "probs")
            _, maps = self.model.run(self.noised(t)[None], t, [text], self.tensors(deltas), kind)
            of_step = {site: w[step] for site, w in weights.items()}
            scores.append(self.model.attention_scores(maps, [text], **fields, weights=of_step))
        return torch.stack(scores).mean().item()

    def nearest_tie(self, deltas: bool) -> float:
        """How close the two largest probabilities of a column come, relative to them. Where it is no more than
        float32 can tell apart, the gradient of a maximum may go to the one or the other."""
        gaps = []
        for t in self.case.timesteps:
            _, maps = self.model.run(
                self.noised(t)[None], t, [self.case.texts[0]], self.tensors(deltas), "probs"
            )
            for probs in maps.values():
                first, second = probs.topk(2, dim=-2).values.unbind(-2)
                gaps.append(((first - second) / first).min().item())
        return min(gaps)

    def noised(self, t: int) -> torch.Tensor:
        return self.case.reference.noised(self.latent, self.case.noise[t], t)

    def tensors(self, deltas: bool) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(a, dtype=torch.float64) for name, a in self.arrays.items() if deltas}

    def check(self, fields: Mapping[str, Any], deltas: bool = False) -> None:
        """The weights, and the score that is made with them."""
        ours, theirs = self.ours(fields, deltas), self.theirs(fields, deltas)
        assert list(ours) == [site for site in self.model.sites if site in theirs]
        wrong = {site: relative(ours[site], theirs[site]) for site in theirs}
        assert max(wrong.values()) <= WEIGHT_TOLERANCE, wrong
        case, pair = self.case, np.zeros((1, 2), np.int64)
        config = case.config(**fields, heads="attributed")
        rows = self.scorer(deltas).score_pairs(
            [case.images[0]], [case.texts[0]], pair, config, self.noise, None
        )
        expected = self.score(fields, theirs, deltas)
        assert rows.mean() == pytest.approx(expected, rel=SCORE_TOLERANCE, abs=0)


@pytest.fixture(scope="module", params=["sd15", "sd21"])
def attributed(checkpoint: Callable[..., Path], request: pytest.FixtureRequest) -> Attributed:
    return Attributed(checkpoint(request.param, seed=1))


@pytest.mark.parametrize("layers", ["all", "last(2)", ["up.2.1", "down.0.1"]], ids=str)
@pytest.mark.parametrize(("attribution", "map"), list(product(("local", "full"), MAPS)))
def test_local_and_full(attributed: Attributed, attribution: str, map: str, layers: Any) -> None:
    attributed.check({"map": map, "layers": layers, "attribution": attribution, "lambda_": 2.0})


@pytest.mark.parametrize("map", MAPS)
@pytest.mark.parametrize("layers", ["last(2)", "mid"])
def test_integrated(attributed: Attributed, map: str, layers: str) -> None:
    attributed.check(
        {"map": map, "layers": layers, "attribution": "integrated", "attribution_steps": 3, "lambda_": 2.0}
    )


@pytest.mark.parametrize("map", MAPS)
def test_integrated_over_all_layers(checkpoint: Callable[..., Path], map: str) -> None:
    """Sixteen layers by two steps: one timestep of a small picture."""
    small = Attributed(checkpoint("sd21", seed=1), timesteps=(301,), resolution=64)
    small.check({"map": map, "attribution": "integrated", "attribution_steps": 2})


@pytest.mark.parametrize(
    "fields",
    [
        {"attribution": "full", "map": "logits", "pooling": "mean"},
        {"attribution": "full", "map": "logits", "tokens": "content"},
        {"attribution": "local", "map": "logits", "tokens": "content"},
        {"attribution": "integrated", "attribution_steps": 1, "map": "logits", "layers": ["up.1.0"]},
    ],
    ids=str,
)
def test_with_deltas(attributed: Attributed, fields: dict[str, Any]) -> None:
    attributed.check({"layers": "all", **fields}, deltas=True)


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_a_maximum(checkpoint: Callable[..., Path], kind: str) -> None:
    """At timesteps where no two pixels are as good as equal: there float32 cannot tell which is the larger."""
    clear = Attributed(checkpoint(kind, seed=1), timesteps=(621, 81))
    assert clear.nearest_tie(deltas=True) > 1e-5
    clear.check({"layers": "all", "attribution": "full", "map": "probs", "pooling": "max_col"}, deltas=True)


def test_the_three_differ(attributed: Attributed) -> None:
    """What the comparisons above would not see: that one is taken for the other."""
    fields = {"map": "logits", "layers": ["down.1.0", "mid.0"], "attribution_steps": 4}
    each = [attributed.ours({**fields, "attribution": a}) for a in ("local", "full", "integrated")]
    for weights in each:
        assert all((w >= 0).all() and w.mean(-1) == pytest.approx(1, rel=1e-5) for w in weights.values())
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert relative(each[a]["down.1.0"], torch.tensor(each[b]["down.1.0"])) > 100 * WEIGHT_TOLERANCE


@pytest.mark.parametrize("layers", ["all", "last(2)"])
def test_learned_heads(attributed: Attributed, layers: str, tmp_path: Path) -> None:
    """The weights that come with the deltas' file, whatever the pair."""
    draw = torch.Generator().manual_seed(3)
    heads = {
        site: attributed.model.unet.get_submodule(p.path).heads
        for site, p in attributed.model.processors.items()
    }
    learned = {site: torch.rand(n, generator=draw, dtype=torch.float64) for site, n in heads.items()}
    learned = {site: w / w.mean() for site, w in learned.items()}
    told = json.dumps({site: w.tolist() for site, w in learned.items()})
    case, file = attributed.case, tmp_path / "deltas.safetensors"
    attributed.deltas().save(file, {"discffusion.head_weights": told})
    scorer = case.core.with_deltas(_core.Deltas.load(file, case.core, True), None)
    fields = {"map": "logits", "layers": layers}
    config, pair = case.config(**fields, heads="learned"), np.zeros((1, 2), np.int64)
    ours = scorer.score_pairs([case.images[0]], [case.texts[0]], pair, config, attributed.noise, None)
    every = {site: w.expand(len(case.timesteps), -1) for site, w in learned.items()}
    assert ours.mean() == pytest.approx(attributed.score(fields, every, True), rel=SCORE_TOLERANCE, abs=0)
    plain = scorer.score_pairs(
        [case.images[0]], [case.texts[0]], pair, case.config(**fields), attributed.noise, None
    )
    assert ours.mean() != pytest.approx(plain.mean(), rel=100 * SCORE_TOLERANCE)


@pytest.mark.parametrize(
    "fields",
    [{"heads": "mean", "attribution": "local"}, {"heads": "attributed", "attribution": "full"}],
    ids=str,
)
def test_heads_are_learned_from_matching_pairs(
    checkpoint: Callable[..., Path], fields: dict[str, Any]
) -> None:
    """Appendix J: the mean over all matching pairs that training saw, each with the deltas of its step."""
    case, config = (
        TrainingCase(checkpoint("sd21", seed=1)),
        {**PLAIN, **fields, "map": "logits", "layers": "last(2)"},
    )
    trainer = case.trainer({"timesteps_per_step": 2, "rank": 4}, config)
    seen: list[dict[str, torch.Tensor]] = []
    for indices in ([0], [2, 1]):
        found, deltas = trainer.gradients(indices), trainer.deltas().arrays()
        tensors = {name: torch.tensor(array, dtype=torch.float64) for name, array in deltas.items()}
        for index, times, noise in zip(indices, found["timesteps"], found["noise"], strict=True):
            item = case.items[index]
            for t, eps in zip(times.tolist(), torch.tensor(noise), strict=True):
                for i, j in np.argwhere(item.match):
                    z_t = case.reference.noised(item.latents[i], eps, t)
                    seen.append(head_weights(case.model, z_t, t, item.texts[j], tensors, config))
        trainer.step(indices, 10)
    learned = json.loads(trainer.deltas().info(case.scorer))["head_weights"]
    assert list(learned) == ["up.3.1", "up.3.2"]
    for site, weights in learned.items():
        expected = torch.stack([one[site] for one in seen]).mean(0)
        assert relative(weights, expected) <= WEIGHT_TOLERANCE
        assert relative(weights, torch.ones_like(expected)) > 100 * WEIGHT_TOLERANCE
