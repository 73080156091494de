"""Writes the model card of an exported network, with Hugging Face's metadata.

It reports counts, scores, latencies, usage, how the network was made and the footprint, each with
its source. Knows the facts and the record. Does not collect or measure them (`facts.py`,
`timing.py`).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.data.files.images import HUB_NAMES
from evaluators.data.preprocessing import Preprocessing
from evaluators.metrics import Metric
from evaluators.sizes import format_size
from nas.exports import executorch_file, pt2_file, quantised
from nas.exports.app import pixels_graph
from nas.exports.app import writing as app_folder
from nas.exports.description import CONFIG_FILE, LABELS_FILE, ONNX_FILE
from nas.exports.formats import FORMAT_FILES
from nas.exports.source import hugging_face, python_source
from nas.release import picture
from nas.release.efficiency import EfficiencyRecord, Measured, Result
from nas.release.facts import Facts
from nas.run.results import ExitReport

CARD_FILE = "README.md"

APP_PROGRAM, APP_PAGE = (
    f"{app_folder.FOLDER}/{name}" for name in (app_folder.PROGRAM, app_folder.PAGE)
)

GRAMS_PER_KG = 1e3


def write(
    facts: Facts,
    config: Mapping[str, Any],
    record: EfficiencyRecord,
    files: Sequence[str],
    kind: hugging_face.Kind | None,
) -> str:
    """The text of `README.md`.

    Args:
        files: names of the files in the folder.
        kind: kind of the network if it has Hugging Face's layout.
    """
    parts = [
        _metadata(facts, config, kind, files),
        f"# {_plain(str(config['space']))} {facts.identity}",
        _opening(facts, config),
        f"![Blocks in order; the width of a bar is its FLOPs]({picture.PICTURE_FILE})",
        _counts(config),
        _exits(config),
        _scores(facts.results),
        _latency(record),
        _use(files, kind, config),
        _made(facts, config),
        _footprint(facts),
        _commands(facts, files),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(
    facts: Facts, config: Mapping[str, Any], kind: hugging_face.Kind | None, files: Sequence[str]
) -> str:
    """YAML metadata for the hub; strings are written as JSON, which is valid YAML."""
    lines = ["---"]
    loads = kind is not None and CONFIG_FILE in files
    lines.append(f"library_name: {'transformers' if loads else 'pytorch'}")
    if kind is not None:
        lines.append(f"pipeline_tag: {kind}")
    lines.append("tags:\n- neural-architecture-search\n- budget-nas")
    hub = HUB_NAMES.get(facts.data, facts.data)
    if "/" in hub and not Path(hub).exists():
        lines.append(f"datasets:\n- {json.dumps(hub)}")
    if facts.results:
        lines.append(f"metrics:\n- {facts.results[0].metric}")
    if facts.footprint is not None:
        foot = facts.footprint
        lines.append(
            "co2_eq_emissions:\n"
            f"  emissions: {foot.kg_co2e * GRAMS_PER_KG:.6g}\n"  # the hub expects grams
            f"  source: {json.dumps(foot.measured_by)}\n"
            '  training_type: "architecture search and training"\n'
            f"  geographical_location: {json.dumps(foot.region)}"
        )
    tests = [result for result in facts.results if result.split == "test"]
    if tests and kind is not None:
        test = tests[0]
        lines.append(
            f"model-index:\n- name: {json.dumps(str(config['space']) + ' ' + facts.identity)}\n"
            f"  results:\n  - task:\n      type: {kind}\n    dataset:\n"
            f"      name: {json.dumps(test.data)}\n      type: {json.dumps(test.data)}\n"
            f"      split: {test.split}\n    metrics:\n    - type: {test.metric}\n"
            f"      value: {test.value:.6g}"
        )
    return "\n".join([*lines, "---"])


def _opening(facts: Facts, config: Mapping[str, Any]) -> str:
    size = "x".join(map(str, config["input_shape"]))
    shape = f"{size} token ids" if len(config["input_shape"]) == 1 else f"images of {size}"
    variant = ", cut to fewer FLOPs" if "cut" in config else ""
    variant = ", with early exits" if "exits" in config else variant
    space = _plain(str(config["space"]))
    return (
        f"A network found by budget-nas in the search space {space}{variant}, with "
        f"{facts.weights} weights. Input: {shape}."
    )


def _counts(config: Mapping[str, Any]) -> str:
    costs = config["costs"]
    rows = [
        ("FLOPs (multiply-accumulates)", f"{costs['macs']:,}"),
        ("parameters", f"{costs['params']:,}"),
        ("peak activation memory", format_size(costs["memory"], "B")),
    ]
    return f"## Counts\n\n{_table(('', 'per sample'), rows)}\n\n{config['convention']}"


def _exits(config: Mapping[str, Any]) -> str:
    """Where test samples leave a network with early exits."""
    report = ExitReport.from_json(config["metrics"]) if "exits" in config else None
    if report is None:
        return ""
    rows = [(*cells, f"{macs:,}") for *cells, macs in (place.row() for place in report.places)]
    heads = ("exit after", "minimum margin", "share of test samples", "FLOPs")
    return (
        f"## Early exits\n\n{report.avg_flops:,.0f} FLOPs per test sample on average, including "
        "the exit heads. The counts above are those of the network without exits.\n\n"
        f"{_table(heads, rows)}"
    )


def _scores(results: Sequence[Result]) -> str:
    if not results:
        return ""
    rows = []
    for result in results:
        interval = ""
        if result.interval_95 is not None:
            low, high = (Metric.of(result.metric).format(value) for value in result.interval_95)
            interval = f"{low} to {high}"
        note = "unseen by the search" if result.split == "test" else "as scored in the search"
        rows.append(
            (
                f"{result.metric}, {result.precision}",
                Metric.of(result.metric).format(result.value),
                interval,
                f"{_plain(result.data)}, {result.split}: {result.samples:,} {result.unit}, {note}",
            )
        )
    heads = ("metric", "value", "95 % interval", "measured on")
    return f"## Scores\n\n{_table(heads, rows)}"


def _latency(record: EfficiencyRecord) -> str:
    if not record.measured and not record.estimated:
        return ""
    text = "## Latency"
    if record.measured:
        first = record.measured[0]
        rows = [_timing(measured) for measured in record.measured]
        heads = ["scenario", "file", "batch", "threads"]
        heads += ["p50", "p90", "p99", "samples/s", "queries"]
        text += (
            f"\n\n{_table(heads, rows)}\n\nMeasured on {first.hardware.processor}, "
            f"{first.hardware.cores} cores, {first.hardware.system}; other programs may have "
            f"run at the same time. Timed {first.manner}."
        )
    if record.estimated:
        rows = [
            (
                known.device,
                f"{known.latency_ms:.4g} ms",
                "" if known.energy_mj is None else f"{known.energy_mj:.4g} mJ",
                known.source,
            )
            for known in record.estimated
        ]
        text += f"\n\n{_table(('device', 'latency', 'energy', 'source'), rows)}"
    return text


def _timing(measured: Measured) -> tuple[str, ...]:
    times = (measured.p50_ms, measured.p90_ms, measured.p99_ms)
    return (
        measured.scenario,
        f"{measured.file}, {measured.runtime}",
        str(measured.batch),
        str(measured.threads),
        *(f"{value:.3g} ms" for value in times),
        f"{measured.samples_per_second:.4g}",
        str(measured.queries),
    )


def _use(files: Sequence[str], kind: hugging_face.Kind | None, config: Mapping[str, Any]) -> str:
    """Code that uses each file."""
    lines = []
    if hugging_face.MODEL_FILE in files and kind is not None:
        auto = hugging_face.AUTO[kind]
        lines.append(
            f"from transformers import {auto}\n\n"
            f'network = {auto}.from_pretrained(".", trust_remote_code=True)'
        )
    if python_source.SOURCE_FILE in files:
        lines.append(
            f"from network import load  # {python_source.SOURCE_FILE}, plain PyTorch\n\n"
            "network = load()"
        )
    if pt2_file.PT2_FILE in files:
        lines.append(f'import torch\n\nnetwork = torch.export.load("{pt2_file.PT2_FILE}").module()')
    if executorch_file.EXECUTORCH_FILE in files:
        lines.append(
            "import torch\nfrom executorch.runtime import Runtime  # one sample at a time\n\n"
            f"sample = {_example('torch', config)}\n"
            f'program = Runtime.get().load_program("{executorch_file.EXECUTORCH_FILE}")\n'
            '(logits,) = program.load_method("forward").execute([sample])'
        )
    for name in (ONNX_FILE, quantised.INT8_FILE):
        if name in files:
            name_in = "images" if "mean" in config else "tokens"
            lines.append(
                "import numpy as np\nimport onnxruntime\n\n"
                f'session = onnxruntime.InferenceSession("{name}")\n'
                f"{name_in} = {_example('np', config)}\n"
                f'(logits,) = session.run(None, {{"{name_in}": {name_in}}})'
            )
    if pixels_graph.PIXELS_FILE in files:
        lines.append(
            "import json\n\nimport numpy as np\nimport onnxruntime\n\n"
            "pixels = np.zeros((1, 480, 640, 3), dtype=np.uint8)  # an upright RGB picture\n"
            f'session = onnxruntime.InferenceSession("{pixels_graph.PIXELS_FILE}")\n'
            f'(probabilities,) = session.run(None, {{"{pixels_graph.INPUT}": pixels}})\n'
            f'labels = json.load(open("{LABELS_FILE}", encoding="utf-8"))\n'
            "print(labels[probabilities[0].argmax()], probabilities.max())"
        )
    if CONFIG_FILE in files:
        line = 'import nas  # budget-nas\n\nnetwork = nas.load(".")'
        if "classes" in config:
            sample = '"photos/*.jpg"' if "mean" in config else '"a sentence"'
            line += f"\n# network.predict({sample})[0].label"
        lines.append(line)
    preprocessing = "The snippets run in this folder. "
    if "mean" in config:
        preprocessing += f"Input: {Preprocessing.of(config)}. "
    if "classes" in config:
        preprocessing += f"The classes in the order of the logits are in `{LABELS_FILE}`. "
    for name, where in ((APP_PROGRAM, ""), (APP_PAGE, " in a browser, offline")):
        if name in files:
            preprocessing += f"`{name}` classifies pictures{where}. "
    batch = "Any batch size is accepted"
    if executorch_file.EXECUTORCH_FILE in files:
        batch += f", except by `{executorch_file.EXECUTORCH_FILE}`, which takes one sample"
    blocks = "\n\n".join(f"```python\n{line}\n```" for line in lines)
    return f"## Use\n\n{preprocessing}{batch}.\n\n{blocks}"


def _example(module: str, config: Mapping[str, Any]) -> str:
    """Source of an input of zeros, as an array of numpy or a tensor of torch."""
    size = ", ".join(map(str, (1, *config["input_shape"])))
    kind = "float32" if "mean" in config else "int64"
    return f"{module}.zeros(({size}), dtype={module}.{kind})"


def _made(facts: Facts, config: Mapping[str, Any]) -> str:
    split = ", ".join(f"{name} {count:,}" for name, count in facts.parts.items())
    choices = config["architecture"]["choices"]
    rows = [(_plain(name), _plain(str(value))) for name, value in choices.items()]
    versions = ", ".join(f"{name} {value}" for name, value in facts.versions.items())
    return (
        f"## How it was made\n\nData: {_plain(facts.data)} ({split} {facts.unit}). "
        f"Seed: {facts.seed}. Versions: {versions}.\n\n"
        f"<details><summary>The architecture's {len(rows)} choices</summary>\n\n"
        f"{_table(('choice', 'value'), rows)}\n\n</details>"
    )


def _footprint(facts: Facts) -> str:
    parts = []
    if facts.footprint is not None:
        foot = facts.footprint
        grams = [
            value * GRAMS_PER_KG for value in (foot.kg_co2e, foot.kg_co2e_low, foot.kg_co2e_high)
        ]
        parts.append(
            f"Search and training used {foot.kwh * 1e3:.4g} Wh and emitted {grams[0]:.4g} g CO2e "
            f"(range {grams[1]:.3g} to {grams[2]:.3g}, grid {foot.region}; {foot.measured_by}). "
            f"This covers {foot.covers}."
        )
    if facts.greenscore is not None:
        parts.append(f"GreenScore {facts.greenscore:.4f}: {facts.greenscore_formula}.")
    return "## Energy and carbon\n\n" + "\n\n".join(parts) if parts else ""


def _commands(facts: Facts, files: Sequence[str]) -> str:
    formats = [label for label, name in FORMAT_FILES.items() if name in files]
    extras = {
        "--int8": quantised.INT8_FILE,
        "--with-preprocessing": pixels_graph.PIXELS_FILE,
        "--app": APP_PROGRAM,
    }
    options = "".join(f" {option}" for option, name in extras.items() if name in files)
    trained, run = "", shlex.quote(" ".join(facts.run.split()))
    if facts.training is not None:
        trained = f"nas train {run} --arch {facts.identity}{facts.training}\n"
    settings = json.dumps(facts.settings, indent=1)
    name = shlex.quote(facts.name)
    return (
        "## Commands to reproduce it\n\n```\nnas search --config search.json --out "
        f"{run}\n{trained}nas export {run} --arch {name} --format "
        f"{','.join(formats)}{options} --out FOLDER\n```\n\n`search.json`:\n\n"
        f"```json\n{settings}\n```"
    )


_UNESCAPED = re.compile(r"(?<!\\)\|")


def _plain(text: str) -> str:
    """A text of the data or the user that Markdown shows as it is."""
    return re.sub(r"([\\`*{}\[\]<>#|])", r"\\\1", " ".join(text.split()))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    whole = [[_UNESCAPED.sub("/", cell) for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in whole)
