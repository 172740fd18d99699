"""What scores and probabilities mean on the pocket model: `python -m tests.benchmarks.meaning --seed S --n N`.

On the dataset shapes, split test, with 95 % intervals (over image groups), in parts that `--only` chooses from:

1. `prior`: attention alone, zero-shot, without and with the text prior, beside what the text alone scores;
2. `calibration`: calibrations on few labels, of attention alone and with the denoising error, beside the denoising
   error and the pocket CLIP, with the calibration error of the probabilities and the time that calibrating took;
3. `training`: deltas and then a calibration, both on the same items, beside the pocket CLIP tuned on them;
4. `first`: the README's first command, with the texts that a newcomer would type.

Labels are items of the split train; `--labels pairs` are minimal pairs alone, `--labels all` also items of mixed and of
referring, which a score sees that is to compare texts of any kind. In brackets stands the range over draws of labels.
Choose nothing on a seed that is to be reported.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tests.benchmarks.measuring import (
    BLIND,
    Observed,
    blind,
    difference,
    held_out_items,
    labelled,
    less,
    merged,
    of_probabilities,
    scored,
    show,
    values,
)

from discffusion import Scorer, Trainer, load_dataset
from discffusion.baselines import load_baseline
from discffusion.calibration.weights import OVER
from discffusion.data.item import MatchItem
from discffusion.evaluation.metrics import metric_named

ALONE = tuple(name for name in OVER if name != "error")
#: by name, the preset that is calibrated and what weights may differ by
SCORES: dict[str, tuple[str, tuple[str, ...]]] = {
    "attention": ("attention", ALONE),
    "everything": ("denoising", OVER),
}
WIDE = (0.09, 0.81)
#: what a score is compared with, by columns of the table
JUDGED = ("pairs", "referring", "winoground")
SCENE = "examples/scene.png"
FIRST = (
    "a red circle left of a blue square",
    "red",
    "a",
    "a red circle",
    "a circle",
    "",
    "a dog",
    "a photo",
    "a blue circle left of a red square",
    "a red circle right of a blue square",
    "purple",
    "a blue square",
)


def prior(scorer: Scorer, given: argparse.Namespace) -> None:
    """Part 1. The prior is a term of its own, so every weight of it comes of the same scores."""
    sets = held_out_items(("pairs", "mixed", "referring", "vqa"), given.n, given.seed)
    weights = given.prior_weight or [scorer.config.prior_weight]
    rows, kinds = [], []
    for name, fields in (("attention", {}), (f"attention, {WIDE[0]} to {WIDE[1]}", {"noise_range": WIDE})):
        base = scorer.with_config("attention", **fields)
        plain, alone = scored(base, sets), blind(base, sets)
        of_name = {name: plain} | {f"{name}, prior × {w:g}": less(plain, alone, w) for w in weights}
        item = sets["mixed"][0]
        itself = base.with_config(prior="null", prior_weight=weights[-1]).matrix(item.images, item.texts)
        found = next(
            record for record in less(plain, alone, weights[-1])["mixed"][0] if record.key == item.key
        )
        np.testing.assert_allclose(found.scores, itself, rtol=1e-4, atol=1e-5)
        rows += [{"score": label, **values(records)} for label, records in of_name.items()]
        rows.append({"score": f"{name}: the text alone", **values(alone, BLIND)})
        kinds += [
            {"score": label, **by_kind(records["mixed"][0])}
            for label, records in {**of_name, f"{name}: the text alone": alone}.items()
        ]
    show("Attention alone, zero-shot. The text alone is judged by its choices of texts.", rows, given.json)
    show("How often the caption is above texts of each kind (mixed)", kinds, given.json)


def by_kind(records: Sequence[Any]) -> dict[str, Any]:
    return {
        name or "all": {**value.to_dict(), "draws": [value.value]}
        for name, value in metric_named("kinds")(records).items()
    }


class Watch:
    """Progress that tells when all was observed: what follows is the fit."""

    def __init__(self) -> None:
        self.start = self.observed = time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        self.observed = time.perf_counter()


def calibrated(base: Scorer, items: Sequence[MatchItem], over: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """A calibration, and what it is and took."""
    watch = Watch()
    made = base.calibrate(items, over=over, progress=watch)
    end = time.perf_counter()
    about = {
        "model": made.report["model"],
        "map": "" if made.weights is None or made.weights.map is None else made.weights.map,
        "prior": 0.0 if made.weights is None else made.weights.prior_weight,
        "timesteps": _timesteps(base.with_calibration(made)),
        "before": _timesteps(base),
        "pairs": made.report["pairs"],
        "s": end - watch.start,
        "of which fit, s": end - watch.observed,
    }
    return made, about


def _timesteps(scorer: Scorer) -> int:
    return len(scorer.describe()["timesteps"])


def base_of(scorer: Scorer, name: str, given: argparse.Namespace) -> Scorer:
    """The score that is calibrated."""
    preset, _ = SCORES[name]
    fields = {"noise_range": tuple(given.noise_range)} if given.noise_range and name == "attention" else {}
    return scorer.with_config(preset, **fields)


def calibration(scorer: Scorer, given: argparse.Namespace) -> None:
    """Part 2. Test items are observed once for each score before; scores of all calibrations come of the numbers."""
    sets = held_out_items(("pairs", "mixed", "referring", "winoground"), given.n, given.seed)
    denoising = scorer.with_config("denoising")
    rivals = {
        "denoising error": scored(denoising, sets),
        "pocket CLIP": scored(load_baseline("clip", model="pocket"), sets),
    }
    rows: list[dict[str, Any]] = [
        {"score": name, "timesteps": steps, **values(rivals[name])}
        for name, steps in (("denoising error", _timesteps(denoising)), ("pocket CLIP", ""))
    ]
    errors, made_of, paired = [], [], []
    for name in given.scores:
        base, over = base_of(scorer, name, given), SCORES[name][1]
        found: dict[str, dict[int, Any]] = {}
        for kind, count in product(given.labels, given.counts):
            label = f"{name}, calibrated on {count} ({kind})"
            for draw in given.label_seeds:
                made, about = calibrated(base, labelled(kind, count, draw), over)
                found.setdefault(label, {})[draw] = made
                made_of.append({"score": label, "draw": draw, **about})
        observed = Observed(base, sets, [made for of_label in found.values() for made in of_label.values()])
        if name == "attention":
            rows.append({"score": name, "timesteps": _timesteps(base), **values(observed.scores())})
        for label, of_label in found.items():
            records = merged([observed.scores(made, draw) for draw, made in of_label.items()])
            timesteps = sorted({row["timesteps"] for row in made_of if row["score"] == label})
            rows.append({"score": label, "timesteps": " to ".join(map(str, timesteps)), **values(records)})
            for part in ("pairs", "mixed", "referring"):
                errors.append({"score": label, "pairs of": part, **of_probabilities(of_label, records[part])})
            paired += compared(label, records, rivals)
    show("Calibrated", rows, given.json)
    show("Less another score, points, by a paired test", paired, given.json)
    show("Probabilities of all pairs", errors, given.json)
    show("Calibrations", made_of, given.json)


def product(kinds: Sequence[str], counts: Sequence[int]) -> Iterator[tuple[str, int]]:
    return ((kind, count) for kind in kinds for count in counts)


def compared(label: str, records: Any, rivals: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each rival: by how much the score is better, by each column."""
    rows = []
    for rival, of_rival in rivals.items():
        row: dict[str, Any] = {"score": label, "less": rival}
        for name in JUDGED:
            found = difference(records, of_rival, name)
            row[name] = (
                f"{100 * found.difference:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f}), "
                f"p = {found.p_value:.2g}"
            )
        rows.append(row)
    return rows


