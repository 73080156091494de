"""Evaluations as a pandas frame, for notebooks and Parquet files.

Knows the columns. Does not know which evaluations are on a frontier.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.metrics import COUNTED
from nas.run.evaluation import Evaluation
from search_spaces.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd


def frame(
    evaluations: Sequence[Evaluation],
    *,
    knee: Evaluation | None = None,
    winner: str | None = None,
) -> pd.DataFrame:
    """Build a frame with one row per evaluation.

    Args:
        knee: the evaluation whose flag `knee` is set.
        winner: the id of the architecture whose flag `winner` is set.

    Returns:
        A frame with the index `id`; columns are the metrics, the flags `knee` and `winner`, and the
        choices by name, with missing values where an architecture does not have them. Counts are
        integers. A choice with the name of another column is `choice_NAME`.
    """
    import pandas as pd

    rows = [
        {
            **{n: int(v) if n in COUNTED else v for n, v in e.metrics.items()},
            "knee": knee is not None and e.arch == knee.arch,
            "winner": e.arch.id == winner,
        }
        for e in evaluations
    ]
    index = pd.Index([e.arch.id for e in evaluations], name="id", dtype="string")
    numbers = pd.DataFrame(rows, index=index)
    choices = pd.DataFrame([dict(e.arch) for e in evaluations], index=index).convert_dtypes()
    taken = set(numbers.columns)
    return numbers.join(choices.rename(columns={c: f"choice_{c}" for c in taken & set(choices)}))


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a frame atomically.

    A choice whose options have several types (`none` or a number) is written as text.

    Raises:
        UserError: if the file cannot be written.
    """
    mixed = [name for name in table if table[name].dtype == object]
    write_atomically(path, table.astype(dict.fromkeys(mixed, "string")).to_parquet)
