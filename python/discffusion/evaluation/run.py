"""Scoring items and measuring how well that went."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._arguments import whole_number
from discffusion._identity import columns, described, images_digest
from discffusion._processes import SingleProcess, joined
from discffusion._progress import Progress, ProgressReport, reporting
from discffusion.data.item import MatchItem
from discffusion.errors import ConfigError, DiscffusionError
from discffusion.evaluation.items import EvaluationItem, EvaluationItems
from discffusion.evaluation.metrics import auto_metrics, distinct, metric_named
from discffusion.evaluation.record import Record
from discffusion.evaluation.reliability import curve_of, with_probabilities
from discffusion.evaluation.report import Report
from discffusion.evaluation.scoring import Scoring
from discffusion.evaluation.store.files import recorded
from discffusion.evaluation.store.journal import Journal
from discffusion.evaluation.store.rows import rows_of
from discffusion.evaluation.store.settings import CURVE, run_of, settings_of
from discffusion.evaluation.store.shared import SharedRows
from discffusion.scorer import Scorer
from discffusion.staged import Staged

__all__ = ["evaluate", "reopen"]


def evaluate(
    scorer: Any,
    items: Iterable[MatchItem],
    metrics: str | Sequence[str] = "auto",
    limit: int | None = None,
    output: str | os.PathLike[str] | None = None,
    resume: bool = True,
    progress: Progress = None,
    batch_items: int | None = None,
    stages: Sequence[int] | None = None,
    keep: float | Sequence[float] | None = None,
    verify: int = 0,
    distributed: bool | None = None,
) -> Report:
    """Scores items and measures how well matching pairs are told from others.

    With an `output`, every score is written as it comes, with all that is needed to repeat it. A run that ended in
    whatever way, also by ``kill -9``, and is started again in the same way scores what is missing, and gives the
    rows and the report of one that was never interrupted.

    Args:
        scorer: a :class:`~discffusion.Scorer`, or any object with ``matrix(images, texts) -> [n_images, n_texts]``.
            Besides, it may have ``describe() -> dict``, plain data that identify it;
            ``score_pairs(images, texts, pairs) -> [len(pairs)]`` with pairs of indices, which promises that the score
            of a pair depends on that pair alone; and ``count_tokens(texts) -> [(count, truncated)]``.
        items: items to score. What has a length and an index is read item by item as it is needed.
        metrics: names of metrics, see :func:`discffusion.evaluation.metrics.describe_metrics`; ``"auto"`` for those of
            the dataset, and ``probability`` where the scorer has one.
        limit: score only so many of the first items.
        output: a ``.jsonl`` or ``.parquet`` file for the rows, one an image and text of an item.
        resume: whether to keep the rows that are in `output`; False removes them.
        progress: True, False, or a function of ``(done, total)`` in items; None shows a bar if somebody watches.
        batch_items: items that are scored and written together; None for up to 16, fewer where they have many
            pairs. Never changes a score by more than rounding.
        stages, keep, verify: leave out candidates that have fallen behind, see :meth:`discffusion.Scorer.staged`. The
            report says what share of the work was done, and in how many of the first `verify` items the winner is
            that of all timesteps. Only what depends on the winner alone is then as without stages.
        distributed: whether all processes that ``torchrun`` or ``accelerate launch`` started score together, each a
            part of the items; None for yes, if there are several. All of them return the report of one process. All
            of them have to call it: one that does alone waits for the others, and says so after 30 s. False is for
            the first process of a training loop.

    Returns:
        The values with their 95 % intervals, and the scores as ``records``.

    Raises:
        ConfigError: an argument is wrong, or `output` holds rows of another evaluation; says what differs.
        DatasetError: there are no items, one is malformed, or `output` holds something that is no row; names the line.
        DiscffusionError: a score is not finite; names the item. The rows before it are kept.
    """
    names = _metric_names(metrics)
    limit = None if limit is None else whole_number("limit", limit, 1)
    scorer = _staged(scorer, stages, keep, verify)
    scoring = Scoring(scorer, None if batch_items is None else whole_number("batch_items", batch_items, 1))
    entries = EvaluationItems(items, limit)
    facts = described(scorer)
    curve = curve_of(scorer)
    if curve is None and "probability" in (names or ()):  # before the network runs for hours
        raise ConfigError(
            "with stages there is no probability: the score of a pair that was left behind is not its own"
            if isinstance(scorer, Staged)
            else "the metric probability needs a calibration; fit one by scorer.calibrate(items) and take "
            "scorer.with_calibration(it)"
        )
    settings = settings_of(facts, entries.name, entries.about, curve)
    with ExitStack() as stack:
        group = stack.enter_context(joined(str(getattr(scorer, "device", "cpu")), distributed, "evaluate"))
        if group.size > 1 and isinstance(scorer, Staged):
            raise ConfigError("stages need a single process; score without them, or with distributed=False")
        shared = None
        if output is not None and (group.size > 1 or SharedRows.begun(output)):
            shared = SharedRows(output, settings, resume, group)
        journal = stack.enter_context(
            Journal(output if group.size == 1 else None, settings, resume)
            if shared is None
            else shared.journal()
        )
        report_progress = stack.enter_context(
            reporting(progress if group.rank == 0 else False, "item", patience=0.0, leave=True)
        )
        constant = {"dataset": entries.name, **columns(facts)}
        run = _Run(scoring, journal, constant, report_progress, len(entries))
        for number, block in enumerate(scoring.blocks(entries)):
            run.block(block, own=number % group.size == group.rank)
        journal.finish()
        records = run.records if group.size == 1 else _together(run.records, group)
        if shared is not None:
            shared.merge({record.key: place for place, record in enumerate(records)})
    notes = scorer.notes() if isinstance(scorer, Staged) else []
    path = journal.path if shared is None else shared.path
    about = {**facts, "images_sha256": images_digest(run.images)}
    return _report(entries, records, names, settings, constant["model"], run.cut, path, notes, about)


def reopen(
    output: str | os.PathLike[str],
    items: Iterable[MatchItem],
    metrics: str | Sequence[str] = "auto",
    limit: int | None = None,
) -> Report:
    """The report of rows that :func:`evaluate` wrote, from the rows and the items alone; nothing is scored.

    Probabilities are those of the calibration that the scorer had when the rows were evaluated last.

    Raises:
        ConfigError: an argument is wrong, or the rows are not those of these items.
        DatasetError: the file cannot be read; names the line.
    """
    names = _metric_names(metrics)
    limit = None if limit is None else whole_number("limit", limit, 1)
    entries, path = EvaluationItems(items, limit), Path(output).expanduser()
    gathered, settings, model = recorded(path)
    records = []
    cut: dict[str, int] = {}
    images = {}
    for entry in entries:
        scores = gathered.scores(entry, str(path))
        if np.isnan(scores).any():
            raise ConfigError(
                f"{path} lacks rows of item {entry.item.key!r}; run the evaluation to its end, or set a limit"
            )
        records.append(_record(entry, scores))
        images[entry.item.key] = entry.digests
        cut.update({text: gathered.cut[text] for text in entry.texts if text in gathered.cut})
    about = {**settings.get("scorer", {}), "images_sha256": images_digest(images)}
    return _report(entries, records, names, settings, model, cut, path, (), about)


class _Run:
    """Turns blocks of items into records, and writes rows on the way."""

    def __init__(
        self,
        scoring: Scoring,
        journal: Journal,
        constant: dict[str, Any],
        report_progress: ProgressReport | None,
        total: int,
    ) -> None:
        self.records: list[Record] = []
        # texts that are longer than the model reads, with their numbers of tokens
        self.cut: dict[str, int] = {}
        # sha256 of the images of each item
        self.images: dict[str, tuple[str, ...]] = {}
        self._scoring, self._journal, self._constant = scoring, journal, constant
        self._report_progress, self._total = report_progress, total

    def block(self, block: list[EvaluationItem], own: bool) -> None:
        """Scores a block, if it is this process's `own`; in place of others' scores there are zeros."""
        where = str(self._journal.path)
        tokens = self._scoring.tokens(text for entry in block for text in entry.texts)
        if not own:
            self._keep(block, [np.zeros(entry.item.match.shape) for entry in block], tokens)
            return
        stored = [self._journal.found.scores(entry, where) for entry in block]
        new = any(np.isnan(values).any() for values in stored)
        scores = self._score(block, stored, tokens) if new else stored
        self._scoring.remember(block, scores)
        self._keep(block, scores, tokens)
        self._tell(0.0, new)

    def _keep(self, block: list[EvaluationItem], scores: list[NDArray[np.float64]], tokens: Any) -> None:
        for entry, values in zip(block, scores, strict=True):
            self.records.append(_record(entry, values))
            self.images[entry.item.key] = entry.digests
            if tokens is not None:
                self.cut.update({text: tokens[text][0] for text in entry.texts if tokens[text][1]})

    def _score(
        self, block: list[EvaluationItem], stored: list[NDArray[np.float64]], tokens: Any
    ) -> list[NDArray[np.float64]]:
        """The scores of a block; what is not known of it is computed and written."""
        start = time.perf_counter()
        report = self._part_of(block) if self._report_progress is not None else None
        scores, computed = self._scoring.score(block, report)
        seconds = (time.perf_counter() - start) / max(computed, 1)
        constant = {**self._constant, "seconds": round(seconds, 6)}
        rows: list[dict[str, Any]] = []
        merged = []
        try:
            for entry, values, before in zip(block, scores, stored, strict=True):
                _check_finite(entry, values)
                rows.extend(rows_of(entry, values, before, constant, tokens))
                merged.append(np.where(np.isnan(before), values, before))
        finally:
            self._journal.append(rows)
        return merged

    def _part_of(self, block: list[EvaluationItem]) -> Callable[[int, int], None]:
        """Progress while a block is scored; that it is done is reported only when its rows are written."""

        def part(done: int, total: int) -> None:
            if done < total:
                self._tell(len(block) * done / total, True)

        return part

    def _tell(self, more: float, scored: bool) -> None:
        if self._report_progress is not None:
            self._report_progress(len(self.records) + more, self._total, computed=scored)


def _record(entry: EvaluationItem, scores: NDArray[np.float64]) -> Record:
    item = entry.item
    return Record(
        item.key, scores, item.match, item.group, entry.references, entry.texts, dict(item.meta or {})
    )


def _together(records: list[Record], group: SingleProcess) -> list[Record]:
    """The records with the scores of all processes, each of which has zeros where others scored: the sum is exact."""
    flat = np.concatenate([record.scores.ravel() for record in records]) if records else np.zeros(0)
    ends = np.cumsum([record.scores.size for record in records])[:-1]
    parts = np.split(group.sum(flat), ends)
    pairs = zip(records, parts, strict=True)
    return [replace(record, scores=part.reshape(record.scores.shape)) for record, part in pairs]


def _check_finite(entry: EvaluationItem, scores: NDArray[np.float64]) -> None:
    wrong = np.argwhere(~np.isfinite(scores)).tolist()
    if wrong:
        i, j = wrong[0]
        raise DiscffusionError(
            f"item {entry.item.key!r}: the score of image {i} ({entry.references[i]}) and text {j} "
            f"({entry.texts[j]!r}) is {scores[i, j]}, which cannot be ranked; in float16, try float32 or bfloat16"
        )


def _staged(scorer: Any, stages: Any, keep: Any, verify: int) -> Any:
    """The scorer, by staged elimination if that is asked for."""
    if stages is None:
        if keep is not None or verify != 0:
            given = f"keep is {keep!r}" if keep is not None else f"verify is {verify!r}"
            raise ConfigError(f"{given}, but there are no stages")
        return scorer
    if not isinstance(scorer, Scorer):
        raise ConfigError(f"stages need a Scorer; {type(scorer).__name__} has none")
    return scorer.staged(stages, keep, verify=verify)


def _metric_names(metrics: str | Sequence[str]) -> tuple[str, ...] | None:
    """The names asked for, all known; None for those of the dataset."""
    if isinstance(metrics, str) and metrics == "auto":
        return None
    if not isinstance(metrics, str | Sequence):
        raise ConfigError(f'metrics is {type(metrics).__name__}; expected names, or "auto"')
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    if not names:
        raise ConfigError('metrics is empty; leave it "auto" for those of the dataset')
    return tuple(metric_named(name).name for name in names)


def _report(
    entries: EvaluationItems,
    records: list[Record],
    names: tuple[str, ...] | None,
    settings: dict[str, Any],
    model: str,
    cut: Mapping[str, int],
    path: Path | None,
    more_notes: Sequence[str],
    made_by: Mapping[str, Any],
) -> Report:
    records = with_probabilities(records, settings.get(CURVE))
    about = entries.about if isinstance(entries.about, Mapping) else {}
    said = about.get("notes") or ()
    notes = [said] if isinstance(said, str) else [str(note) for note in said]
    if entries.limit is not None:
        notes.append(f"limited to the first {entries.limit} items")
    if cut:
        longest = max(cut.values())
        notes.append(
            f"{len(cut)} texts are longer than the model reads and were cut; the longest has {longest} tokens"
        )
    notes.extend(more_notes)
    chosen = names or distinct(entries.metrics or auto_metrics(records), records)
    alone = len(chosen) == 1
    if names is None and CURVE in settings and _differ(records):
        chosen = tuple(dict.fromkeys([*chosen, "probability"]))
    more: dict[str, Any] = {
        "settings": {**settings, "run": run_of(settings), "model": model, "limit": entries.limit},
        "n_expected": entries.expected,
        "missing": entries.missing,
        "rows_path": path,
        "made_by": made_by,
    }
    try:
        return Report.from_records(records, chosen, notes=notes, **more)
    except ConfigError:
        if names is not None or alone:
            raise
    # the dataset's own metrics need not suit a few of its items
    kept = []
    for name in chosen:
        try:
            metric_named(name)(records)
            kept.append(name)
        except ConfigError as error:
            notes.append(f"left out: {error}")
    return Report.from_records(records, kept or chosen, notes=notes, **more)


def _differ(records: list[Record]) -> bool:
    """Whether there are pairs that match and pairs that do not."""
    return any(record.match.any() for record in records) and not all(record.match.all() for record in records)
