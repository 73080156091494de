"""Spaces of one architecture, and options of other types than Python's own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.engine.search import search
from nas.run.folder import Run, read_evaluations
from nas.run.specification import make
from nas.run.study import read_with_optuna
from search_spaces.errors import UserError
from search_spaces.space import Choice

SPACE = """
import numpy as np
from search_spaces import Block, BlockBuilder, Choice, SearchSpace


def space(image_size: int = 8, channels: int = 1, classes: int = 10) -> SearchSpace:
    def ops(w):
        w = w[1] if isinstance(w, tuple) else w
        b = BlockBuilder(channels, image_size, image_size)
        x = b.activation("r", b.batch_norm("n", b.conv("c", b.input, w, kernel=3)), "relu")
        b.linear("h", b.global_pool("p", x), classes)
        return b.ops

    return SearchSpace("odd", (Choice("w", {options}),), (Block("b", ("w",), ops),))
"""


def searched(folder: Path, options: str, **settings: Any) -> Run:
    file = folder / "odd.py"
    file.write_text(SPACE.replace("{options}", options))
    given = {"space": f"{file}:space", "evaluator": "naswot", "data": "digits", "trials": 4}
    return search(make({**given, **settings}), folder / "run").run


@pytest.mark.parametrize(
    "strategy", ["evolution", "random", "nsga2", "regularized-evolution", "optuna"]
)
def test_a_space_of_one_architecture_is_searched(tmp_path: Path, strategy: str) -> None:
    assert len(searched(tmp_path, "(8,)", strategy=strategy).evaluations()) == 1


def test_one_architecture_has_nothing_to_relax(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="odd has one architecture"):
        searched(tmp_path, "(8,)", strategy="darts", evaluator="supernet")


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ("tuple(np.arange(8, 32, 8))", [8, 16, 24]),
        ("((1, 8), (1, 16))", [(1, 8), (1, 16)]),
        ("([1, 8], [1, 16])", [(1, 8), (1, 16)]),
    ],
)
def test_options_are_stored_as_plain_values(
    tmp_path: Path, options: str, values: list[Any]
) -> None:
    run = searched(tmp_path, options)
    for found in (read_evaluations(run.study_path), read_with_optuna(run.study_path)):
        assert sorted(e.arch["w"] for e in found) == values
        assert all(type(e.arch["w"]) in (int, tuple) for e in found)
    assert run.find(run.evaluations()[0].arch.id)


def test_options_are_numbers_words_or_tuples_of_them() -> None:
    assert Choice("w", (np.int64(3), np.bool_(True), "a")).options == (3, True, "a")  # type: ignore[arg-type]
    for wrong in (None, object(), {"a": 1}, np.zeros(3)):
        with pytest.raises(ValueError, match=r"expected a number or a word|convert an array"):
            Choice("w", (wrong,))  # type: ignore[arg-type]
