"""A space and an evaluator as a user may write them."""

from __future__ import annotations

from pathlib import Path

SPACE = """
from search_spaces import Block, BlockBuilder, Choice, SearchSpace


def plain(image_size: int = 8, channels: int = 1, classes: int = 10) -> SearchSpace:
    def layer(index):
        def ops(width, depth):
            if index >= depth:
                return ()
            b = BlockBuilder(channels if index == 0 else width, image_size, image_size)
            normed = b.batch_norm("norm", b.conv("conv", b.input, width, kernel=3))
            b.activation("relu", normed, "relu")
            return b.ops
        return ops

    def head(width):
        b = BlockBuilder(width, image_size, image_size)
        b.linear("classifier", b.global_pool("pool", b.input), classes)
        return b.ops

    choices = (Choice("width", (8, 12, 16, 24)), Choice("depth", (1, 2, 3, 4)))
    blocks = (*(Block(f"layer{i}", ("width", "depth"), layer(i)) for i in range(4)),)
    return SearchSpace("plain", choices, (*blocks, Block("head", ("width",), head)))
"""

SCORE = """
import os, subprocess, sys, threading, time


def score(arch):
    {body}
    return {{"accuracy": 0.5 + arch["width"] / 100}}
"""

SEARCH = ("search", "--space", "plain.py:plain", "--evaluator", "judge.py:score",
          "--strategy", "random", "--seed", "0")  # fmt: skip


def place(folder: Path, body: str = "pass") -> Path:
    (folder / "plain.py").write_text(SPACE)
    (folder / "judge.py").write_text(SCORE.format(body=body))
    return folder
