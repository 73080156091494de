"""Trains a supernet's weights and the probabilities of its options in alternation.

Weights are trained by the sandwich rule; the logits of the options are trained on other images (Liu
et al., "DARTS", 2019, section 2.3, first order), through the relaxed supernet and the expected
cost. Options of sampled choices are also compared with a second sample on the same images (Kool et
al., "Buy 4 REINFORCE samples, get a baseline for free!", 2019), because the factor on a block's
output has no effect where a normalisation follows.

Knows one step, and the state between steps. Does not know the loop (`training/loop.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.costs.budget import Budget
from evaluators.costs.distribution import draw_rows
from evaluators.costs.tables import CostTables
from evaluators.data.augmentation import Augmentation, augment, prepare, resize
from evaluators.data.batches import training_batch
from evaluators.data.images import ImageData, Split
from evaluators.metrics import Metric
from nas.supernet.lagrangian import DualPenalty, FixedPenalty
from nas.supernet.relaxed import RelaxedSupernet
from nas.supernet.sandwich import Draw, sandwich
from nas.supernet.shared_weights import Supernet
from nas.training.loop import Recipe
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.space import Row


@dataclass(frozen=True)
class Relaxation:
    """Settings of the training of the probabilities.

    Attributes:
        estimator: `softmax` uses the probabilities as masks; `gumbel` samples masks close to one
            option (Jang et al., "Gumbel-Softmax", 2017), so that weights are trained as they will
            be used.
        penalty: fixed λ; None: one dual variable for each bound of the budget.
        metric: metric that λ penalises: `macs`, `params` or a priced metric.
        ramp: share of the steps over which a fixed λ rises from 0.
        temperatures: at the first and the last step of the logits, geometric between. Lower values
            decide earlier, sometimes for options that only an untrained supernet prefers.
        learning_rate: of the logits (Adam).
        warmup: share of the steps that train weights only.

    Raises:
        UserError: for a value out of range.
    """

    estimator: Literal["softmax", "gumbel"] = "softmax"
    penalty: float | None = None
    metric: str = "macs"
    ramp: float = 0.0
    temperatures: tuple[float, float] = (1.0, 0.5)
    learning_rate: float = 0.05
    warmup: float = 0.4

    def __post_init__(self) -> None:
        if self.estimator not in ("softmax", "gumbel"):
            raise UserError(f"estimator '{self.estimator}': expected softmax or gumbel")
        if self.penalty is not None and not 0 <= self.penalty < np.inf:
            raise UserError(f"penalty {self.penalty}: expected 0 or more")
        if min(self.temperatures) <= 0:
            raise UserError(f"temperatures {self.temperatures}: expected numbers above 0")
        if not 0 <= self.warmup < 1:
            raise UserError(f"warmup {self.warmup}: expected a share from 0 to below 1")
        if self.learning_rate <= 0:
            raise UserError(f"learning rate {self.learning_rate}: expected a number above 0")


@dataclass(frozen=True)
class TrajectoryPoint:
    """The state of the relaxation before one step of the logits.

    Attributes:
        step: number of the step.
        loss: task loss of the step.
        expected: expected cost by metric.
        multipliers: λ by metric (`min METRIC` for a floor).
        temperature: of the step.
        entropy: mean entropy over choices: 1 if all options are equally probable, 0 if every choice
            is decided.
    """

    step: int
    loss: float
    expected: dict[str, float]
    multipliers: dict[str, float]
    temperature: float
    entropy: float

    def __str__(self) -> str:
        expected = ", ".join(
            f"E[{Metric.of(metric).axis}] {Metric.of(metric).format(cost)}"
            for metric, cost in self.expected.items()
        )
        prices = ", ".join(f"λ {value:.3g}" for value in self.multipliers.values())
        return ", ".join(part for part in (expected, prices) if part)


class Alternation:
    """The `backward` and companion of `nas.training.loop.fit` that train weights and logits."""

    def __init__(
        self,
        supernet: Supernet,
        tables: CostTables,
        budget: Budget,
        data: ImageData,
        images: Split,
        recipe: Recipe,
        options: Relaxation,
        *,
        seed: int,
        steps: int,
        augmentation: Augmentation,
        draw: Draw,
        trajectory: Path | None = None,
        on_point: Callable[[TrajectoryPoint], None] | None = None,
    ) -> None:
        """Prepare both trainings.

        Args:
            supernet: the weights that are trained.
            tables: costs of the space.
            budget: bounds on the expected costs.
            data: normalisation and size of the images.
            images: the half of the training images for the logits.
            recipe: of the weights.
            options: of the probabilities.
            seed: of all random draws.
            steps: number of steps of the whole training.
            augmentation: of the images for the logits.
            draw: half of the random subnets of a step's sandwich; the others are sampled from the
                probabilities.
            trajectory: file that receives one line of JSON for each step of the logits.
            on_point: called with the content of that line.
        """
        space = tables.space
        self.space = space
        self.identity = {"relaxation": json.loads(json.dumps(asdict(options)))}
        self.identity["bounds"] = [dict(budget.high), dict(budget.low)]
        self._supernet = supernet
        self._relaxed = RelaxedSupernet(supernet)
        self._data, self._images, self._augmentation = data, images, augmentation
        self._batch_size, self._options = recipe.batch_size, options
        self._seed, self._steps = seed, steps
        self._first = round(options.warmup * steps)
        self._trajectory, self._on_point = trajectory, on_point
        self.logits = [torch.zeros(int(n), requires_grad=True) for n in space.option_counts]
        self._optimizer = torch.optim.Adam(
            self.logits, lr=options.learning_rate, betas=(0.5, 0.99), weight_decay=0.0
        )
        self._penalty: FixedPenalty | DualPenalty = (
            DualPenalty(tables, budget, options.metric, [p.detach() for p in self.probabilities()])
            if options.penalty is None
            else FixedPenalty(tables, budget, options.metric, options.penalty, options.ramp)
        )
        self._lines: list[str] = []
        self.step_weights = sandwich(supernet, recipe, seed=seed, draw=self._mixed(draw))

    def __call__(self, images: Tensor, targets: Tensor, step: int) -> float:
        """Take a step of the logits after the warm-up; compute the gradients of the weights."""
        if step == 0 and self._trajectory is not None:
            self._trajectory.unlink(missing_ok=True)
        if step >= self._first:
            self.step_logits(step, images.device)
        return self.step_weights(images, targets, step)

    def probabilities(self, step: int | None = None) -> list[Tensor]:
        """Probabilities of each choice's options, `(options,)` each, at a step's temperature.

        By default at the temperature of the last step.
        """
        if self._options.estimator == "gumbel":
            return [z.softmax(0) for z in self.logits]
        temperature = self.temperature(self._steps if step is None else step)
        return [(z / temperature).softmax(0) for z in self.logits]

    def temperature(self, step: int) -> float:
        """The temperature of a step."""
        first, last = self._options.temperatures
        progress = (step - self._first) / max(1, self._steps - self._first)
        return float(first * (last / first) ** min(1.0, max(0.0, progress)))

    def _mixed(self, draw: Draw) -> Draw:
        """Sample half of the subnets from the probabilities: probable ones are trained more."""

        def mixed(rng: np.random.Generator, n: int) -> Sequence[Architecture]:
            probable = draw_rows(self.space, _arrays(self.probabilities()), n // 2, rng)
            return [*draw(rng, n - n // 2), *self.space.decode(probable)]

        return mixed

    def step_logits(self, step: int, device: torch.device) -> None:
        """Take one step of the logits, on a batch of their images."""
        rng = np.random.default_rng((self._seed, step, 1))
        indices = training_batch(len(self._images), self._batch_size, self._seed + 1, step)
        generator = torch.Generator().manual_seed((self._seed + 1) * 1_000_003 + step)
        chosen = augment(self._images.images[indices], self._augmentation, generator)
        inputs = prepare(chosen.to(device), self._data.normalisation, self._data.image_size)
        labels = self._images.labels[indices].to(device)
        probabilities = self.probabilities(step)
        masks, sample = self._relax(probabilities, step, rng)
        loss = F.cross_entropy(self._logits(inputs, masks, sample), labels)
        total = loss.cpu()
        if self._relaxed.sampled:
            total = total + self._second_sample(
                loss.item(), inputs, labels, masks, sample, probabilities, rng
            )
        costs = self._penalty.expected(probabilities)
        progress = (step - self._first + 1) / (self._steps - self._first)
        total = total + self._penalty.penalty(costs, progress)
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        point = TrajectoryPoint(
            step,
            loss.item(),
            {metric: float(cost.detach()) for metric, cost in costs.items()},
            dict(self._penalty.multipliers),
            self.temperature(step),
            entropy(probabilities),
        )
        self._optimizer.step()
        self._penalty.update(costs, progress, self._steps - self._first)
        self._record(point)

    def _relax(
        self, probabilities: Sequence[Tensor], step: int, rng: np.random.Generator
    ) -> tuple[list[Tensor], Row]:
        """The masks of a pass, `(options,)` each, and the sampled options, `(choices,)`."""
        if self._options.estimator == "softmax":
            return list(probabilities), self._path(probabilities, rng)
        masks = []
        for z in self.logits:
            noise = torch.from_numpy(rng.gumbel(size=len(z)).astype(np.float32))
            masks.append(((z + noise) / self.temperature(step)).softmax(0))
        return masks, np.array([int(mask.argmax()) for mask in masks], dtype=np.uint8)

    def _path(self, probabilities: Sequence[Tensor], rng: np.random.Generator) -> Row:
        return np.asarray(draw_rows(self.space, _arrays(probabilities), 1, rng)[0])

    def _logits(self, inputs: Tensor, masks: Sequence[Tensor], sample: Row) -> Tensor:
        size = self._relaxed.input_size(sample)
        masks = [mask.to(inputs.device) for mask in masks]
        return self._relaxed.forward(resize(inputs, size), masks, sample, frozen=True)

    def _second_sample(
        self,
        loss: float,
        inputs: Tensor,
        labels: Tensor,
        masks: Sequence[Tensor],
        sample: Row,
        probabilities: Sequence[Tensor],
        rng: np.random.Generator,
    ) -> Tensor:
        """A term with the gradient of REINFORCE on two samples, each the other's baseline."""
        sampled = list(self._relaxed.sampled)
        other = self._path(probabilities, rng)
        if (other[sampled] == sample[sampled]).all():
            return torch.zeros(())
        with torch.no_grad():
            other_loss = F.cross_entropy(self._logits(inputs, masks, other), labels).item()
        logs = [
            probabilities[c][int(sample[c])].log() - probabilities[c][int(other[c])].log()
            for c in sampled
        ]
        return 0.5 * (loss - other_loss) * torch.stack(logs).sum()

    def _record(self, point: TrajectoryPoint) -> None:
        self._lines.append(json.dumps(asdict(point)))
        if self._trajectory is not None:
            with self._trajectory.open("a", encoding="utf-8") as file:
                file.write(self._lines[-1] + "\n")
        if self._on_point is not None:
            self._on_point(point)

    def state_dict(self) -> dict[str, Any]:
        """Return the logits, their optimiser, λ and the trajectory so far."""
        return {
            "logits": [z.detach() for z in self.logits],
            "optimizer": self._optimizer.state_dict(),
            "multipliers": dict(self._penalty.multipliers),
            "trajectory": list(self._lines),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state; later lines of the trajectory file are removed."""
        for z, saved in zip(self.logits, state["logits"], strict=True):
            z.data.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])
        self._penalty.multipliers = dict(state["multipliers"])
        self._lines = list(state["trajectory"])
        if self._trajectory is not None:
            write_text(self._trajectory, "".join(line + "\n" for line in self._lines))


def entropy(probabilities: Sequence[Tensor]) -> float:
    """Mean entropy over choices, each divided by its maximum; from 0 to 1."""
    shares = [
        float(-(p * p.clamp_min(1e-12).log()).sum() / np.log(len(p)))
        for p in (p.detach() for p in probabilities)
        if len(p) > 1
    ]
    return float(np.mean(shares)) if shares else 0.0


def _arrays(probabilities: Sequence[Tensor]) -> list[npt.NDArray[np.float64]]:
    return [p.detach().double().numpy() for p in probabilities]
