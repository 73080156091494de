"""Several runs in one database, SQLite's and a real PostgreSQL: separate studies, found again."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.cli import main
from nas.engine.search import Outcome, search
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import objective
from nas.run.specification import make
from nas.run.storage import address
from nas.run.storage.address import PASSWORD, SharedStudy
from nas.run.study import Study, read_with_optuna
from nas.run.study_rows import read_study
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from users_code import SPACE

SCORE = """
from pathlib import Path

def score(arch):
    with Path(__file__).with_name("calls").open("a") as calls:
        print(arch["width"], arch["depth"], file=calls)
    if arch["width"] == 24 and arch["depth"] == 4:
        raise ValueError("too large")
    return {"accuracy": 0.5 + arch["width"] / 100, "greenscore": 7.0}
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'all.db'}"
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def settings(storage: str, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "own.py").write_text(SPACE + SCORE, encoding="utf-8")
    return {
        "space": f"{tmp_path / 'own.py'}:plain",
        "evaluator": f"{tmp_path / 'own.py'}:score",
        "strategy": "random",
        "trials": 9,
        "storage": storage,
    }


def calls(tmp_path: Path) -> int:
    """How often the evaluator was called so far."""
    return len((tmp_path / "calls").read_text().splitlines())


def searched(settings: dict[str, Any], folder: Path, **more: Any) -> Outcome:
    resume = more.pop("resume", False)
    return search(make({**settings, **more}), folder, resume=resume)


