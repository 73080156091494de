"""Measuring elsewhere: a folder with a script and models to take to a board, and its result back.

Knows the plan's file. The script is `standalone.py` as it is.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardware_profiles.latency.forms import Form
from hardware_profiles.latency.measured import MeasuredTable, NetworkTime
from hardware_profiles.measuring import standalone
from hardware_profiles.measuring.runtimes import reference, taken
from hardware_profiles.measuring.this_machine import (
    NETWORKS,
    Setting,
    macs_of,
    new_table,
    planned,
    with_blocks,
)
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.onnx.writer import write_onnx
from search_spaces.serial import Blocks
from search_spaces.space import SearchSpace

SCRIPT = "measure.py"


def write_plan(
    folder: Path,
    space: SearchSpace,
    setting: Setting,
    networks: Sequence[Architecture],
    checks: Sequence[Architecture],
    seconds: float,
) -> int:
    """Write the script and everything it measures to a new or empty folder.

    Returns:
        How many blocks there are.

    Raises:
        UserError: for a folder that holds something, or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: expected a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    plan = list(planned(space).items())
    models: dict[str, Blocks] = {"reference": reference()}
    models |= {f"n{i}": space.ops(arch) for i, arch in enumerate(networks)}
    models |= {f"c{i}": space.ops(arch) for i, arch in enumerate(checks)}
    models |= {f"b{i}": [("block", ops)] for i, (_, ops) in enumerate(plan)}
    with zipfile.ZipFile(folder / "models.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for key, blocks in models.items():
            archive.writestr(key, write_onnx(blocks).SerializeToString())
    content = {
        "id": _identity(space, setting, [form for form, _ in plan], networks, checks),
        "threads": setting.threads,
        "batch": setting.batch,
        "seconds": seconds,
        "inputs": {key: taken(blocks) for key, blocks in models.items()},
        "groups": [
            {"keys": [key for key in models if key[0] in "nc"], "how": list(NETWORKS)},
            {"keys": [f"b{i}" for i in range(len(plan))], "how": list(standalone.BLOCKS)},
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
    """The table that the script's result makes, not corrected yet, and the networks to check it by.

    Raises:
        UserError: for a file that cannot be read, is no result, or of another plan.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        results, identity = content["results"], content["plan"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no result of {SCRIPT}: {error}") from error
    plan = planned(space)
    forms = list(plan)
    if identity != _identity(space, setting, forms, networks, checks):
        raise UserError(
            f"{path} was measured by another plan: give the --space, --threads, --batch and "
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
    of_blocks = {forms[int(k[1:])]: result for k, result in results.items() if k[0] == "b"}
    table = with_blocks(table, plan, of_blocks, content["reference_ms"])
    return table, _times(space, checks, "c", results)


def _times(
    space: SearchSpace, archs: Sequence[Architecture], letter: str, results: dict[str, Any]
) -> list[NetworkTime]:
    return [
        NetworkTime(choices=dict(arch), macs=macs_of(space.ops(arch)), **results[f"{letter}{i}"])
        for i, arch in enumerate(archs)
        if f"{letter}{i}" in results and results[f"{letter}{i}"]["spread"] <= standalone.NOISY
    ]


def _identity(
    space: SearchSpace,
    setting: Setting,
    forms: Sequence[Form],
    networks: Sequence[Architecture],
    checks: Sequence[Architecture],
) -> str:
    """Says whether a result belongs to a plan."""
    words = [space.name, f"{setting.threads} threads, batch {setting.batch}"]
    words += [arch.id for arch in (*networks, *checks)]
    words += [f"{form.structure} {form.sizes}" for form in forms]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
