"""Checks exported files against the network, in this process or in a new one.

`in_this_process` is quick, for the winner of a search. `in_a_fresh_process` loads every file
without this package, as a recipient of the folder would. Both raise before the folder is moved
into place, so that a failed check leaves nothing behind. Knows files and outputs. Does not write
what it checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.exports import fresh_process, onnx_file
from nas.exports.description import ONNX_FILE
from nas.exports.formats import FORMAT_FILES
from nas.exports.saved import load
from search_spaces.errors import UserError
from search_spaces.ops import Zero
from search_spaces.serial import Blocks

TOLERANCE = 1e-4
"""Largest difference of outputs, relative to the largest output if that exceeds 1."""

BATCH_SIZES = (1, 3)

TIMEOUT_MINUTES = 30


@dataclass(frozen=True)
class FreshCheck:
    """Result of a check in a new process."""

    differences: Mapping[str, float]
    """Largest relative difference of outputs, by format."""
    counts: Mapping[str, Mapping[str, int]]
    """`macs` and `params` that were counted, by format."""
    seconds: float


def samples(network: nn.Module, blocks: Blocks) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Random inputs of several batch sizes, each with the network's output.

    Raises:
        UserError: if an output is not finite.
    """
    network.eval()
    pairs = []
    for batch in BATCH_SIZES:
        x = onnx_file.example(blocks, batch)
        with torch.no_grad():
            expected = network(x).clone()
        if not expected.isfinite().all():
            raise UserError("the network's outputs are not finite: it cannot be exported")
        pairs.append((x, expected))
    return pairs


def in_this_process(
    network: nn.Module, blocks: Blocks, place: Path, formats: Sequence[str]
) -> None:
    """Compare the outputs of the `safetensors` and `onnx` files in `place` with the network's.

    Raises:
        UserError: if they differ by more than `TOLERANCE`.
    """
    from nas.exports.onnx_network import OnnxNetwork  # imports onnxruntime

    runs: dict[str, Any] = {}
    if "safetensors" in formats:
        runs["loaded"] = load(place)
    if "onnx" in formats:
        runs["ONNX"] = OnnxNetwork(place / ONNX_FILE)
    for x, expected in samples(network, blocks):
        scale = max(1.0, float(expected.abs().max()))
        for name, run in runs.items():
            with torch.no_grad():
                given = run(x)
            if given.shape != expected.shape:
                raise UserError(f"export failed its check: {name} outputs have another shape")
            difference = float((given - expected).abs().max()) / scale
            if not difference <= TOLERANCE:
                raise UserError(
                    f"export failed its check: {name} outputs differ by {difference:.2g} at batch "
                    f"{len(x)}"
                )


def in_a_fresh_process(
    network: nn.Module,
    blocks: Blocks,
    place: Path,
    formats: Sequence[str],
    *,
    costs: Mapping[str, Any] | None,
    auto: str | None = None,
    space: str | None = None,
) -> FreshCheck:
    """Load every format in one new process and compare outputs and counts.

    Args:
        costs: `macs` and `params` that every format must count; None for a network whose compute
            depends on the input.
        auto: class of transformers whose `from_pretrained` reads the folder; skipped if
            transformers is not installed.
        space: `file.py:OBJECT` that defines the user's own op types, if the space has any.

    Raises:
        UserError: if a file does not load, its outputs differ, or its counts differ.
    """
    with tempfile.TemporaryDirectory(prefix="export-check-") as scratch:
        torch.save(samples(network, blocks), Path(scratch) / "samples.pt")
        plan = {
            "folder": str(place.absolute()),
            "formats": list(formats),
            "files": FORMAT_FILES,
            "samples": str(Path(scratch) / "samples.pt"),
            "tolerance": TOLERANCE,
            "costs": costs and {name: costs[name] for name in ("macs", "params")},
            "dead_ends": any(isinstance(op, Zero) for _, ops in blocks for op in ops),
            "transformers": auto if has_transformers() else None,
            "space": space if space is not None and ":" in space else None,
            # A path, since this package need not be installed.
            "root": str(Path(__file__).parents[2]),
            "path": [entry for entry in map(os.path.abspath, sys.path) if _is_shared(Path(entry))],
        }
        file = Path(scratch) / "plan.json"
        file.write_text(json.dumps(plan), encoding="utf-8")
        environment = {**os.environ, "HF_MODULES_CACHE": scratch, "HF_HUB_OFFLINE": "1"}
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(Path(fresh_process.__file__)), str(file)],
                cwd=scratch,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60 * TIMEOUT_MINUTES,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"export failed its check: loading it takes more than {TIMEOUT_MINUTES} minutes"
            ) from None
    lines = done.stdout.splitlines()
    try:
        result: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        last_line = (done.stderr.strip().splitlines() or ["no output"])[-1]
        result = {"error": f"the checking process exited with {done.returncode}: {last_line}"}
    if "error" in result:
        raise UserError(f"export failed its check: {result['error']}")
    return FreshCheck(result["checked"], result["counts"], result["seconds"])


def _is_shared(entry: Path) -> bool:
    """Whether a path entry may be passed on: exists, and is not transformers' cache of code."""
    return entry.exists() and not (entry / "transformers_modules").exists()


def has_transformers() -> bool:
    """Whether transformers is installed; only the check of its own layout needs it."""
    return find_spec("transformers") is not None