def test_runs_share_a_database_and_keep_their_studies_apart(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    outcomes: dict[int, Outcome] = {}

    def run(seed: int) -> None:
        outcomes[seed] = searched(settings, tmp_path / f"run{seed}", seed=seed)

    searches = [threading.Thread(target=run, args=(seed,)) for seed in range(3)]
    for one in searches:
        one.start()
    for one in searches:
        one.join()
    names = set()
    for seed, outcome in outcomes.items():
        run_ = Run(tmp_path / f"run{seed}")
        assert isinstance(run_.study, SharedStudy)
        names.add(run_.study.name)
        assert not run_.study_path.exists()
        assert len(run_.evaluations()) == 9
        assert run_.evaluations() == read_study(run_.study) == read_with_optuna(run_.study)
        assert [e.arch for e in run_.front()] == [e.arch for e in outcome.frontier]
    assert len(names) == 3


def test_a_stopped_run_resumes_from_the_database(settings: dict[str, Any], tmp_path: Path) -> None:
    searched(settings, tmp_path / "run", trials=5)
    before = Run(tmp_path / "run").evaluations()
    searched(settings, tmp_path / "run", trials=9, resume=True)
    after = Run(tmp_path / "run").evaluations()
    assert after[:5] == before
    assert len(after) == len({e.arch for e in after}) == 9
    with pytest.raises(UserError, match="was started with --storage"):
        searched({**settings, "storage": None}, tmp_path / "run", resume=True)


def test_a_run_that_was_killed_before_its_specification_was_written_begins_anew(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr("nas.engine.search.write_text", killed)
        with pytest.raises(SystemExit):
            searched(settings, tmp_path / "run")
    (tmp_path / "run").mkdir(exist_ok=True)  # what a process that does not end itself leaves
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / "data.json").touch()
    with pytest.raises(UserError, match="no run to resume"):
        searched(settings, tmp_path / "run", resume=True)
    assert len(searched(settings, tmp_path / "run").run.evaluations()) == 9


class Database:
    """A PostgreSQL database that can be taken away from everybody."""

    def __init__(self, server: str, address_: str) -> None:
        self.server, self.name = server, address_.rsplit("/", 1)[1]

    def run(self, *commands: str) -> None:
        import psycopg

        with psycopg.connect(f"{self.server} dbname=postgres", autocommit=True) as connection:
            for command in commands:
                connection.execute(command)

    def go(self) -> None:
        self.run(
            f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname='{self.name}'",
        )

    def come_back(self) -> None:
        self.run(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")


@pytest.fixture
def database(postgres_server: str, postgres: str) -> Database:
    return Database(postgres_server, postgres)


def shared(postgres: str, notes: list[str]) -> tuple[Study, list[Evaluation]]:
    space = load_space("macro")
    objectives = [objective("accuracy"), objective("macs")]
    place = SharedStudy(str(address.public(postgres)), "one")
    archs = space.decode(np.unique(space.canonical(space.sample(20, 0)), axis=0)[:6])
    added = [Evaluation(arch, {"accuracy": n / 10, "macs": 1.0}) for n, arch in enumerate(archs)]
    return Study(place, space, objectives, note=notes.append), added


def test_a_database_that_goes_away_loses_nothing(
    database: Database, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.run.study.RETRY", 0.2)
    notes: list[str] = []
    study, added = shared(postgres, notes)
    with study:
        study.add(added[0])
        study.flush()
        database.go()
        for one in added[1:4]:  # the search goes on
            study.add(one)
            time.sleep(0.4)
        assert len(notes) == 1
        assert "evaluations wait for at most 10 minutes" in notes[0]
        threading.Timer(1.0, database.come_back).start()
        study.flush()  # waits
        for one in added[4:]:
            study.add(one)
    assert study.evaluations() == added
    assert [note for note in notes if "is written again; nothing is lost" in note] == notes[1:]


def test_a_database_that_does_not_come_back_ends_the_search(
    database: Database, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.run.study.OUTAGE", 0.3)
    monkeypatch.setattr("nas.run.study.RETRY", 0.2)
    study, added = shared(postgres, [])
    study.add(added[0])
    study.flush()
    database.go()
    study.add(added[1])
    with pytest.raises(UserError, match="cannot write to the study one in"):
        study.flush()
    database.come_back()


def test_whoever_interrupts_does_not_wait_for_a_database(database: Database, postgres: str) -> None:
    notes: list[str] = []
    study, added = shared(postgres, notes)

    def interrupted() -> None:
        with study:
            study.add(added[0])
            study.flush()
            database.go()
            study.add(added[1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    database.come_back()
    assert notes[-1] == "evaluations that could not be written: 1"
    assert study.evaluations() == added[:2]  # the server is there again


def test_a_run_whose_study_has_gone_cannot_be_resumed(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    searched(settings, tmp_path / "run", trials=2)
    path = tmp_path / "run" / "specification.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "study": "another"}))
    with pytest.raises(UserError, match="there is no study another in"):
        searched(settings, tmp_path / "run", resume=True)


def test_every_command_that_reads_a_run_reads_one_in_a_database(
    settings: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = str(tmp_path / "run")
    found = searched(settings, tmp_path / "run").run.evaluations()
    ids = [e.arch.id for e in found if e.error is None]
    password = address.connectable(str(make(settings).storage)).password
    # A later command is another process, which was not given the password.
    monkeypatch.setattr(address, "_given", {})
    if password is not None:
        with pytest.raises(UserError, match=f"set {PASSWORD}, or give --storage"):
            Run(Path(folder)).evaluations()
        monkeypatch.setenv(PASSWORD, password)
    for command in (
        ["frontier", folder, "--json"],
        ["show", folder, "best"],
        ["diff", folder, ids[0], ids[1]],
        ["report", folder],
        ["runs", str(tmp_path), "--json"],
    ):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert not end.value.code, command
    assert "9" in capsys.readouterr().out
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any(path.suffix == ".html" for path in written)
    if password is not None:
        assert not [p for p in written if password.encode() in p.read_bytes()]


def test_finished_evaluations_of_an_equal_evaluator_are_found_again(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    first = searched(settings, tmp_path / "first", trials=12)
    before = calls(tmp_path)
    assert before == 12
    failed = sum(e.error is not None for e in first.run.evaluations())
    second = searched(settings, tmp_path / "second", trials=16, reuse=True)
    ended = second.run.evaluations()
    assert len(ended) == 16
    found = [e for e in ended if e.found_in is not None]
    assert second.summary.reused == len(found) == 12 - failed
    assert json.loads((tmp_path / "second/summary.json").read_text())["reused"] == len(found)
    # Those that failed are evaluated again.
    assert calls(tmp_path) - before == 16 - len(found)
    known = {e.arch: e for e in first.run.evaluations()}
    for one in found:
        assert one.metrics == known[one.arch].metrics
        assert one.found_in == first.run.specification.study


def test_what_the_evaluator_depends_on_decides(settings: dict[str, Any], tmp_path: Path) -> None:
    searched(settings, tmp_path / "first", trials=8)

    def reused(name: str, **more: Any) -> int:
        return searched({**settings, **more}, tmp_path / name, reuse=True).summary.reused

    assert reused("seed", seed=1) == 0
    shutil.copy(tmp_path / "own.py", tmp_path / "copy.py")
    copy = str(tmp_path / "copy.py:score")
    assert reused("other name", evaluator=copy, trials=16) > 0
    (tmp_path / "copy.py").write_text(SPACE + SCORE.replace("0.5", "0.6"), encoding="utf-8")
    assert reused("other file", evaluator=copy) == 0
    with pytest.raises(UserError, match="needs --storage"):
        searched({**settings, "storage": None}, tmp_path / "none", reuse=True)
