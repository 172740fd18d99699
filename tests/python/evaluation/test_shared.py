"""An evaluation by several processes: the rows and the report of one, also after kills and with another number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.python.evaluation.fake_scorers import ByPairs
from tests.python.evaluation.shared_child import given
from tests.python.evaluation.test_resume_eval import same, without_time
from tests.python.processes import finished, job

from discffusion import ConfigError, Scorer, evaluate
from discffusion._processes import SingleProcess, joined, own_range
from discffusion.evaluation.store.shared import SharedRows

CHILD = "tests.python.evaluation.shared_child"


def told(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return {**found, "rows_path": None}


def test_killed_and_taken_up_by_another_number(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.jsonl", tmp_path / "rows.jsonl"
    report = evaluate(ByPairs(), given(40), output=whole, batch_items=2)
    undisturbed = {**json.loads(json.dumps(report.to_dict())), "rows_path": None}
    first = job([CHILD, str(path), "40", "0.3"], 2)
    assert first[0].stdout is not None
    for _ in range(3):
        assert first[0].stdout.readline(), "it ended before it was killed"
    for process in first:
        process.kill()
        process.communicate(timeout=60)
    parts = sorted(path.name for path in tmp_path.glob("rows*"))
    assert parts == ["rows.part-00000.jsonl", "rows.part-00001.jsonl"]
    with (tmp_path / "rows.part-00001.jsonl").open("a") as file:
        file.write('{"key": "item 3", "half a r')
    found = [told(printed) for printed in finished(job([CHILD, str(path), "40", "0"], 3))]
    assert found == [undisturbed] * 3
    assert without_time(path) == without_time(whole)
    assert [name.name for name in tmp_path.glob("rows*")] == ["rows.jsonl"]
    # one that is finished scores nothing, by whatever number of processes
    scorer = ByPairs()
    assert same(evaluate(scorer, given(40), output=path, batch_items=2), report) and scorer.calls == []


def test_one_process_takes_up_what_a_group_has_left(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.parquet", tmp_path / "rows.parquet"
    report = evaluate(ByPairs(), given(9), output=whole, batch_items=2)
    settings = report.settings
    evaluate(ByPairs(), given(9), output=tmp_path / "all.jsonl", batch_items=2)
    lines = (tmp_path / "all.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rows.part-00003.jsonl").write_text("".join(lines[:12]))
    (tmp_path / "rows.part-00000.jsonl").write_text("".join(lines[20:24]))
    scorer = ByPairs()
    assert SharedRows.begun(path)
    assert same(evaluate(scorer, given(9), output=path, batch_items=2), report)
    assert sum(pairs for _, _, pairs in scorer.calls) < 36
    assert without_time(path) == without_time(whole)
    assert not list(tmp_path.glob("rows.part-*")) and settings == report.settings
    (tmp_path / "rows.part-00000.jsonl").write_text("".join(lines[:4]))
    with pytest.raises(ConfigError, match="scorer config seed was 0 and is 1"):
        evaluate(ByPairs(seed=1), given(9), output=path, batch_items=2)
    started = evaluate(ByPairs(seed=1), given(9), output=path, batch_items=2, resume=False)
    assert same(started, evaluate(ByPairs(seed=1), given(9), batch_items=2))
    assert not list(tmp_path.glob("rows.part-*"))


def test_parts() -> None:
    """Every place belongs to exactly one process, in order, also where there are more processes than places."""

    class Of(SingleProcess):
        def __init__(self, rank: int, size: int) -> None:
            self.rank, self.size = rank, size  # type: ignore[misc]

    for count in range(7):
        for size in range(1, 6):
            parts = [own_range(count, Of(rank, size)) for rank in range(size)]
            assert [place for part in parts for place in part] == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_who_is_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu", None) as group:
        assert (group.rank, group.size) == (0, 1)
    with pytest.raises(ConfigError, match="torchrun"), joined("cpu", True):
        pass
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with joined("cpu", False) as group:
        assert group.size == 1
    with pytest.raises(ConfigError, match="distributed is 'yes'"):
        evaluate(ByPairs(), given(2), distributed="yes")  # type: ignore[arg-type]


def test_stages_are_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    class Two(SingleProcess):
        size = 2

    monkeypatch.setattr("discffusion.evaluation.run.joined", lambda *_: contextlib.nullcontext(Two()))
    with (
        Scorer(device="cpu", noise_levels=[0.5, 0.4]) as scorer,
        pytest.raises(ConfigError, match="stages need a single process"),
    ):
        evaluate(scorer, given(2), stages=[1, 2])


@pytest.mark.parametrize("whose", ["own", "given"])
def test_a_process_that_waits_for_others_says_so(whose: str) -> None:
    expected = evaluate(ByPairs(), given(8))["accuracy"].value
    processes = job(["tests.python.evaluation.waiting_child", "6", whose], 2)
    said = []
    for process in processes:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert float(out) == expected
        said.append(errors)
    assert (
        "evaluate has waited 1 s for the other processes (this is process 0 of 2): call it in all of them, or here "
        "alone with distributed=False"
    ) in said[0]
    assert "waited" not in said[1]  # who comes last waits for nobody
