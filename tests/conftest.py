"""Settings of all tests: threads of torch, and hypothesis without deadlines."""

from __future__ import annotations

import os
import tempfile

# No test reads or writes the files of whoever runs it.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="user-")

# Before torch is imported anywhere: threads that spin at a barrier slow a busy machine tenfold, and
# test processes side by side have a core each.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from search_spaces.builder import BlockBuilder
from search_spaces.ops import Op

# The same examples in every CI run: a change is judged by what it changed. Elsewhere they vary.
# Thirty are enough to notice a broken law; the slow tests draw more.
settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ, max_examples=30)
settings.load_profile("tests")


@pytest.fixture
def llama_ops() -> tuple[Op, ...]:
    """A block of `gpt-llama`, whose own networks are of 1.5 billion parameters and more."""
    build = BlockBuilder(12, 32)
    x = build.rms_norm("norm", build.input)
    q, k, v = (build.linear(n, x, w, bias=False) for n, w in (("q", 32), ("k", 16), ("v", 16)))
    q, k = build.rotary("q_rotary", q, 4), build.rotary("k_rotary", k, 2)
    mixed = build.grouped_attention("attention", q, k, v, heads=4, kv_heads=2, causal=True)
    x = build.add("residual", build.linear("out", mixed, 32, bias=False), build.input)
    gate = build.activation("gate", build.linear("gated", x, 64, bias=False), "silu")
    build.linear("down", build.multiply("product", gate, build.linear("up", x, 64)), 32)
    return build.ops
