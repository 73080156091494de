"""Loads an export as a stranger would, in a process of its own: `checks.py` starts it by path.

    python -I fresh_process.py plan.json

First everything that must do without this package, which cannot be imported until then: the
network's own source, ONNX, `torch.export`, transformers. Then `nas.load`, and the counts of them
all. Prints one line of JSON; what fails is its `error`. So nothing of ours is imported up here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

OURS = ("search_spaces", "hardware_profiles", "evaluators", "nas", "run_search")


class Failed(Exception):
    """A check that failed; the message is for people."""


class _Blocked:
    """Refuses this package to everything that would import it."""

    def find_spec(self, name: str, *_: Any) -> None:
        """Raise for one of `OURS`; know nothing of anything else."""
        if name.partition(".")[0] in OURS:
            raise ImportError(f"{name} is not to be used here")


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Nothing of this package can be imported in the body."""
    guard = _Blocked()
    sys.meta_path.insert(0, guard)
    try:
        yield
    finally:
        sys.meta_path.remove(guard)


def main(path: str) -> None:
    """Follow a plan and print what came out."""
    started = time.perf_counter()
    plan = json.loads(Path(path).read_text(encoding="utf-8"))
    sys.dont_write_bytecode = True  # the folder stays as it was written
    sys.path += [entry for entry in plan["path"] if entry not in sys.path]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    result: dict[str, Any]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = check(plan)
    except Failed as error:
        result = {"error": str(error)}
    except Exception as error:  # whatever it is, the export does not work
        result = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"}
    result["seconds"] = time.perf_counter() - started
    print(json.dumps(result))


def check(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Load each format, compare outputs, count, and time what was asked for."""
    import torch

    torch.set_num_threads(1)
    samples = torch.load(plan["samples"])
    folder, formats = Path(plan["folder"]), plan["formats"]
    checked: dict[str, float] = {}
    networks: dict[str, torch.nn.Module] = {}

    def compare(name: str, run: Callable[[Any], Any]) -> None:
        worst = 0.0
        for x, expected in samples:
            given = run(x)
            if given.shape != expected.shape:
                raise Failed(f"{name} gives {tuple(given.shape)}, not {tuple(expected.shape)}")
            scale = max(1.0, float(expected.abs().max()))
            worst = max(worst, float((given - expected).abs().max()) / scale)
        if not worst <= plan["tolerance"]:
            raise Failed(f"outputs of {name} differ by {worst:.2g} at most, not by 1e-4")
        checked[name] = worst

    with torch.inference_mode(), blocked():
        if "python" in formats:
            networks["python"] = _source(folder / plan["files"]["python"]).load()
            compare("python", networks["python"])
        if "onnx" in formats:
            compare("onnx", _onnx(folder / plan["files"]["onnx"]))
        if "pt2" in formats:
            compare("pt2", torch.export.load(folder / plan["files"]["pt2"]).module())
        if "executorch" in formats:
            compare("executorch", _executorch(folder / plan["files"]["executorch"]))
        if plan["transformers"] is not None:
            networks["transformers"] = _pretrained(folder, plan["transformers"])
            compare("transformers", lambda x: networks["transformers"](x).logits)
    foreign = [name for name in OURS if name in sys.modules]
    if foreign:
        raise Failed(f"the files import {foreign[0]}")
    sys.path.insert(0, plan["root"])
    if plan["space"] is not None:
        from search_spaces.user_files import load_object

        load_object(plan["space"])  # op types of the user's own
    if "safetensors" in formats:
        from nas.exports.saved import load

        networks["safetensors"] = load(folder)
        with torch.inference_mode():
            compare("safetensors", networks["safetensors"])
    counts = _counts(plan, networks, samples[0][0], folder) if plan["costs"] is not None else {}
    return {"checked": checked, "counts": counts}


def _source(path: Path) -> Any:
    """The module of a file by its path."""
    spec = importlib.util.spec_from_file_location("taken_network", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["taken_network"] = module
    spec.loader.exec_module(module)
    return module


def _onnx(path: Path) -> Callable[[Any], Any]:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    return lambda x: torch.from_numpy(session.run(None, {taken.name: x.numpy()})[0])


def _executorch(path: Path) -> Callable[[Any], Any]:
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)

    def run(x: Any) -> Any:
        method = program.load_method("forward")  # which the program keeps
        return torch.cat([method.execute([sample])[0] for sample in x.split(1)])

    return run


def _pretrained(folder: Path, auto: str) -> Any:
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    import transformers

    model = getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True)
    return model.eval()


def _counts(
    plan: Mapping[str, Any], networks: Mapping[str, Any], x: Any, folder: Path
) -> dict[str, dict[str, int]]:
    """MACs and parameters of each network that was loaded, held against what is said of it."""
    from evaluators.counting.onnx_counter import count_onnx
    from evaluators.counting.torch_counter import count_module

    expected = plan["costs"]
    counts: dict[str, dict[str, int]] = {}
    for name, network in networks.items():
        count = count_module(network, [x[:1]])
        counts[name] = {"macs": count.macs, "params": count.params}
        for metric, value in counts[name].items():
            if value != expected[metric]:
                raise Failed(f"{name} counts {value:,} {metric}, not {expected[metric]:,}")
    if "onnx" in plan["formats"]:
        file = folder / plan["files"]["onnx"]
        counts["onnx"] = {"macs": count_onnx(file, [(1, *x.shape[1:])]).macs}
        macs = counts["onnx"]["macs"]
        # What leads nowhere is left out of the file.
        if macs > expected["macs"] or (macs < expected["macs"] and not plan["dead_ends"]):
            raise Failed(f"onnx counts {macs:,} macs, not {expected['macs']:,}")
    return counts


if __name__ == "__main__":
    main(sys.argv[1])
