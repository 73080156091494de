"""Published tables: lookups by row, columns as costs, and invalid files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from evaluators.accuracy.published_table import PublishedTable, read_table
from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.spaces.papers.nasbench201 import EDGES, OPERATIONS

SPACE = load_space("nasbench201")
ROWS = SPACE.sample(400, seed=0)
ROWS = np.unique(ROWS, axis=0)


def encoded(row: np.ndarray) -> str:
    nodes = ["".join(f"|{OPERATIONS[row[i]]}~{a}" for i, (a, b) in enumerate(EDGES) if b == n)
             + "|" for n in (1, 2, 3)]  # fmt: skip
    return "+".join(nodes)


def content() -> dict[str, list[object]]:
    return {
        "arch": [encoded(row) for row in ROWS],
        "accuracy": [float(row.sum()) for row in ROWS],
        "latency_ms_toaster": [1.0 + row.max() for row in ROWS],
        "note": ["text"] * len(ROWS),
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PublishedTable:
    path = tmp_path_factory.mktemp("tables") / "cells.parquet"
    parquet.write_table(pa.table(content()), path)
    return read_table(path, SPACE)


def test_every_architecture_is_found_with_its_numbers(table: PublishedTable) -> None:
    assert table.columns == ("accuracy", "latency_ms_toaster")
    for row, arch in zip(ROWS[:50], SPACE.decode(ROWS[:50]), strict=True):
        assert table(arch) == {"accuracy": row.sum(), "latency_ms_toaster": 1.0 + row.max()}


def test_missing_architectures_fail_and_are_over_any_budget(table: PublishedTable) -> None:
    known = {row.tobytes() for row in ROWS}
    other = next(r for r in SPACE.enumerate() if r.tobytes() not in known)
    with pytest.raises(LookupError, match=r"cells\.parquet has no architecture"):
        table(SPACE.decode(other[None])[0])
    assert table.column("latency_ms_toaster")(other[None])[0] == np.inf


def test_a_column_is_a_budget_like_any_other(table: PublishedTable) -> None:
    column = table.column("latency_ms_toaster")
    tables = CostTables(SPACE, columns={"latency_ms_toaster": column})
    budgeted = BudgetedSpace(tables, Budget({"latency_ms_toaster": 3.0}, {}))
    rows = budgeted.sample(64, np.random.default_rng(0))
    assert (column(rows) <= 3.0).all()
    least = int(ROWS.max(axis=1).min()) + 1
    with pytest.raises(UserError, match=f"has at most 0.5 ms on toaster: .* has {least} ms on toa"):
        BudgetedSpace(tables, Budget({"latency_ms_toaster": 0.5}, {}))


def test_csv_with_one_column_per_choice(tmp_path: Path) -> None:
    space = load_space("macro")
    rows = space.sample(20, seed=1)
    archs = space.decode(rows)
    columns = {c.name: [str(arch[c.name]) for arch in archs] for c in space.choices}
    path = tmp_path / "macro.csv"
    csv.write_csv(pa.table({**columns, "accuracy": [0.01 * i for i in range(20)]}), path)
    table = read_table(path, space)
    assert table.columns == ("accuracy",)
    assert [table(arch)["accuracy"] for arch in archs] == pytest.approx(
        [0.01 * i for i in range(20)]
    )


def test_some_columns_only(table: PublishedTable) -> None:
    assert set(table.only(["accuracy"])(SPACE.decode(ROWS[:1])[0])) == {"accuracy"}
    with pytest.raises(
        UserError, match=r"unknown column of .* 'accurracy': did you mean 'accuracy"
    ):
        table.only(["accurracy"])


def test_files_that_are_no_tables_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no table .*gone.parquet"):
        read_table(tmp_path / "gone.parquet", SPACE)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"unknown kind of table .*: expected .parquet, .csv"):
        read_table(tmp_path / "notes.txt", SPACE)
    (tmp_path / "broken.parquet").write_text("hello")
    with pytest.raises(UserError, match=r"cannot read .*broken.parquet"):
        read_table(tmp_path / "broken.parquet", SPACE)
    (tmp_path / "other.csv").write_text("name,accuracy\na,1\n")
    with pytest.raises(UserError, match=r"no columns that identify architectures: expected arch"):
        read_table(tmp_path / "other.csv", SPACE)
    (tmp_path / "wrong.csv").write_text("arch,accuracy\n|oops~0|,1\n")
    with pytest.raises(UserError, match=r"wrong.csv, row 1: .*expected"):
        read_table(tmp_path / "wrong.csv", SPACE)
    (tmp_path / "empty.csv").write_text(f"arch,note\n{encoded(ROWS[0])},x\n")
    with pytest.raises(UserError, match="has no column of numbers"):
        read_table(tmp_path / "empty.csv", SPACE)


def test_rows_of_one_architecture_have_one_result(tmp_path: Path) -> None:
    first, second = map(encoded, ROWS[:2])
    path = tmp_path / "seeds.csv"
    path.write_text(f"arch,accuracy,seed\n{first},0.5,1\n{second},0.7,1\n{first},0.6,1\n")
    with pytest.raises(UserError, match="rows 1 and 3 are one architecture with different accurac"):
        read_table(path, SPACE)
    path.write_text(f"arch,accuracy,loss\n{first},0.5,\n{second},0.7,1\n{first},0.5,\n")
    assert read_table(path, SPACE)(SPACE.decode(ROWS[:1])[0])["accuracy"] == 0.5


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text(f"arch,accuracy,accuracy\n{encoded(ROWS[0])},0.5,0.6\n")
    with pytest.raises(UserError, match="has two columns 'accuracy'"):
        read_table(path, SPACE)
