"""Reads a study's SQLite file without Optuna's objects: twenty thousand trials in a second.

The tables are those of Optuna's storage. The file is opened read-only, and no lock is held between
the queries, so that a search that is writing does not wait. A trial is added in one transaction, so
every trial listed by the first query is complete in the next ones. A file that this module cannot
read may be readable by Optuna (`run/study.py`); a test compares the two. Does not know spaces, and
does not write.
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
from nas.run.storage.address import LOCK_TIMEOUT
from search_spaces.architecture import Architecture, Value, plain_value

STUDY_NAME = "search"

ENDED_STATES = ("COMPLETE", "PRUNED", "FAIL")

SEPARATOR = "\x1f"
"""Separates names; a control character that no name contains."""

BUDGET_KEY = "constraints:budget"
"""Key under which Optuna stores the constraint that `Study.add` writes."""


class NotReadable(Exception):
    """The file has another format than this module reads; Optuna may still read it."""


def read_file(path: Path, study_name: str) -> list[Evaluation]:
    """Read all recorded evaluations, oldest first.

    Raises:
        NotReadable: for a file that is locked, damaged, or has other tables.
    """
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=LOCK_TIMEOUT)) as connection:
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
        [found[0], *ENDED_STATES],
    ).fetchall()
    attributes: dict[int, dict[str, Any]] = {trial: {} for trial, _ in trials}
    # A file that several runs share has other trials before, between and after.
    ids = min(attributes, default=0), max(attributes, default=0)
    rows = connection.execute(
        "SELECT trial_id, key, value_json FROM trial_user_attributes "
        "WHERE trial_id BETWEEN ? AND ?",
        ids,
    ).fetchall()
    # Parsing one text for all rows takes half the time.
    values = json.loads("[" + ",".join(text for *_, text in rows) + "]")
    for (trial, key, _), value in zip(rows, values, strict=True):
        if trial in attributes:
            attributes[trial][key] = value
    violations = _violations(connection, ids)
    items = _items(connection, attributes, ids)
    return [
        Evaluation(
            Architecture(tuple(items[trial])),
            stored["metrics"],
            stored["seconds"],
            stored.get("error"),
            stored["sampler"],
            violations.get(trial, 0.0),
            None if ended is None else datetime.fromisoformat(ended).timestamp(),
            stored.get("found_in"),
        )
        for trial, ended in trials
        if "arch" in (stored := attributes[trial])
    ]


def _violations(connection: sqlite3.Connection, ids: tuple[int, int]) -> dict[int, float]:
    rows = connection.execute(
        "SELECT trial_id, value_json FROM trial_system_attributes "
        "WHERE trial_id BETWEEN ? AND ? AND key = ?",
        [*ids, BUDGET_KEY],
    )
    return {trial: float(json.loads(text)) for trial, text in rows}


def _items(
    connection: sqlite3.Connection, wanted: Iterable[int], ids: tuple[int, int]
) -> dict[int, list[tuple[str, Value]]]:
    """Names and values of each trial's choices, in the order of writing."""
    items: dict[int, list[tuple[str, Value]]] = {trial: [] for trial in wanted}
    options: dict[str, list[tuple[str, Value]]] = {}
    layouts: dict[str, tuple[list[list[tuple[str, Value]]], list[int]]] = {}
    # One row per trial: one row per choice would take most of this function's time.
    rows = connection.execute(
        f"SELECT trial_id, group_concat(param_name, '{SEPARATOR}'), "
        "group_concat(CAST(param_value AS INTEGER)) FROM trial_params "
        "WHERE trial_id BETWEEN ? AND ? GROUP BY trial_id",
        ids,
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

    `group_concat` joins names in an arbitrary order. A choice has the same options in all trials of
    a study, and equal sets of choices have the same order.
    """
    rows = connection.execute(
        "SELECT param_name, distribution_json FROM trial_params WHERE trial_id = ? "
        "ORDER BY param_id",
        [trial],
    ).fetchall()
    for name, text in rows:
        if name not in options:
            values = json.loads(text)["attributes"]["choices"]
            options[name] = [(name, plain_value(value)) for value in values]
    return [options[name] for name in names], [names.index(name) for name, _ in rows]
