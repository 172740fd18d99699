"""The report's forms, the command, and a small run from end to end."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from discffusion.bench import BenchReport, Options, bench
from discffusion.bench.clock import Times
from discffusion.bench.implementations import OURS, ModelSpec
from discffusion.bench.machine import busy, commit, cpu_name, memory_available
from discffusion.bench.markdown import duration, size
from discffusion.bench.memory import Footprint, evict, measure_memory, weight_bytes
from discffusion.bench.peak import Peak
from discffusion.bench.phases import Phases
from discffusion.bench.runner import Comparison
from discffusion.bench.workloads import Workload
from discffusion.cli import build_app
from discffusion.errors import ConfigError


@pytest.fixture
def report() -> BenchReport:
    about = {
        "model": "pocket", "device": "cpu", "dtype": "float32", "method": "attention", "map": "logits", "steps": 10,
        "resolution": 32, "clock": "wall", "date": "2026-01-01", "commit": "0123456789ab",
        "weights": {"files": 11 << 20, "loaded": 21 << 20},
        "machine": {"cpu": "An Example", "cores": 2, "threads": 2, "memory": 8 << 30, "system": "Linux", "load": 0.1,
                    "python": "3.11", "gpu": None},
        "versions": {"torch": "2.11.0", "diffusers": None}, "implementations": {OURS: {}, "released-1": {"batch": 1}},
    }  # fmt: skip
    comparison = Comparison(
        Workload(1, 10),
        {OURS: Times([0.1, 0.2]), "released-1": Times([0.6, 0.6])},
        {OURS: 0.0, "released-1": 2e-7},
        {"released-16": "its maps do not fit"},
        {OURS: 100, "released-1": 302},
    )
    own = {name: Times([0.01]) for name in ("decode", "image", "text")}
    own |= {
        name: Times([value])
        for name, value in (("unet", 1.0), ("logits", 1.03), ("probs", 1.06), ("cosine", 1.1))
    }
    print_ = Footprint(0.2, 0.1, 0.3, 300 << 20, 100 << 20, 1 << 20, 0, 0, False)
    return BenchReport(
        about,
        [comparison],
        phases=Phases({OURS: own}, 64),
        peak=Peak({(10, 10, 10): Times([1.0])}, {OURS: Times([2.0])}, 3000, 2),
        memory={"warm": {OURS: print_}},
        warnings=["the machine was busy"],
    )


def test_as_data(report: BenchReport, tmp_path: Path) -> None:
    found = json.loads(report.to_json(tmp_path / "bench.json"))
    assert json.loads((tmp_path / "bench.json").read_text()) == found
    released = found["comparisons"][0]["implementations"]["released-1"]
    assert released["ratio_of_medians"] == pytest.approx(4.0)  # 0.6 to 0.15
    assert released["ratio_of_minima"] == pytest.approx(6.0)
    assert found["comparisons"][0]["left_out"] == {"released-16": "its maps do not fit"}
    assert found["phases"]["implementations"][OURS]["overhead"]["probs"] == pytest.approx(0.06)
    assert found["peak"]["unet"][OURS]["fraction"] == pytest.approx(0.75)  # 1500 of 2000 a second
    assert found["memory"]["warm"][OURS]["to_first_score"] == pytest.approx(0.6)
    assert found["growth"] is None and found["format"] == 2


def test_as_markdown(report: BenchReport) -> None:
    text = report.markdown()
    assert "An Example, 2 cores, 2 threads, 8 GiB" in text and "commit 0123456789ab" in text
    assert "torch 2.11.0, Python 3.11" in text  # what is not installed is not named
    assert "Note: the machine was busy" in text
    assert "| 1x10 | discffusion | 150 ms | 100 ms |" in text
    assert "| released-1 | 600 ms | 600 ms | **4.00×** | 6.00× | 3.02× | 2e-07 |" in text
    assert "not measured: its maps do not fit" in text
    assert "+3.0 %" in text and "+6.0 %" in text and "**75.0 %**" in text
    assert "| discffusion | 300 MiB | 100 MiB | 200 ms | 100 ms | 300 ms | 600 ms | 1 MiB | 0 MiB |" in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_units() -> None:
    assert [duration(s) for s in (2e-6, 0.0123, 4.561, 1234.5)] == ["2 µs", "12.3 ms", "4.56 s", "1234 s"]
    assert [size(n) for n in (1 << 20, 3 << 29)] == ["1 MiB", "1.50 GiB"]


def test_files(report: BenchReport, tmp_path: Path) -> None:
    assert [file.name for file in report.write(tmp_path / "new")] == ["bench.json", "bench.md"]
    assert (tmp_path / "new" / "bench.md").read_text() == report.markdown()
    assert report.write(tmp_path / "a" / "r.md") == [tmp_path / "a" / "r.md"]
    with pytest.raises(ConfigError, match=r"ends in \.json or \.md"):
        report.write(tmp_path / "r.txt")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="which is a file"):
        report.write(tmp_path / "file")


def test_machine() -> None:
    assert cpu_name()
    assert re.fullmatch(r"[0-9a-f]{12}( with changes)?", commit() or "0" * 12)
    free = memory_available()
    assert free is None or free > 1 << 20
    assert busy({"load": 0.1, "cores": 2}) is None
    assert "load 3.5 on 2 cores" in str(busy({"load": 3.5, "cores": 2}))


def test_memory_of_a_process(tiny: Path) -> None:
    evict(tiny)
    found = measure_memory({OURS: {}}, ModelSpec(tiny), threads=1, steps=1, resolution=64, cold=True)[OURS]
    assert found.cold and found.gpu_peak == 0
    assert found.peak > found.private > 0  # mapped files come on top
    assert min(found.imported, found.loaded, found.scored) > 0
    files = [file for part in ("unet", "vae", "text_encoder") for file in (tiny / part).glob("*.safetensors")]
    assert weight_bytes(tiny) == sum(file.stat().st_size for file in files) > 0


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    from discffusion.errors import DiscffusionError

    with pytest.raises(
        DiscffusionError, match=r"process that measures discffusion ended with 1.*config\.json"
    ):
        measure_memory({OURS: {}}, ModelSpec(tmp_path), threads=1, steps=1, resolution=64, cold=False)


def test_all_parts(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part but memory, once, in small, against the quickest of the others."""
    monkeypatch.setattr("discffusion.bench.implementations.parts._PIXELS", 128)
    monkeypatch.setattr("discffusion.bench.growth.SIZES", {"images": (1, 2), "steps": (1, 3)})
    monkeypatch.setattr("discffusion.bench.run._PHASES_BATCH", 2)
    options = Options(
        workloads=["1x2"], against=["diffusers-batched"], steps=2, resolution=64, repeats=1, threads=1,
        parts=["requests", "phases", "peak", "growth"],
    )  # fmt: skip
    said: list[str] = []
    kept: list[dict[str, Any]] = []
    found = bench(
        tiny, options, device="cpu", say=said.append, keep=lambda report: kept.append(report.to_dict())
    )
    data: dict[str, Any] = found.to_dict()
    assert json.loads(json.dumps(data)) == data
    # As it grew: the one workload, then part by part.
    assert len(kept) == 1 + 4 and kept[-1] == data
    assert kept[0]["comparisons"] == data["comparisons"] and kept[0]["phases"] is None
    (comparison,) = data["comparisons"]
    assert comparison["workload"] == "1x2"
    assert comparison["implementations"]["diffusers-batched"]["apart"] < 1e-5
    flops = {name: one["flops"] for name, one in comparison["implementations"].items()}
    assert flops["diffusers-batched"] > flops[OURS] > 0
    assert set(data["phases"]["implementations"]) == set(data["peak"]["unet"]) == {OURS, "diffusers-batched"}
    assert data["operators"]["count"] > 100 and data["operators"]["ratio"] > 1
    assert set(data["growth"]) == {"images", "steps", "resolution"}
    assert data["machine"]["threads"] == 1 and data["versions"]["torch"].startswith("2.")
    assert any("growth" in line for line in said)
    assert "## Growth" in found.markdown()


