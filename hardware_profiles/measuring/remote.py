"""Measure on another machine: write a folder with a script and models, and read its result.

The script is a copy of `standalone.py`. Knows the formats of the plan and of the result. Does not
know how models are timed.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardware_profiles.latency.block_keys import BlockKey
from hardware_profiles.latency.measured import MeasuredTable, NetworkTime
from hardware_profiles.measuring import standalone
from hardware_profiles.measuring.runtimes import input_specs, reference_blocks
from hardware_profiles.measuring.this_machine import (
    NETWORK_SCHEDULE,
    Setting,
    macs_of,
    measurement_plan,
    new_table,
    with_blocks,
)
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import read_json, write_text
from search_spaces.onnx.writer import write_onnx
from search_spaces.serial import Blocks
from search_spaces.space import SearchSpace

SCRIPT = "measure.py"
"""File name of the script."""


def write_plan(
    folder: Path,
    space: SearchSpace,
    setting: Setting,
    networks: Sequence[Architecture],
    checks: Sequence[Architecture],
    seconds: float,
) -> int:
    """Write the script, the plan and the models to a new or empty folder.

    Args:
        folder: the folder.
        space: the search space whose blocks are measured.
        setting: threads and batch.
        networks: whole networks, to fit the correction to.
        checks: whole networks, to check the table with.
        seconds: time limit of the script.

    Returns:
        The number of blocks.

    Raises:
        UserError: if the folder is not empty or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: expected a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    plan = list(measurement_plan(space).items())
    models: dict[str, Blocks] = {"reference": reference_blocks()}
    models |= {f"n{i}": space.ops(arch) for i, arch in enumerate(networks)}
    models |= {f"c{i}": space.ops(arch) for i, arch in enumerate(checks)}
    models |= {f"b{i}": [("block", ops)] for i, (_, ops) in enumerate(plan)}
    with zipfile.ZipFile(folder / "models.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for key, blocks in models.items():
            archive.writestr(key, write_onnx(blocks).SerializeToString())
    content = {
        "id": _identity(space, setting, [key for key, _ in plan], networks, checks),
        "threads": setting.threads,
        "batch": setting.batch,
        "seconds": seconds,
        "inputs": {key: input_specs(blocks) for key, blocks in models.items()},
        "groups": [
            {"keys": [key for key in models if key[0] in "nc"], "how": list(NETWORK_SCHEDULE)},
            {"keys": [f"b{i}" for i in range(len(plan))], "how": list(standalone.BLOCK_SCHEDULE)},
        ],
    }
    write_text(folder / "plan.json", json.dumps(content))
    write_text(folder / SCRIPT, Path(standalone.__file__).read_text(encoding="utf-8"))
    return len(plan)


def read_result(
    path: Path,
    space: SearchSpace,
    setting: Setting,
    networks: Sequence[Architecture],
    checks: Sequence[Architecture],
) -> tuple[MeasuredTable, list[NetworkTime]]:
    """Read the script's result.

    The other arguments must be those of `write_plan`.

    Returns:
        The table, without a correction, and the measured networks of `checks`.

    Raises:
        UserError: if the file cannot be read, is not a result, or is of another plan.
    """
    try:
        content: dict[str, Any] = read_json(path)
        results, identity = content["results"], content["plan"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a result of {SCRIPT}: {error}") from error
    plan = measurement_plan(space)
    keys = list(plan)
    if identity != _identity(space, setting, keys, networks, checks):
        raise UserError(
            f"{path} was measured with another plan: give the --space, --threads, --batch and "
            "--calibrate that the script was written with"
        )
    table = new_table(space, setting).model_copy(
        update={
            "versions": content["versions"],
            "machine": content["machine"],
            "date": content["date"],
            "networks": tuple(_times(space, networks, "n", results)),
        }
    )
    block_results = {keys[int(k[1:])]: result for k, result in results.items() if k[0] == "b"}
    table = with_blocks(table, plan, block_results, content["reference_ms"])
    return table, _times(space, checks, "c", results)


def _times(
    space: SearchSpace, archs: Sequence[Architecture], letter: str, results: dict[str, Any]
) -> list[NetworkTime]:
    return [
        NetworkTime(choices=dict(arch), macs=macs_of(space.ops(arch)), **results[f"{letter}{i}"])
        for i, arch in enumerate(archs)
        if f"{letter}{i}" in results and results[f"{letter}{i}"]["spread"] <= standalone.MAX_SPREAD
    ]


def _identity(
    space: SearchSpace,
    setting: Setting,
    keys: Sequence[BlockKey],
    networks: Sequence[Architecture],
    checks: Sequence[Architecture],
) -> str:
    """Return a hash that identifies the plan to which a result belongs."""
    words = [space.name, f"{setting.threads} threads, batch {setting.batch}"]
    words += [arch.id for arch in (*networks, *checks)]
    words += [f"{key.structure} {key.sizes}" for key in keys]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
