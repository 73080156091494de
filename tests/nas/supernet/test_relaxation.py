"""Training probabilities with the weights: budgets, exact resuming, separate images."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from evaluators.costs.budget import Budget
from evaluators.costs.nearest import most_probable_row
from evaluators.costs.tables import CostTables
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData, Split, subset
from nas.engine.preparation import relaxed_evaluator
from nas.supernet.alternation import Relaxation, TrajectoryPoint, entropy
from nas.supernet.lagrangian import DualPenalty, FixedPenalty
from nas.supernet.relaxation import relax, split_halves
from nas.supernet.sandwich import uniform_draw
from nas.supernet.shared_weights import Supernet
from nas.training.loop import recipe_for
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace

CEILING = 1_000_000


class Killed(Exception):
    """Stands for a killed process."""


@pytest.fixture(scope="module")
def data() -> ImageData:
    """A part of the digits' training images; all other parts are missing and must not be used."""
    digits = load_data("digits")
    empty = Split(digits.train.images[:0], digits.train.labels[:0])
    return ImageData(
        digits.name,
        subset(digits.train, 512, seed=0),
        empty,
        empty,
        digits.classes,
        digits.mean,
        digits.std,
        digits.augmentation,
    )


@cache
def tables_of(name: str) -> CostTables:
    return CostTables(load_space(name, image_size=8, channels=1, classes=10))


