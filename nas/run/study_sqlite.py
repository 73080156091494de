"""A study's SQLite file, read without Optuna's objects: twenty thousand trials in a second.

The tables are those of Optuna's storage. The file is opened for reading only, and no lock is held
between the queries, so that a search which is writing does not wait: a trial is added in one
transaction, so whatever the first query lists is whole in the next ones. What this reading cannot
read, Optuna's own may (`nas.study`); a test holds the two against each other. Does not know spaces,
and does not write.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nas.run.evaluation import Evaluation
from search_spaces.architecture import Architecture, Value

STUDY_NAME = "search"

ENDED = ("COMPLETE", "PRUNED", "FAIL")

PATIENCE = 30.0
"""Seconds to wait for a writer, who holds the file for milliseconds."""

SEPARATOR = "\x1f"
"""Between names; a control character that is in none."""

BUDGET = "constraints:budget"
"""Where Optuna keeps the constraint that `Study.add` writes."""


class NotReadable(Exception):
    """The file is not what this reading knows; Optuna's own may still read it."""


def read_file(path: Path, study_name: str) -> list[Evaluation]:
    """All recorded evaluations, oldest first.

    Raises:
        NotReadable: for a file that is locked, broken, or of tables other than these.
    """
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=PATIENCE)) as connection:
            return _evaluations(connection, study_name)
    except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
        raise NotReadable(f"{type(error).__name__}: {error}") from error


def _evaluations(connection: sqlite3.Connection, study_name: str) -> list[Evaluation]:
    found = connection.execute(
        "SELECT study_id FROM studies WHERE study_name = ?", [study_name]
    ).fetchone()
    if found is None:
        raise LookupError(f"no study '{study_name}'")
    trials = connection.execute(
        "SELECT trial_id, datetime_complete FROM trials WHERE study_id = ? AND state IN (?, ?, ?) "
        "ORDER BY number",
        [found[0], *ENDED],
    ).fetchall()
    attributes: dict[int, dict[str, Any]] = {trial: {} for trial, _ in trials}
    rows = connection.execute(
        "SELECT trial_id, key, value_json FROM trial_user_attributes"
    ).fetchall()
    # One text for all of them is parsed in half the time.
    values = json.loads("[" + ",".join(text for *_, text in rows) + "]")
    for (trial, key, _), value in zip(rows, values, strict=True):
        if trial in attributes:
            attributes[trial][key] = value
    violations = _violations(connection)
    items = _items(connection, attributes)
    return [
        Evaluation(
            Architecture(tuple(items[trial])),
            told["metrics"],
            told["seconds"],
            told.get("error"),
            told["sampler"],
            violations.get(trial, 0.0),
            None if ended is None else datetime.fromisoformat(ended).timestamp(),
        )
        for trial, ended in trials
        if "arch" in (told := attributes[trial])
    ]


def _violations(connection: sqlite3.Connection) -> dict[int, float]:
    rows = connection.execute(
        "SELECT trial_id, value_json FROM trial_system_attributes WHERE key = ?", [BUDGET]
    )
    return {trial: float(json.loads(text)) for trial, text in rows}


def _items(
    connection: sqlite3.Connection, wanted: Iterable[int]
) -> dict[int, list[tuple[str, Value]]]:
    """Names and values of each trial's choices, in the order in which they were written."""
    items: dict[int, list[tuple[str, Value]]] = {trial: [] for trial in wanted}
    options: dict[str, list[tuple[str, Value]]] = {}
    layouts: dict[str, tuple[list[list[tuple[str, Value]]], list[int]]] = {}
    # A row a trial, since a row a choice takes Python longer than everything else here.
    rows = connection.execute(
        f"SELECT trial_id, group_concat(param_name, '{SEPARATOR}'), "
        "group_concat(CAST(param_value AS INTEGER)) FROM trial_params GROUP BY trial_id"
    )
    for trial, names, codes in rows:
        if trial not in items:
            continue
        known = layouts.get(names)
        if known is None:
            known = layouts[names] = _layout(connection, trial, names.split(SEPARATOR), options)
        tables, order = known
        values = codes.split(",")
        items[trial] = [tables[at][int(values[at])] for at in order]
    return items


def _layout(
    connection: sqlite3.Connection,
    trial: int,
    names: list[str],
    options: dict[str, list[tuple[str, Value]]],
) -> tuple[list[list[tuple[str, Value]]], list[int]]:
    """The options of each of a trial's choices, and the order in which they were written.

    The database joins them in an order of its own. A choice has the same options in all trials of a
    study, and the same choices the same order.
    """
    rows = connection.execute(
        "SELECT param_name, distribution_json FROM trial_params WHERE trial_id = ? "
        "ORDER BY param_id",
        [trial],
    ).fetchall()
    for name, text in rows:
        if name not in options:
            options[name] = [(name, value) for value in json.loads(text)["attributes"]["choices"]]
    return [options[name] for name in names], [names.index(name) for name, _ in rows]
