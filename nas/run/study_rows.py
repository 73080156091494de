"""Reads a study without Optuna's objects: twenty thousand trials of a SQLite file in a second.

The tables are those of Optuna's storage. A file is opened read-only, and no lock is held between
the queries, so that a search that is writing does not wait. A trial is added in one transaction, so
every trial listed by the first query is complete in the next ones. What this module cannot read may
be readable by Optuna (`run/study.py`); a test compares the two. Does not know spaces, and does not
write.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nas.run.evaluation import Evaluation
from nas.run.storage.address import (
    LOCK_TIMEOUT,
    SharedStudy,
    connectable,
    engine_arguments,
    file_of,
)
from nas.run.storage.names import BUDGET_KEY, STUDY_NAME
from search_spaces.architecture import Architecture, Value, plain_value

ENDED_STATES = ("COMPLETE", "PRUNED", "FAIL")

SEPARATOR = "\x1f"
"""Separates names; a control character that no name contains."""


Query = Callable[[str, Sequence[Any]], Sequence[Any]]
"""Returns the rows of a query, in which each `?` stands for one of the parameters."""

JOINED = {
    "sqlite": f"group_concat(param_name, '{SEPARATOR}'), "
    "group_concat(CAST(param_value AS INTEGER))",
    "postgresql": f"string_agg(param_name, '{SEPARATOR}' ORDER BY param_id), "
    "string_agg(CAST(CAST(param_value AS BIGINT) AS TEXT), ',' ORDER BY param_id)",
}
"""All names of a trial's choices and all codes of their options, in one order, by database."""


class NotReadable(Exception):
    """The study has another format than this module reads; Optuna may still read it."""


def read_study(storage: Path | SharedStudy) -> list[Evaluation]:
    """Read all recorded evaluations of a study, oldest first.

    Raises:
        NotReadable: for one that this module cannot read.
    """
    if isinstance(storage, Path):
        return read_file(storage, STUDY_NAME)
    file = file_of(storage.address)
    return read_database(storage) if file is None else read_file(file, storage.name)


def read_database(study: SharedStudy) -> list[Evaluation]:
    """Read all recorded evaluations of a study on a server, oldest first.

    Raises:
        NotReadable: for a database whose queries this module does not know, one that does not
            answer, or one with other tables.
    """
    from sqlalchemy import NullPool, create_engine

    url = connectable(study.address)
    joined = JOINED.get(url.get_backend_name())
    if joined is None:
        raise NotReadable(url.get_backend_name())
    try:
        # Without a pool, which would keep the connection after it is closed here.
        engine = create_engine(url, poolclass=NullPool, **engine_arguments(url))
        with closing(engine.raw_connection()) as connection:
            cursor = connection.cursor()

            def query(text: str, parameters: Sequence[Any]) -> Sequence[Any]:
                cursor.execute(text.replace("?", "%s"), tuple(parameters))
                return cursor.fetchall()

            return _evaluations(query, study.name, joined)
    except Exception as error:  # each driver has errors of its own
        raise NotReadable(f"{type(error).__name__}: {error}") from error


def read_file(path: Path, study_name: str) -> list[Evaluation]:
    """Read all recorded evaluations, oldest first.

    Raises:
        NotReadable: for a file that is locked, damaged, or has other tables.
    """
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=LOCK_TIMEOUT)) as connection:

            def query(text: str, parameters: Sequence[Any]) -> Sequence[Any]:
                return connection.execute(text, parameters).fetchall()

            return _evaluations(query, study_name, JOINED["sqlite"])
    except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
        raise NotReadable(f"{type(error).__name__}: {error}") from error


def _evaluations(query: Query, study_name: str, joined: str) -> list[Evaluation]:
    found = query("SELECT study_id FROM studies WHERE study_name = ?", [study_name])
    if not found:
        raise LookupError(f"no study '{study_name}'")
    trials = query(
        "SELECT trial_id, datetime_complete FROM trials WHERE study_id = ? AND state IN (?, ?, ?) "
        "ORDER BY number",
        [found[0][0], *ENDED_STATES],
    )
    attributes: dict[int, dict[str, Any]] = {trial: {} for trial, _ in trials}
    # A file that several runs share has other trials before, between and after.
    ids = min(attributes, default=0), max(attributes, default=0)
    rows = query(
        "SELECT trial_id, key, value_json FROM trial_user_attributes "
        "WHERE trial_id BETWEEN ? AND ?",
        ids,
    )
    # Parsing one text for all rows takes half the time.
    values = json.loads("[" + ",".join(text for *_, text in rows) + "]")
    for (trial, key, _), value in zip(rows, values, strict=True):
        if trial in attributes:
            attributes[trial][key] = value
    violations = _violations(query, ids)
    items = _items(query, joined, attributes, ids)
    return [
        Evaluation(
            Architecture(tuple(items[trial])),
            stored["metrics"],
            stored["seconds"],
            stored.get("error"),
            stored["sampler"],
            violations.get(trial, 0.0),
            None if ended is None else _time(ended).timestamp(),
            stored.get("found_in"),
        )
        for trial, ended in trials
        if "arch" in (stored := attributes[trial])
    ]


def _time(stored: datetime | str) -> datetime:
    return stored if isinstance(stored, datetime) else datetime.fromisoformat(stored)


def _violations(query: Query, ids: tuple[int, int]) -> dict[int, float]:
    rows = query(
        "SELECT trial_id, value_json FROM trial_system_attributes "
        "WHERE trial_id BETWEEN ? AND ? AND key = ?",
        [*ids, BUDGET_KEY],
    )
    return {trial: float(json.loads(text)) for trial, text in rows}


def _items(
    query: Query, joined: str, wanted: Iterable[int], ids: tuple[int, int]
) -> dict[int, list[tuple[str, Value]]]:
    """Names and values of each trial's choices, in the order of writing."""
    items: dict[int, list[tuple[str, Value]]] = {trial: [] for trial in wanted}
    options: dict[str, list[tuple[str, Value]]] = {}
    layouts: dict[str, tuple[list[list[tuple[str, Value]]], list[int]]] = {}
    # One row per trial: one row per choice would take most of this function's time.
    rows = query(
        f"SELECT trial_id, {joined} FROM trial_params "
        "WHERE trial_id BETWEEN ? AND ? GROUP BY trial_id",
        ids,
    )
    for trial, names, codes in rows:
        if trial not in items:
            continue
        known = layouts.get(names)
        if known is None:
            known = layouts[names] = _layout(query, trial, names.split(SEPARATOR), options)
        tables, order = known
        values = codes.split(",")
        items[trial] = [tables[at][int(values[at])] for at in order]
    return items


def _layout(
    query: Query,
    trial: int,
    names: list[str],
    options: dict[str, list[tuple[str, Value]]],
) -> tuple[list[list[tuple[str, Value]]], list[int]]:
    """The options of each of a trial's choices, and the order in which they were written.

    `group_concat` joins names in an arbitrary order. A choice has the same options in all trials of
    a study, and equal sets of choices have the same order.
    """
    rows = query(
        "SELECT param_name, distribution_json FROM trial_params WHERE trial_id = ? "
        "ORDER BY param_id",
        [trial],
    )
    for name, text in rows:
        if name not in options:
            values = json.loads(text)["attributes"]["choices"]
            options[name] = [(name, plain_value(value)) for value in values]
    return [options[name] for name in names], [names.index(name) for name, _ in rows]