def test_command(tiny: Path, tmp_path: Path) -> None:
    arguments = ["bench", "--model", str(tiny), "--device", "cpu", "-w", "1x1", "--against", "none", "--steps", "1",
                 "--resolution", "64", "--repeats", "1", "--threads", "1", "--part", "requests"]  # fmt: skip
    done = CliRunner().invoke(build_app(), [*arguments, "--json", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found["comparisons"][0]["implementations"]) == [OURS]
    assert json.loads((tmp_path / "bench.json").read_text()) == found
    assert (tmp_path / "bench.md").read_text().startswith("# Benchmark of")


def test_without_diffusers(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This package is measured alone; what its work is counted on is lacking, and the report says so."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    options = Options(against=[], workloads=["1x1"], steps=1, resolution=64, repeats=1, threads=1,
                      parts=["requests", "peak", "growth"])  # fmt: skip
    monkeypatch.setattr("discffusion.bench.growth.SIZES", {"images": (1, 2)})
    report = bench(tiny, options, device="cpu")
    assert report.peak is None and report.growth is not None
    assert report.comparisons[0].flops == {} and report.comparisons[0].times[OURS].median > 0
    assert any("operations are not counted" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    "arguments",
    [["--workload", "one"], ["--against", "jax"], ["--part", "all"], ["--steps", "0"], ["--output", "x.txt"]],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str]) -> None:
    done = CliRunner().invoke(build_app(), ["bench", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