def training(scorer: Scorer, given: argparse.Namespace) -> None:
    """Part 3. Deltas are trained for the score attention, as the benchmark `few_shot` does."""
    sets = held_out_items(("pairs", "mixed", "referring", "winoground"), given.n, given.seed)
    for kind in given.labels:
        of_draws: dict[str, list[Any]] = {}
        made: dict[str, dict[int, Any]] = {}
        made_of = []
        for draw in given.label_seeds:
            items = labelled(kind, given.train, draw)
            cut = round(given.share * len(items))
            trainer = Trainer(base_of(scorer, "attention", given), seed=draw)
            start = time.perf_counter()
            trainer.fit(items[:cut], epochs=given.epochs, batch_size=8, progress=False)
            seconds = time.perf_counter() - start
            tuned = trainer.scorer
            of_draws.setdefault("attention, trained", []).append(scored(tuned, sets, draw))
            for name in given.scores:
                label = f"{name}, trained and calibrated"
                found, about = calibrated(
                    base_of(tuned, name, given), items if cut == len(items) else items[cut:], SCORES[name][1]
                )
                made.setdefault(label, {})[draw] = found
                made_of.append({"score": label, "draw": draw, **about, "training, s": seconds})
                of_draws.setdefault(label, []).append(scored(tuned.with_calibration(found), sets, draw))
            clip = load_baseline("clip-tuned", model="pocket")
            clip.fit(items, epochs=given.epochs, batch_size=8, seed=draw, progress=False)
            of_draws.setdefault("pocket CLIP, tuned", []).append(scored(clip, sets, draw))
        records = {label: merged(draws) for label, draws in of_draws.items()}
        rival = {"pocket CLIP, tuned": records["pocket CLIP, tuned"]}
        title = f"{given.train} labelled items ({kind})"
        show(title, [{"score": label, **values(of)} for label, of in records.items()], given.json)
        paired = [
            row for label in records if label not in rival for row in compared(label, records[label], rival)
        ]
        show(f"{title}: less another score, points, by a paired test", paired, given.json)
        errors = [
            {"score": label, "pairs of": part, **of_probabilities(found, records[label][part])}
            for label, found in made.items()
            for part in ("pairs", "mixed", "referring")
        ]
        show(f"{title}: probabilities of all pairs", errors, given.json)
        show(f"{title}: calibrations", made_of, given.json)


