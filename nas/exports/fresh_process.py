"""Loads an export in a process that has nothing else in memory; `checks.py` starts it by path.

    python -I fresh_process.py plan.json

First it loads every format that must work without this package, whose import is blocked meanwhile:
the network's own source, ONNX, `torch.export`, transformers. Then it calls `nas.load` and counts
all networks. It prints one line of JSON, with `error` if a check failed. Therefore this module
imports nothing of this package at its top. Knows the plan that `checks.py` writes. Does not know
how files were written.
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

OWN_PACKAGES = ("search_spaces", "hardware_profiles", "evaluators", "nas", "run_search")


class Failed(Exception):
    """A check failed; the message is shown to the user."""


class _ImportBlocker:
    """A finder for `sys.meta_path` that refuses to import this package."""

    def find_spec(self, name: str, *_: Any) -> None:
        """Raise for a module of `OWN_PACKAGES`; return None for all others."""
        if name.partition(".")[0] in OWN_PACKAGES:
            raise ImportError(f"an exported file must not import {name}")


@contextlib.contextmanager
def blocked_imports() -> Iterator[None]:
    """Make every import of this package fail in the body."""
    guard = _ImportBlocker()
    sys.meta_path.insert(0, guard)
    try:
        yield
    finally:
        sys.meta_path.remove(guard)


def main(path: str) -> None:
    """Run the checks of a plan file and print the result."""
    started = time.perf_counter()
    plan = json.loads(Path(path).read_text(encoding="utf-8"))
    sys.dont_write_bytecode = True  # no __pycache__ in the exported folder
    sys.path += [entry for entry in plan["path"] if entry not in sys.path]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    result: dict[str, Any]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = check(plan)
    except Failed as error:
        result = {"error": str(error)}
    except Exception as error:  # any error means that the export does not work
        result = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"}
    result["seconds"] = time.perf_counter() - started
    print(json.dumps(result))


def check(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Load each format of the plan, compare outputs with the samples, and count.

    Returns:
        `checked`, the largest difference by format, and `counts`.

    Raises:
        Failed: if outputs or counts differ.
    """
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
                raise Failed(
                    f"{name} returns shape {tuple(given.shape)}, expected {tuple(expected.shape)}"
                )
            # A comparison with NaN is false, and would pass.
            if not (expected.isfinite().all() and given.isfinite().all()):
                raise Failed(f"outputs of {name} are not finite")
            scale = max(1.0, float(expected.abs().max()))
            worst = max(worst, float((given - expected).abs().max()) / scale)
        if not worst <= plan["tolerance"]:
            raise Failed(
                f"outputs of {name} differ by up to {worst:.2g}, "
                f"expected at most {plan['tolerance']:g}"
            )
        checked[name] = worst

    with torch.inference_mode(), blocked_imports():
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
    imported = [name for name in OWN_PACKAGES if name in sys.modules]
    if imported:
        raise Failed(f"the files import {imported[0]}")
    sys.path.insert(0, plan["root"])
    if plan["space"] is not None:
        from search_spaces.user_files import load_object

        load_object(plan["space"])  # registers the user's own op types
    if "safetensors" in formats:
        from nas.exports.saved import load

        networks["safetensors"] = load(folder)
        with torch.inference_mode():
            compare("safetensors", networks["safetensors"])
    counts = _counts(plan, networks, samples[0][0], folder) if plan["costs"] is not None else {}
    return {"checked": checked, "counts": counts}


def _source(path: Path) -> Any:
    """Import a Python file by its path."""
    spec = importlib.util.spec_from_file_location("exported_network", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["exported_network"] = module
    spec.loader.exec_module(module)
    return module


def _onnx(path: Path) -> Callable[[Any], Any]:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (tensor,) = session.get_inputs()
    return lambda x: torch.from_numpy(session.run(None, {tensor.name: x.numpy()})[0])


def _executorch(path: Path) -> Callable[[Any], Any]:
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)

    def run(x: Any) -> Any:
        method = program.load_method("forward")  # cached by the program
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
    """Count MACs and parameters of each loaded network and compare with the plan's `costs`."""
    from evaluators.counting.formats.onnx_counter import count_onnx
    from evaluators.counting.torch_counter import count_module

    expected = plan["costs"]
    counts: dict[str, dict[str, int]] = {}
    for name, network in networks.items():
        count = count_module(network, [x[:1]])
        counts[name] = {"macs": count.macs, "params": count.params}
        for metric, value in counts[name].items():
            if value != expected[metric]:
                raise Failed(f"{name} counts {value:,} {metric}, expected {expected[metric]:,}")
    if "onnx" in plan["formats"]:
        file = folder / plan["files"]["onnx"]
        counts["onnx"] = {"macs": count_onnx(file, [(1, *x.shape[1:])]).macs}
        macs = counts["onnx"]["macs"]
        # The ONNX file omits ops whose results are unused, so it may count less.
        if macs > expected["macs"] or (macs < expected["macs"] and not plan["dead_ends"]):
            raise Failed(f"onnx counts {macs:,} macs, expected {expected['macs']:,}")
    return counts


if __name__ == "__main__":
    main(sys.argv[1])
