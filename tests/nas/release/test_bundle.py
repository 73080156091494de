"""`nas export`: every file works on its own, the card and the record report the run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnxruntime
import pytest
import torch

from evaluators.counting.formats.onnx_counter import count_onnx
from nas.cli import main
from nas.engine.search import Outcome
from nas.exports.saved import load
from nas.exports.source import python_source
from nas.release import picture
from nas.release.bundle import write_bundle
from nas.release.efficiency import SCHEMA, read_record, schema
from nas.run.folder import read_scores
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

ALL = "safetensors,onnx,pt2,python"


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def bundle(finished: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The winner in every format; the command itself has compared and counted all of them."""
    out = tmp_path_factory.mktemp("bundle") / "out"
    options = ("--format", ALL, "--int8", "--with-preprocessing", "--quiet")
    assert run("export", str(finished.run.folder), "--out", str(out), *options) == 0
    return out


def outputs(folder: Path, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        given: torch.Tensor = load(folder)(x)
    return given


def test_all_formats_compute_the_same(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text())
    x = torch.randn(5, *config["input_shape"], generator=torch.Generator().manual_seed(0))
    expected = outputs(bundle, x)
    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    (given,) = session.run(None, {"images": x.numpy()})
    assert np.abs(given - expected.numpy()).max() < 1e-4
    program = torch.export.load(bundle / "model.pt2")
    with torch.no_grad():
        assert (program.module()(x) - expected).abs().max() < 1e-5
    assert count_onnx(bundle / "model.onnx", [x[:1].shape]).macs == config["costs"]["macs"]
    assert (bundle / "model.int8.onnx").exists()
    assert not (bundle / "__pycache__").exists()


def test_transformers_reads_the_folder_and_its_pipeline_classifies(bundle: Path) -> None:
    """In a process that cannot import this package, offline."""
    code = f"""
import sys
sys.path = [p for p in sys.path if p not in ("", {str(Path.cwd())!r})]
class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("nas", "search_spaces", "evaluators"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy, torch
from transformers import AutoConfig, AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained({str(bundle)!r}, trust_remote_code=True)
config = AutoConfig.from_pretrained({str(bundle)!r}, trust_remote_code=True)
assert config.id2label[3] == "3", config.id2label
x = torch.zeros(2, *config.input_shape)
out = model(pixel_values=x, labels=torch.tensor([0, 1]))
assert out.logits.shape == (2, 10) and out.loss > 0
torch.save(out.logits, sys.argv[1])
"""
    where = bundle.parent
    done = subprocess.run(
        [sys.executable, "-c", code, str(where / "logits.pt")],
        cwd=where,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(where / "hub"), "PATH": "", "HOME": str(where)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    config = json.loads((bundle / "config.json").read_text())
    expected = outputs(bundle, torch.zeros(2, *config["input_shape"]))
    assert (torch.load(where / "logits.pt") - expected).abs().max() < 1e-5


def test_the_card_and_the_record_report_the_run(bundle: Path, finished: Outcome) -> None:
    config = json.loads((bundle / "config.json").read_text())
    record = read_record(bundle)
    assert record.counts.macs == config["costs"]["macs"]
    tests = {r.precision: r for r in record.results if r.split == "test"}
    winner = finished.summary.to_json()["winner"]
    assert tests["fp32"].value == pytest.approx(winner["test_accuracy"], abs=0.003)
    assert tests.keys() == {"fp32", "int8"}
    for result in tests.values():
        assert result.interval_95 is not None
        assert result.interval_95[0] <= result.value <= result.interval_95[1]
        assert result.samples == winner["test_images"]
    for measured in record.measured:
        assert 0 < measured.p50_ms <= measured.p90_ms <= measured.p99_ms
        assert measured.queries >= 5
    assert {(m.scenario, m.precision) for m in record.measured} == {
        (s, p) for s in ("single stream", "offline") for p in ("fp32", "int8")
    }
    card = (bundle / "README.md").read_text()
    assert f"{record.counts.macs:,}" in card
    assert {"python", "torch", "onnxruntime"} <= record.versions.keys()
    assert record.versions["torch"] == version("torch")
    assert f"nas export {finished.run.folder.name} --arch {record.architecture}" in card
    ElementTree.parse(bundle / "architecture.svg")


def test_snippets_of_the_card_run_as_they_stand(bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "taken"))
    snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(snippets) == 7  # transformers, source, pt2, ONNX three times, nas
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    # Each alone, in one process: importing torch takes longer than all of them.
    program = "\n".join(f"exec({snippet!r}, {{}})" for snippet in snippets)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    label, probability = done.stdout.split()
    assert label in json.loads((folder / "labels.json").read_text())
    assert 0.1 < float(probability) <= 1


def test_the_bundle_keeps_the_scores_of_the_classes(bundle: Path, finished: Outcome) -> None:
    scores = read_scores(bundle)
    assert scores is not None
    score = finished.summary.winner.score
    assert score is not None
    assert scores.accuracy == score.value


def test_emissions_are_in_grams(copied: Path, tmp_path: Path) -> None:
    session = {"region": "SE", "measured_by": "processor by an estimate"}
    totals = {"seconds": 5.0, "kwh": 0.01, "kg": 0.0004, "kg_low": 0.0003, "kg_high": 0.0005}
    content = {"sessions": [session], "totals": totals}
    (copied / "footprint.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    assert run("export", str(copied), "--out", str(out), "--format", "onnx", "--quiet") == 0
    card = (out / "README.md").read_text()
    assert "co2_eq_emissions:\n  emissions: 0.4\n" in card
    footprint = read_record(out).footprint
    assert footprint is not None
    assert footprint.kg_co2e == 0.0004
    assert footprint.region == "SE"


@pytest.mark.parametrize("kind", ["outputs", "counts", "import"])
def test_a_failed_check_leaves_nothing_behind(
    kind: str,
    finished: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = {
        "outputs": ("F.hardswish(", "F.relu("),
        "counts": ("bias=False", "bias=True"),
        "import": ("from pathlib import Path", "import nas\nfrom pathlib import Path"),
    }[kind]
    true = python_source.write_python

    def broken(*arguments: Any) -> str:
        text = true(*arguments)
        assert wrong[0] in text
        return text.replace(*wrong)

    monkeypatch.setattr(python_source, "write_python", broken)
    out = tmp_path / "out"
    out.mkdir()
    options = ("--format", "python", "--overwrite", "--quiet")
    assert run("export", str(finished.run.folder), "--out", str(out), *options) == 2
    printed = capsys.readouterr()
    assert "export failed its check" in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [out]
    assert not list(out.iterdir())


@pytest.mark.slow
def test_an_interrupted_export_of_the_frontier_resumes(
    finished: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "all"
    command = ("export", str(finished.run.folder), "--all-frontier", "--out", str(out), "--quiet")
    ids = [e.arch.id for e in finished.frontier]
    write, done = write_bundle, []

    def counted(*arguments: Any, **options: Any) -> Any:
        if len(done) == 1:
            raise UserError("interrupted")
        done.append(arguments[2].evaluation.arch.id)
        return write(*arguments, **options)

    monkeypatch.setattr("nas.commands.show.export.write_bundle", counted)
    if len(ids) > 1:
        assert run(*command) == 2
        assert [p.name for p in out.iterdir() if p.is_dir()] == done
    monkeypatch.setattr("nas.commands.show.export.write_bundle", write)
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("model.onnx")} if out.exists() else {}
    capsys.readouterr()
    assert run(*command) == 0
    assert f"{len(ids)} networks of the frontier" in capsys.readouterr().out
    assert all(p.stat().st_mtime_ns == before for p, before in kept.items())
    index = json.loads((out / "index.json").read_text())
    assert [entry["id"] for entry in index["networks"]] == ids
    assert all((out / name / "README.md").exists() for name in ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "onx"], "unknown export format 'onx': did you mean 'onnx'?"),
        (["--format", ""], "no export format: expected some of safetensors, onnx, pt2, python"),
        (
            ["--format", "python", "--int8"],
            "--int8 is made of the ONNX file: expected onnx in --format",
        ),
        (["--arch", "zzz"], "no architecture 'zzz'"),
        (["--arch", ""], "fits 8 architectures"),
    ],
)
def test_invalid_exports_are_one_line_errors(
    options: list[str],
    message: str,
    finished: Outcome,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run("export", str(finished.run.folder), "--out", str(out), *options) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_full_folder_and_an_empty_frontier_are_one_line_errors(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for more in ([], ["--all-frontier"]):
        assert run("export", str(copied), "--out", str(full), *more) == 2
        assert "is not empty: use another folder or --overwrite" in capsys.readouterr().err
    assert (full / "mine.txt").read_text() == "mine"
    (copied / "study.db").unlink()
    assert run("export", str(copied), "--all-frontier", "--out", str(tmp_path / "x")) == 2
    assert "no study at" in capsys.readouterr().err


def test_the_schema_file_is_current() -> None:
    assert json.loads(SCHEMA.read_text()) == schema()


def test_the_picture_has_a_bar_for_every_block_with_flops() -> None:
    space = load_space("darts")
    blocks = space.ops(space.smallest)
    text = picture.draw(blocks, "a <network>")
    root = ElementTree.fromstring(text)
    titles = [e.text for e in root.iter() if e.tag.endswith("title")]
    assert len(titles) == len(picture.bars_of(blocks))
    assert "a <network>" in root.attrib["aria-label"]