def first(scorer: Scorer, given: argparse.Namespace) -> None:
    """Part 4, of the score as it comes, and of the attention score without and with the prior."""
    attention = scorer.with_config("attention")
    scorers = {
        "default": scorer,
        "attention": attention,
        "attention, prior": attention.with_config(prior="null"),
    }
    for name, each in scorers.items():
        scores = each.matrix(SCENE, FIRST, progress=False)[0]
        chance = each.calibration.probability(scores) if each.has_probability else None
        order = [index for index, _ in each.rank(SCENE, FIRST, progress=False)]
        rows = [
            {
                "rank": place + 1,
                "text": repr(FIRST[index]),
                "score": f"{scores[index]:.4f}",
                **({} if chance is None else {"probability": f"{chance[index]:.3f}"}),
            }
            for place, index in enumerate(order)
        ]
        show(f"{SCENE} by {name}", rows, given.json)
    items = list(pictures(given.pictures, given.seed))
    rows = [
        {"score": name, **by_kind(scored(each, {"first": items})["first"][0])}
        for name, each in scorers.items()
    ]
    show(
        f"How often the right caption is above each kind of text, {given.pictures} pictures", rows, given.json
    )


def pictures(n: int, seed: int) -> Iterator[MatchItem]:
    """Other pictures with the same kinds of text, the caption first."""
    for item in load_dataset("shapes", split="test", subset="mixed", n=n, seed=seed):
        text = dict(zip(item.meta["kinds"], item.texts, strict=True))
        names = [name for name, *_ in item.meta["boxes"][0]]
        colour, shape = names[0].split(" ", 1)
        texts = {
            "caption": text["caption"],
            "its colour": colour,
            "a": "a",
            "first thing": f"a {names[0]}",
            "its shape": f"a {shape}",
            "empty": "",
            "a dog": "a dog",
            "a photo": "a photo",
            "exchanged colours": text["exchanged_colours"],
            "exchanged sides": text["exchanged_sides"],
            "absent colour": text["absent_colour"],
            "second thing": f"a {names[1]}",
        }
        yield MatchItem(
            item.key,
            item.images,
            list(texts.values()),
            np.arange(len(texts))[None] == 0,
            item.group,
            {"kinds": tuple(texts), "images": item.meta["images"]},
        )


PARTS = {"prior": prior, "calibration": calibration, "training": training, "first": first}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, required=True, help="of the test items")
    parser.add_argument("--n", type=int, default=300, help="test items a subset")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--prior-weight", type=float, nargs="+", help="part 1; the default is the score's own"
    )
    parser.add_argument("--noise-range", type=float, nargs=2, help="of the attention score in parts 2 and 3")
    parser.add_argument("--scores", nargs="+", choices=SCORES, default=list(SCORES))
    parser.add_argument("--labels", nargs="+", choices=("pairs", "all"), default=["pairs"])
    parser.add_argument("--counts", type=int, nargs="+", default=[27, 270], help="labelled items in part 2")
    parser.add_argument("--label-seeds", type=int, nargs="+", default=[0, 1, 2], help="draws of labels")
    parser.add_argument("--train", type=int, default=270, help="labelled items in part 3")
    parser.add_argument("--epochs", type=int, default=8, help="of training")
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="of the items that is trained on; below 1, the rest calibrates",
    )
    parser.add_argument("--pictures", type=int, default=60, help="in part 4")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each table, shares of 1")
    given = parser.parse_args()
    scorer = Scorer(truncate="silent")
    for name in given.only:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # texts without content, and words that the model lacks
            PARTS[name](scorer, given)
        if not given.json:
            print(f"\n{name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
