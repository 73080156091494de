import json
from pathlib import Path

import pytest

from nas.cli import main
from nas.run.specification import make
from nas.studies.space_comparison import (
    TRAININGS_FILE,
    Length,
    compare_spaces,
    random_networks,
)
from nas.task.task import Task
from search_spaces.errors import UserError


def task(space: str = "cnn", **settings: object) -> Task:
    budget = {"high": {"macs": 300_000.0}, "low": {"macs": 240_000.0}}
    return Task.of(
        make({"space": space, "data": "digits", "evaluator": "train"} | budget | settings)
    )


def test_networks_are_within_the_budget_different_and_begin_alike() -> None:
    few, many = random_networks(task(), 3), random_networks(task(), 6)
    assert len({arch.id for arch in many}) == 6
    costs = [task().tables.cost(arch)["macs"] for arch in many]
    assert all(240_000 <= macs <= 300_000 for macs in costs)
    assert len(few) == 3


def test_more_networks_than_a_budget_admits_are_refused() -> None:
    smallest = task().tables.cost(task().space.smallest)["macs"]
    narrow = task(high={"macs": smallest}, low={"macs": smallest})
    with pytest.raises(UserError, match=r"about \d network\(s\) .*expected --networks"):
        random_networks(narrow, 5)


def test_a_comparison_trains_equally_long_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [task("cnn"), task("mobilenet")]
    seen: list[int] = []
    rows = compare_spaces(
        tasks, Length(epochs=0.2), tmp_path, count=2, on_trained=lambda n, of, score: seen.append(n)
    )
    assert seen == [1, 2, 3, 4]
    assert [row.space for row in rows] == ["cnn-tiny"] * 2 + ["mobilenet-tiny"] * 2
    assert len({row.epochs for row in rows}) == 1
    assert all(0 < row.error < 1 for row in rows)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("nas.studies.space_comparison.train", fail)
    again = compare_spaces(tasks, Length(epochs=0.2), tmp_path, count=2)
    assert again == rows
    with pytest.raises(UserError, match="trained again"):
        compare_spaces(tasks, Length(epochs=0.3), tmp_path, count=2)


def test_a_time_is_the_length_of_each_training(tmp_path: Path) -> None:
    (row, *_) = compare_spaces([task()], Length(seconds=0.5), tmp_path, count=1)
    assert 0.5 <= row.seconds < 5
    assert row.epochs > 0


def test_the_command_prints_a_row_for_each_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["space", "compare", "cnn", "mobilenet", "--max-flops", "300k", "--networks", "2"]
    command += ["--epochs", "0.2", "--out", str(tmp_path), "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--json"])
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    assert [one["space"] for one in found] == ["cnn-tiny", "mobilenet-tiny"]
    assert all(len(one["errors"]) == 2 for one in found)
    lines = (tmp_path / TRAININGS_FILE).read_text().splitlines()
    assert len(lines) == 4
    with pytest.raises(SystemExit):
        main(command)
    text = capsys.readouterr().out
    assert "mobilenet-tiny" in text
    assert "with probability" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["cnn", "cnn"], "different names"),
        (["cnn", "--epochs", "1", "--time", "3s"], "expected one"),
        (["cnn", "--max-flops", "3k"], "no architecture of cnn-tiny"),
        (["gpt"], "needs --data"),
    ],
)
def test_wrong_input_is_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["space", "compare", *options])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
