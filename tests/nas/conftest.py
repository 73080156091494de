"""Small searches that end in seconds, made once and shared by the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluators.costs.tables import CostTables
from evaluators.data.files.text import load_text
from nas.engine.search import Outcome, search
from nas.exports.writing import export
from nas.run import footprint
from nas.run.specification import Specification, make
from pictures import write_pictures
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build

QUICK: dict[str, Any] = {
    "space": "mobilenet-tiny",
    "data": "digits",
    "high": {"macs": 200_000},
    "trials": 8,
    "supernet_epochs": 0.5,
    "train_epochs": 0.5,
    "calibration_images": 64,
}


@pytest.fixture(scope="session", autouse=True)
def no_energy_measurement() -> Iterator[None]:
    """Start no process that measures energy: importing codecarbon takes longer than most searches.

    The tests of `nas.run.footprint` start it themselves.
    """

    def start(*arguments: object) -> None:
        raise OSError("switched off in tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(footprint, "_start", start)
        yield


@pytest.fixture(scope="session")
def quick() -> Specification:
    """The specification of the small search."""
    return make(QUICK)


@pytest.fixture(scope="session")
def finished(quick: Specification, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The small search, ended. Tests only read it."""
    return search(quick, tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder that does not exist yet."""
    return tmp_path / "run"


@pytest.fixture
def copied(finished: Outcome, tmp_path: Path) -> Path:
    """The small search in a run folder of one's own."""
    return Path(shutil.copytree(finished.run.folder, tmp_path / "copied"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred pictures that no search has seen. Tests only read them."""
    folder = tmp_path_factory.mktemp("photos") / "new"
    write_pictures(folder, 40, seed=1)
    return folder


@pytest.fixture(scope="session")
def photographed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A search on pictures, whose winner reads smaller images than these. Tests only read it."""
    place = tmp_path_factory.mktemp("photographed")
    write_pictures(place / "pictures", 30, seed=0)
    specification = make(
        {
            "space": "mobilenet-tiny",
            "data": str(place / "pictures"),
            "image_size": 40,
            "evaluator": "naswot",
            "high": {"macs": 900_000},
            "trials": 8,
            "train_epochs": 10,
        }
    )
    return search(specification, place / "run")


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of an untrained language model of characters. Tests only read it."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_text("a few words, again and again. " * 400)
    space = load_space("gpt-char", vocabulary=20)
    data = load_text(str(folder / "text.txt")).for_space(space)
    network = build(space, space.smallest).eval()
    export(network, space.smallest, CostTables(space), data, folder / "export")
    return folder / "export"


OWN_EVALUATOR = '''
def score(arch):
    """Large is accurate; one stem fails, with words that a page must not take for its own."""
    if arch["stem_width"] == 8 and arch["stage0_depth"] == 2:
        raise ValueError("no </script><script>alert('<b>here</b>')</script> today")
    size = sum(value for value in arch.values() if not isinstance(value, (str, bool)))
    return {"accuracy": 1 - 30 / size, "slowness": size / 100}
'''


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A search scored by a function, with failures and a device. Tests only read it."""
    place = tmp_path_factory.mktemp("scored")
    (place / "own.py").write_text(OWN_EVALUATOR, encoding="utf-8")
    specification = make(
        {
            "space": "mobilenet-tiny",
            "evaluator": f"{place / 'own.py'}:score",
            "high": {"macs": 600_000, "slowness": 2.0},
            "devices": ["V100"],
            "trials": 40,
        }
    )
    return search(specification, place / "run <b>&amp;</b>")
