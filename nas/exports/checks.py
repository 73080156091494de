"""Whether what was written is the network: here, or in a process that knows nothing of this one.

`in_this_process` is quick, for the winner of a search. `in_a_fresh_process` loads every file as
someone would who got the folder. Both raise before the folder is put in its place, so what fails
leaves nothing behind. Knows files and outputs. Does not write what it checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.exports import fresh_process, onnx_file
from nas.exports.formats import FILES
from search_spaces.errors import UserError
from search_spaces.ops import Zero
from search_spaces.serial import Blocks

TOLERANCE = 1e-4
"""Of outputs, as a share of the largest where that is above one."""

BATCHES = (1, 3)

MINUTES = 30


def samples(network: nn.Module, blocks: Blocks) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs of several batch sizes with what the network gives for them."""
    network.eval()
    pairs = []
    for batch in BATCHES:
        x = onnx_file.example(blocks, batch)
        with torch.no_grad():
            pairs.append((x, network(x).clone()))
    return pairs


def in_this_process(
    network: nn.Module, blocks: Blocks, place: Path, formats: Sequence[str]
) -> None:
    """Compare the outputs of `safetensors` and `onnx`.

    Raises:
        UserError: where they differ.
    """
    from nas.exports.onnx_network import OnnxNetwork
    from nas.exports.saved import load

    runs: dict[str, Any] = {}
    if "safetensors" in formats:
        runs["loaded"] = load(place)
    if "onnx" in formats:
        runs["ONNX"] = OnnxNetwork(place / onnx_file.FILE)
    for x, expected in samples(network, blocks):
        scale = max(1.0, float(expected.abs().max()))
        for name, run in runs.items():
            with torch.no_grad():
                difference = float((run(x) - expected).abs().max()) / scale
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
) -> dict[str, Any]:
    """Load every format in one new process, compare outputs and counts.

    Args:
        costs: `macs` and `params` that everything has to count; None where that depends on the
            input.
        auto: the class of transformers that reads the folder; not asked for where transformers is
            not installed.
        space: `file.py:OBJECT`, where op types of the user's own are defined.

    Returns:
        `checked`, the largest difference of each; `counts`; `seconds`.

    Raises:
        UserError: for whatever does not load, differs or counts otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="export-check-") as scratch:
        torch.save(samples(network, blocks), Path(scratch) / "samples.pt")
        plan = {
            "folder": str(place.absolute()),
            "formats": list(formats),
            "files": FILES,
            "samples": str(Path(scratch) / "samples.pt"),
            "tolerance": TOLERANCE,
            "costs": costs and {name: costs[name] for name in ("macs", "params")},
            "dead_ends": any(isinstance(op, Zero) for _, ops in blocks for op in ops),
            "transformers": auto if has_transformers() else None,
            "space": space if space is not None and ":" in space else None,
            # By path: this package need not be installed.
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
                timeout=60 * MINUTES,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"export failed its check: loading it takes more than {MINUTES} minutes"
            ) from None
    lines = done.stdout.splitlines()
    try:
        result: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        result = {"error": f"the checking process ended with {done.returncode}: {said}"}
    if "error" in result:
        raise UserError(f"export failed its check: {result['error']}")
    return result


def _is_shared(entry: Path) -> bool:
    """Whether a place of modules is for any process: not where transformers puts networks' code."""
    return entry.exists() and not (entry / "transformers_modules").exists()


def has_transformers() -> bool:
    """Whether transformers is installed, which only a check of its own layout needs."""
    return find_spec("transformers") is not None
