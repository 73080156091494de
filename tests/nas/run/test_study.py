"""Reading a study while it is created: it is never damaged or read incompletely."""

from __future__ import annotations

import threading
from pathlib import Path

from nas.run.evaluation import Evaluation
from nas.run.folder import read_evaluations
from nas.run.objectives import objective
from nas.run.study import Study
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

OBJECTIVES = (objective("accuracy"), objective("macs"))


def test_reading_a_study_during_its_creation_breaks_nothing(tmp_path: Path) -> None:
    space = load_space("macro")
    arch = space.smallest
    paths = [tmp_path / f"{number}.db" for number in range(12)]
    complaints: set[str] = set()
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            for path in paths:
                try:
                    read_evaluations(path)
                except UserError as error:
                    complaints.add(str(error).replace(str(path), "PATH"))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for path in paths:
            study = Study(path, space, OBJECTIVES)
            study.add(Evaluation(arch, {"accuracy": 0.5, "macs": 1.0}))
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert complaints <= {"no study at PATH"}
    assert all(len(read_evaluations(path)) == 1 for path in paths)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
