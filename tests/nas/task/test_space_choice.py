import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables, Price
from nas.cli import main
from nas.run.specification import make
from nas.task.space_choice import ENOUGH, PIXELS, WIDTHS, SpaceChoice, space_for, suits
from nas.task.task import Task
from search_spaces.catalogue import load_space
from search_spaces.space import SearchSpace


def shape(image_size: int) -> dict[str, int]:
    return {"image_size": image_size, "channels": 3, "classes": 10}


def no_prices(_: SearchSpace) -> dict[str, Price]:
    return {}


def chosen(default: str, budget: Budget, image_size: int) -> SpaceChoice | None:
    usual = CostTables(load_space(default, **shape(image_size)))
    return space_for(usual, budget, shape(image_size), no_prices)


def photos(folder: Path, size: int, count: int = 40) -> Path:
    """Random images of two classes."""
    rng = np.random.default_rng(0)
    for index in range(count):
        file = folder / f"class{index % 2}" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(file)
    return folder


@pytest.mark.parametrize("image_size", [8, 64, 512])
@pytest.mark.parametrize("macs", [1e5, 2e7, 4e9])
def test_every_budget_has_a_space_with_thousands_of_networks(image_size: int, macs: float) -> None:
    budget = Budget({"macs": macs}, {})
    found = chosen("mobilenet", budget, image_size)
    space = load_space("mobilenet" if found is None else found.name, **shape(image_size))
    tables = CostTables(space)
    # The share is measured on other rows than those that the choice looked at.
    used = tables.score(space.sample(20_000, 1), ("macs",))["macs"] / macs
    assert ((used >= 0.5) & (used <= 1)).mean() * space.size >= ENOUGH
    assert max(space.choices[0].options) <= max(16, image_size)


@pytest.mark.parametrize(
    "bounds",
    [
        {"params": 1e5},
        {"memory": 2e5},
        {"macs": 1e7, "params": 1e5},
        {"macs": 1e7, "params": 3e4, "memory": 1e5},
    ],
)
def test_other_bounds_have_a_space_too(bounds: dict[str, float]) -> None:
    budget = Budget(bounds, {})
    found = chosen("mobilenet-imagenet", budget, 128)
    assert found is not None
    tables = CostTables(load_space(found.name, **shape(128)))
    assert suits(tables, budget)
    rows = BudgetedSpace(tables, budget).sample(200, np.random.default_rng(0))
    assert (budget.used(tables.score(rows, budget.metrics)) > 0.5).any()


def test_the_usual_space_is_kept_where_it_suits() -> None:
    assert chosen("mobilenet", Budget({"macs": 3e5}, {}), 8) is None
    assert chosen("mobilenet", Budget({"macs": 3e6}, {}), 32) is None
    assert chosen("cnn", Budget({"macs": 3e6}, {}), 32) is None


def test_no_space_suits_an_impossible_budget() -> None:
    assert chosen("mobilenet", Budget({"macs": 100.0}, {}), 32) is None


def test_sizes_are_in_order() -> None:
    assert list(PIXELS) == sorted(set(PIXELS))
    assert list(WIDTHS) == sorted(set(WIDTHS))


def test_a_task_takes_the_fitting_space_and_says_why(tmp_path: Path) -> None:
    data = str(photos(tmp_path, 64))
    task = Task.of(make({"data": data, "high": {"macs": 2e7}, "batch_size": 8}))
    assert task.space.name == task.specification.space
    assert task.space.name.startswith("cnn-")
    assert "mobilenet-imagenet (22.3M to" in task.space_reason
    assert suits(task.tables, task.budgeted.budget)
    again = Task.of(task.specification)
    assert (again.space.name, again.space_reason) == (task.space.name, "")


def test_a_named_space_is_kept(tmp_path: Path) -> None:
    data = str(photos(tmp_path, 64))
    named = make({"data": data, "high": {"macs": 2e7}, "space": "mobilenet", "batch_size": 8})
    assert Task.of(named).specification.space == "mobilenet"


def test_the_dry_run_says_what_was_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(photos(tmp_path, 64))
    command = ["search", "--data", data, "--max-flops", "20M", "--batch-size", "8", "--dry-run"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert not ended.value.code
    text = " ".join(capsys.readouterr().out.split())
    assert "space cnn-64-" in text
    assert "since mobilenet-imagenet" in text


def test_a_named_space_without_such_networks_names_one_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(photos(tmp_path, 64))
    command = ["search", "--data", data, "--max-flops", "20M", "--space", "mobilenet"]
    command += ["--batch-size", "8"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--dry-run"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no architecture of mobilenet-imagenet" in error
    assert "--space cnn-64-" in error


def test_a_text_alone_means_a_language_model(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("to be or not to be " * 2_000, encoding="utf-8")
    task = Task.of(make({"data": str(file)}))
    assert task.specification.space == "gpt-conv"
    assert task.specification.objectives == ("loss", "macs")


def test_the_chosen_space_is_in_the_run(tmp_path: Path) -> None:
    data = str(photos(tmp_path / "photos", 64))
    out = tmp_path / "run"
    command = ["search", "--data", data, "--max-flops", "20M", "--batch-size", "8", "--quiet"]
    command += [
        "--out",
        str(out),
        "--trials",
        "2",
        "--evaluator",
        "synflow",
        "--train-epochs",
        "0.1",
    ]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert not ended.value.code
    specification = json.loads((out / "specification.json").read_text())
    assert specification["space"].startswith("cnn-64-")
    with pytest.raises(SystemExit) as ended:
        main([*command[:-4], "--trials", "3", "--evaluator", "synflow", "--resume"])
    assert not ended.value.code
