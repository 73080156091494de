"""Runtimes: they run blocks, whole networks, and blocks that read other blocks."""

from __future__ import annotations

import pytest
import torch

from hardware_profiles.measuring.runtimes import check_runtime, runner
from hardware_profiles.measuring.this_machine import Setting, measurement_plan
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch", "training"])
@pytest.mark.parametrize("name", ["mobilenet-tiny", "vit-tiny", "nasbench201"])
def test_blocks_and_networks_run(name: str, runtime: str) -> None:
    space = load_space(name)
    threads = torch.get_num_threads()
    try:
        for ops in list(measurement_plan(space).values())[:12]:
            runner([("block", ops)], check_runtime(runtime), threads=1, batch=2)()
        whole = space.ops(space.smallest)
        runner(whole, check_runtime(runtime), threads=1, batch=2)()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_every_block_is_compiled() -> None:
    """Uses more blocks than the number of versions that the compiler caches per function."""
    from torch._dynamo.utils import counters

    count = torch._dynamo.config.recompile_limit + 2
    setting = Setting("here", runtime="torch-compile")
    blocks = list(measurement_plan(load_space("vit-tiny")).values())[:count]
    assert len(blocks) == count
    before = counters["stats"]["unique_graphs"]
    for ops in blocks:
        setting.run([("block", ops)])()
    assert counters["stats"]["unique_graphs"] - before == count


def test_an_unknown_runtime_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'torch-compile'"):
        check_runtime("torch-compiled")