def run(
    data: ImageData,
    tables: CostTables,
    options: Relaxation | None = None,
    *,
    budget: Budget | None = None,
    epochs: float = 1.0,
    seed: int = 3,
    checkpoint: Path | None = None,
    trajectory: Path | None = None,
    stop_at: int | None = None,
) -> tuple[Supernet, list[npt.NDArray[np.float64]], list[TrajectoryPoint]]:
    torch.manual_seed(0)
    supernet = Supernet(tables.space)
    budget = budget or Budget({"macs": CEILING}, {})
    points: list[TrajectoryPoint] = []

    def on_step(done: int, steps: int, loss: float) -> None:
        if done == stop_at:
            raise Killed

    probabilities = relax(
        supernet,
        tables,
        budget,
        data,
        recipe_for(tables.space, epochs),
        options or Relaxation(warmup=0.25),
        seed=seed,
        draw=uniform_draw(supernet),
        checkpoint=checkpoint,
        trajectory=trajectory,
        on_step=on_step,
        on_point=points.append,
    )
    return supernet, probabilities, points


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint after each step."""
    monkeypatch.setattr("nas.supernet.relaxation.CHECKPOINT_SECONDS", 0.0)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize(
    ("name", "estimator"), [("vit-tiny", "softmax"), ("mobilenet-tiny", "gumbel")]
)
def test_a_resumed_relaxation_ends_as_an_uninterrupted_one(
    data: ImageData, tmp_path: Path, name: str, estimator: str
) -> None:
    options = Relaxation(estimator=estimator, warmup=0.25)  # type: ignore[arg-type]
    tables = tables_of(name)
    whole_file, file = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    whole, expected, points = run(data, tables, options, epochs=0.6, trajectory=whole_file)
    resume = partial(
        run, data, tables, options, epochs=0.6, checkpoint=tmp_path / "c.pt", trajectory=file
    )
    with pytest.raises(Killed):
        resume(stop_at=3)
    with file.open("a") as lines:
        lines.write("a line of a step after the checkpoint\n")
    resumed, found, _ = resume()
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    for one, other in zip(expected, found, strict=True):
        assert (one == other).all()
    assert file.read_text() == whole_file.read_text()
    lines_ = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines_] == [point.step for point in points] == [1, 2, 3, 4]
    assert lines_[-1]["multipliers"].keys() == {"macs"}
    assert lines_[0]["expected"]["macs"] == pytest.approx(points[0].expected["macs"])


def test_a_checkpoint_of_other_settings_is_refused(data: ImageData, tmp_path: Path) -> None:
    tables = tables_of("vit-tiny")
    checkpoint = tmp_path / "relaxation.pt"
    options = Relaxation(warmup=0.75)
    run(data, tables, options, checkpoint=checkpoint)
    with pytest.raises(UserError, match=r"was made with relaxation \{.*0.75.*0.5") as raised:
        run(data, tables, Relaxation(warmup=0.5), checkpoint=checkpoint)
    assert "\n" not in str(raised.value)
    other = Budget({"macs": CEILING + 1}, {})
    with pytest.raises(UserError, match="was made with bounds"):
        run(data, tables, options, budget=other, checkpoint=checkpoint)
    again = run(data, tables, options, checkpoint=checkpoint)[1]
    assert (again[0] == run(data, tables, options)[1][0]).all()


def test_the_halves_are_disjoint_and_complete(data: ImageData) -> None:
    numbered = Split(torch.arange(101)[:, None, None, None], torch.arange(101))
    one, other = split_halves(numbered)
    assert sorted([*one.labels.tolist(), *other.labels.tolist()]) == list(range(101))
    assert (one.images.flatten() == one.labels).all()
    assert split_halves(numbered)[0].labels.equal(one.labels)


def test_the_number_of_steps_is_that_of_the_whole_training_part(data: ImageData) -> None:
    points = run(data, tables_of("vit-tiny"), Relaxation(warmup=0.0), epochs=1.5)[2]
    assert len(points) == round(1.5 * (512 // 64))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "estimator"), [("mobilenet-tiny", "softmax"), ("vit-tiny", "gumbel")]
)
def test_the_expected_cost_ends_within_the_budget_and_decoding_just_below_it(
    data: ImageData, name: str, estimator: str
) -> None:
    tables = tables_of(name)
    costs = tables.score(tables.space.sample(2000, 0), ("macs",))["macs"]
    ceiling = float(np.quantile(costs, 0.2))
    options = Relaxation(estimator=estimator)  # type: ignore[arg-type]
    budget = Budget({"macs": ceiling}, {})
    _, probabilities, points = run(data, tables, options, budget=budget, epochs=24)
    assert points[0].expected["macs"] > 1.2 * ceiling
    # Below the ceiling the penalty has no gradient: how far below it ends is the task's to decide,
    # and differs with the number of threads.
    assert 0.6 * ceiling < points[-1].expected["macs"] < 1.1 * ceiling
    row = most_probable_row(tables, probabilities, budget.high, budget.low)
    assert row is not None
    assert 0.95 * ceiling <= tables.score(row[None])["macs"][0] <= ceiling


def gated() -> SearchSpace:
    """A path that is blocked or not, and a resolution that keeps or loses the image."""

    def trunk(size: int, path: str) -> tuple[Op, ...]:
        build = BlockBuilder(1, size, size)
        x = build.activation("relu", build.conv("conv", build.input, 8, 3, bias=True), "relu")
        if path == "blocked":
            build.zero("zero", x, x.shape)
        return build.ops

    def head(size: int) -> tuple[Op, ...]:
        build = BlockBuilder(8, size, size)
        x = build.batch_norm("norm", build.conv("conv", build.input, 16, 3))
        x = build.global_pool("pool", build.activation("relu", x, "relu"))
        build.linear("classifier", x, 10)
        return build.ops

    choices = (Choice("size", (1, 8)), Choice("path", ("blocked", "open")))
    blocks = (Block("trunk", ("size", "path"), trunk), Block("head", ("size",), head))
    return SearchSpace("gated", choices, blocks)


@pytest.mark.parametrize("estimator", ["softmax", "gumbel"])
def test_sampled_options_that_classify_better_become_more_probable(
    data: ImageData, estimator: str
) -> None:
    options = Relaxation(estimator=estimator, penalty=0.0)  # type: ignore[arg-type]
    _, (size, path), _ = run(data, CostTables(gated()), options, budget=Budget({}, {}), epochs=16)
    assert size[1] > 0.7
    assert path[1] > 0.7


def test_a_fixed_penalty_makes_cheap_options_probable(data: ImageData) -> None:
    tables = tables_of("vit-tiny")
    free, dear = (
        run(data, tables, Relaxation(penalty=price, warmup=0.0, learning_rate=0.2))[2]
        for price in (0.0, 10.0)
    )
    assert dear[-1].expected["macs"] < 0.8 * free[-1].expected["macs"]
    assert dear[-1].multipliers == {"macs": 10.0}


# Penalties


def uniform(tables: CostTables) -> list[torch.Tensor]:
    return [torch.full((len(c.options),), 1 / len(c.options)) for c in tables.space.choices]


def test_a_bound_that_is_met_has_no_gradient() -> None:
    tables = tables_of("vit-tiny")
    start = uniform(tables)
    largest = tables.cost(tables.space.largest)["macs"]
    dual = DualPenalty(tables, Budget({"macs": 2 * largest}, {"params": 1}), "macs", start)
    costs = dual.expected([p.requires_grad_() for p in start])
    price = dual.penalty(costs, 1.0)
    assert price.item() == 0.0
    price.backward()
    assert all(p.grad is None or not p.grad.any() for p in start)
    dual.update(costs, 1.0, 10)
    assert dual.multipliers == {"macs": 0.0, "min params": 0.0}


def test_dual_variables_rise_while_a_bound_is_exceeded_and_fall_after() -> None:
    tables = tables_of("vit-tiny")
    start = uniform(tables)
    mean = float(DualPenalty(tables, Budget({}, {}), "macs", start).expected(start)["macs"])
    budget = Budget({"macs": 0.7 * mean}, {"params": 10})
    dual = DualPenalty(tables, budget, "macs", start)
    over = {"macs": torch.tensor(mean), "params": torch.tensor(1e3)}
    under = {"macs": torch.tensor(0.6 * mean), "params": torch.tensor(1e3)}
    values = []
    for costs in (over, over, under, under, under):
        dual.update(costs, 1.0, 10)
        values.append(dual.multipliers["macs"])
    assert 0 < values[0] < values[1]
    assert values[1] > values[2] > values[4] >= 0
    assert dual.multipliers["min params"] == 0


def test_a_bound_tightens_from_the_cost_of_the_initial_probabilities() -> None:
    tables = tables_of("vit-tiny")
    start = uniform(tables)
    expected = DualPenalty(tables, Budget({}, {}), "macs", start).expected(start)
    dual = DualPenalty(tables, Budget({"macs": 0.5 * float(expected["macs"])}, {}), "macs", start)
    prices = [float(dual.penalty(expected, progress)) for progress in (0.0, 0.3, 0.6, 1.0)]
    assert prices[0] == pytest.approx(0.0, abs=1e-9)
    assert prices[0] < prices[1] < prices[2] == prices[3]


def test_a_fixed_penalty_is_the_logarithm_of_the_share_of_the_reference() -> None:
    tables = tables_of("vit-tiny")
    cost = {"macs": torch.tensor(300.0, dtype=torch.float64)}
    price = FixedPenalty(tables, Budget({"macs": 100}, {}), "macs", 0.5, ramp=0.0)
    assert float(price.penalty(cost, 0.1)) == pytest.approx(0.5 * np.log(3))
    rising = FixedPenalty(tables, Budget({"macs": 100}, {}), "macs", 0.5, ramp=0.5)
    assert float(rising.penalty(cost, 0.25)) == pytest.approx(0.25 * np.log(3))
    assert float(rising.penalty(cost, 1.0)) == pytest.approx(0.5 * np.log(3))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"estimator": "argmax"}, "estimator 'argmax': expected softmax or gumbel"),
        ({"penalty": -1.0}, "penalty -1.0: expected 0 or more"),
        ({"temperatures": (1.0, 0.0)}, "temperatures"),
        ({"warmup": 1.0}, "warmup 1.0: expected a share"),
        ({"learning_rate": 0.0}, "learning rate 0.0"),
    ],
)
def test_wrong_options_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Relaxation(**settings)  # type: ignore[arg-type]


def test_a_penalty_on_peak_memory_is_refused(data: ImageData) -> None:
    with pytest.raises(UserError, match="no expectation of memory"):
        run(data, tables_of("vit-tiny"), Relaxation(penalty=1.0, metric="memory"))


def test_entropy_is_a_share() -> None:
    assert entropy([torch.full((3,), 1 / 3), torch.full((2,), 0.5)]) == pytest.approx(1.0)
    assert entropy([torch.tensor([1.0, 0.0]), torch.tensor([1.0])]) == pytest.approx(0.0)


def test_a_run_resumes_its_relaxation(tmp_path: Path) -> None:
    from nas.progress import Quiet
    from nas.run import specification as spec
    from nas.run.folder import Run
    from nas.task.task import Task

    specification = spec.make(
        {
            "space": "vit-tiny",
            "data": "digits",
            "high": {"macs": CEILING},
            "supernet_epochs": 0.5,
            "calibration_images": 64,
        }
    )
    (tmp_path / "specification.json").write_text(spec.to_json(specification))
    task, folder = Task(specification), Run(tmp_path)
    evaluator, probabilities = relaxed_evaluator(task, folder, Quiet())
    assert [len(p) for p in probabilities] == task.space.option_counts.tolist()
    assert all(p.sum() == pytest.approx(1.0) for p in probabilities)
    accuracy = evaluator(task.space.smallest)
    assert evaluator(task.space.smallest) == accuracy
    assert (tmp_path / "relaxation.jsonl").exists()
    points: list[TrajectoryPoint] = []
    again, same = relaxed_evaluator(task, folder, Quiet(), on_point=points.append)
    assert points == []
    assert all((p == q).all() for p, q in zip(probabilities, same, strict=True))
    assert again(task.space.smallest) == accuracy
