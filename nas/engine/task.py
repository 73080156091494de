"""What a specification means: its data, its space, its tables, its lengths of training.

Everything is made on first use and kept. Does not search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from evaluators.accuracy.exit_accuracy import AVERAGE
from evaluators.accuracy.exit_accuracy import METRICS as EXIT_METRICS
from evaluators.accuracy.published_table import PublishedTable, read_table
from evaluators.costs.budget import ENERGY, LATENCY, Budget, BudgetedSpace
from evaluators.costs.tables import METRICS, CostTables
from evaluators.data.augmentation import Augmentation
from evaluators.data.dataset import Data
from evaluators.data.image_files import load_data
from evaluators.data.images import ImageData
from evaluators.data.sentence_files import load_sentences
from evaluators.data.text_files import load_text
from evaluators.device_prices import Target, device_tables, targets_of
from evaluators.footprint.greenscore import GreenScore
from hardware_profiles.latencies import device_name
from nas.engine.evaluator_kinds import (
    DEFAULT_DATA,
    TABLE,
    Kind,
    UserFunction,
    kind_of,
    needs_images,
    user_function,
)
from nas.run.objectives import Objective, is_cost, objective
from nas.run.specification import Specification
from nas.training.loop import Recipe, recipe_for
from search_spaces.catalogue import Samples, load_space, samples_of
from search_spaces.errors import UserError, unknown
from search_spaces.ops import LayerNorm
from search_spaces.space import SearchSpace

SUPERNET_SAMPLES = 400_000
"""Samples that the supernet trains on by default: 10 epochs of CIFAR-10."""

GREENSCORE = "greenscore"

DEVICES = "devices"
"""Folder of a run that keeps what its devices were priced by."""

RACE_SHARE = 1 / 16
"""A finalist's training in the race, as a part of the winner's."""


@dataclass(frozen=True)
class Task:
    """What a specification means: its data, space and tables, ready to search."""

    specification: Specification
    folder: Path | None = None
    """Of a run, which keeps what is known of its devices."""
    references: Mapping[str, str] = field(default_factory=dict)
    """How the devices were asked for, by name: a table's or a file's path."""

    @classmethod
    def of(cls, specification: Specification, folder: Path | None = None) -> Task:
        """The task of a specification as a user wrote it, whose devices may be paths or aliases."""
        by_alias = kind_of(specification.evaluator) != "table"
        names = tuple(device_name(r, by_alias=by_alias) for r in specification.devices)
        references = dict(zip(names, specification.devices, strict=True))
        specification = specification.model_copy(update={"devices": names})
        return cls(_with_objectives(specification), folder, references)

    @cached_property
    def kind(self) -> Kind:
        """The kind of the evaluator."""
        return kind_of(self.specification.evaluator)

    @property
    def trains(self) -> bool:
        """Whether there are data to train a winner on: they were asked for, or are needed."""
        return needs_images(self.kind) or self.specification.data is not None

    @cached_property
    def samples(self) -> Samples:
        """What the space's networks take."""
        return samples_of(self.specification.space)

    @cached_property
    def _loaded(self) -> Data:
        return _load(self.specification, self.samples)

    @cached_property
    def data(self) -> Data:
        """The data as the space takes them, loaded once.

        Raises:
            UserError: for data that cannot be read or are not for this space, and for fewer
                training samples than a batch.
        """
        data = self._loaded.for_space(self.space)
        check_batch(data, self.specification.batch_size, len(data.batches("train")))
        return data

    @property
    def images(self) -> ImageData:
        """The data, for what is known of images only.

        Raises:
            UserError: if they are something else.
        """
        if not isinstance(self.data, ImageData):
            raise UserError(
                f"this is for spaces of images, and {self.space.name} takes {self.samples}"
            )
        return self.data

    @cached_property
    def calibration(self) -> Tensor:
        """Training samples that batch norms are measured on, as the data keep them."""
        specification = self.specification
        return self.data.calibration(specification.calibration_images, specification.seed)

    @cached_property
    def space(self) -> SearchSpace:
        """The space, fitted to the data where there are any."""
        name = self.specification.space
        if not self.trains:
            return load_space(name, image_size=self.specification.image_size)
        return load_space(name, **self._loaded.space_options)

    def recipe(self, epochs: float) -> Recipe:
        """How networks of the space train on the data."""
        specification = self.specification
        recipe = recipe_for(self.space, epochs, batch_size=specification.batch_size)
        rate = recipe.learning_rate / _normed(self.space)
        return replace(
            recipe,
            label_smoothing=self.data.label_smoothing,
            learning_rate=specification.learning_rate or rate,
            ema=specification.ema,
            precision=specification.precision or _precision(specification.device),
        )

    @cached_property
    def _published(self) -> PublishedTable | None:
        """The evaluator's published table with all of its columns, or None."""
        if self.kind != "table":
            return None
        return read_table(self.specification.evaluator.removeprefix(TABLE), self.space)

    @cached_property
    def table(self) -> PublishedTable | None:
        """The evaluator's published table with the columns that were asked for, or None.

        Raises:
            UserError: for an objective or a bound that the table does not have.
        """
        whole = self._published
        if whole is None:
            return None
        if "accuracy" in self._named and "accuracy" not in whole.columns:
            scores = [name for name in whole.columns if not is_cost(name)]
            raise UserError(
                f"{whole.path} has no column 'accuracy': name an objective, "
                f"--objective {' or --objective '.join(scores[:8])}"
            )
        return whole.only([n for n in self._named if n in whole.columns or not self._derived(n)])

    def _derived(self, metric: str) -> bool:
        """Whether the ops, the devices or the accuracy tell it, so that no table must have it."""
        of_devices = {
            prefix + name for name in self.specification.devices for prefix in (LATENCY, ENERGY)
        }
        return metric in METRICS or metric == GREENSCORE or metric in of_devices

    @cached_property
    def targets(self) -> list[Target]:
        """The devices, but for those whose latency a published table has.

        Raises:
            UserError: for one that nothing is known of.
        """
        published = () if self._published is None else self._published.columns
        wanted = [d for d in self.specification.devices if f"{LATENCY}{d}" not in published]
        folder = None if self.folder is None else self.folder / DEVICES
        try:
            return targets_of([self.references.get(d, d) for d in wanted], self.space, folder)
        except UserError:
            if self._published is not None:  # misspelt is most likely one of its columns
                self._published.only([f"{LATENCY}{name}" for name in wanted])
            raise

    @cached_property
    def green(self) -> GreenScore:
        """GreenScore relative to the largest network of the space, which scores its accuracy.

        Carbon is of one inference on the first device whose energy is known.
        """
        alpha, beta = self.specification.green_exponents
        energy, largest = self.green_energy, self.tables.cost(self.space.largest)
        return GreenScore(
            f"the largest network of {self.space.name}"
            + ("" if energy is None else f"; carbon in proportion to {energy}"),
            largest["macs"],
            None if energy is None else largest[energy],
            alpha,
            0.0 if energy is None else beta,
        )

    @cached_property
    def green_energy(self) -> str | None:
        """The metric that GreenScore's carbon follows from: energy on the first such device."""
        return next((m for m in self.tables.metrics if m.startswith(ENERGY)), None)

    def derived(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """What follows from the costs and the accuracy of a network: GreenScore."""
        accuracy = metrics.get("accuracy")
        if accuracy is None or not accuracy >= 0 or not metrics["macs"] > 0:
            return {}
        co2 = None if self.green_energy is None else metrics[self.green_energy]
        return {GREENSCORE: float(self.green.score(accuracy, metrics["macs"], co2))}

    @cached_property
    def function(self) -> UserFunction | None:
        """The evaluator's own function, or None.

        Raises:
            UserError: when there is no such function.
        """
        return user_function(self.specification.evaluator) if self.kind == "function" else None

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What the search optimises."""
        return tuple(objective(name) for name in self.specification.objectives)

    @property
    def _named(self) -> list[str]:
        """Every metric that is an objective or has a bound."""
        specification = self.specification
        names = [o.metric for o in self.objectives]
        return list(dict.fromkeys([*names, *specification.high, *specification.low]))

    @cached_property
    def tables(self) -> CostTables:
        """What everything in the space costs; what a published table measured is a cost too."""
        table = self.table
        columns = (
            {}
            if table is None
            else {name: table.column(name) for name in table.columns if is_cost(name)}
        )
        return device_tables(self.space, self.targets, columns)

    @cached_property
    def budgeted(self) -> BudgetedSpace:
        """The part of the space within all bounds on what is known beforehand.

        Raises:
            UserError: for a bound on a metric that nothing gives.
        """
        return BudgetedSpace(self.tables, self._bounds(known=True))

    @cached_property
    def measured(self) -> Budget:
        """The bounds on what only an evaluation tells."""
        return self._bounds(known=False)

    def _bounds(self, *, known: bool) -> Budget:
        told = self.tables.metrics
        if self.kind != "function":
            # These evaluators' metrics are known; a user's function may give any.
            given = self.table.columns if self.table is not None else self.metrics
            for name in (*self.specification.high, *self.specification.low):
                if name not in (*told, *given):
                    raise unknown("metric", name, [*told, *given])
        high, low = (
            {name: bound for name, bound in bounds.items() if (name in told) == known}
            for bounds in (self.specification.high, self.specification.low)
        )
        return Budget(high, low)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the evaluator gives; not known of a user's function."""
        if self.kind == "proxy":
            return (self.specification.evaluator,)
        if self.table is not None:
            return self.table.columns
        if self.specification.early_exit is not None:
            return EXIT_METRICS
        return (self.data.metric,) if self.trains else ("accuracy",)

    @cached_property
    def worst(self) -> dict[str, float]:
        """Reference value for the hypervolume of each metric of which less is better.

        That is its ceiling, or the largest network's cost; of the loss what guessing gives.
        """
        largest = self.tables.cost(self.space.largest)
        finite = {metric: cost for metric, cost in largest.items() if isfinite(cost)}
        if self.trains and is_cost(self.data.metric):
            finite[self.data.metric] = self.data.worst
        if self.specification.early_exit is not None:
            finite[AVERAGE] = largest["macs"]
        return {**finite, **self.specification.high}

    @cached_property
    def supernet_epochs(self) -> float:
        """What was asked for, or enough for the data: small sets need more epochs."""
        asked = self.specification.supernet_epochs
        return asked or max(2.0, min(20.0, SUPERNET_SAMPLES / len(self.data.batches("train"))))

    @cached_property
    def train_epochs(self) -> float:
        """What was asked for, or half as many samples again as the supernet."""
        asked = self.specification.train_epochs
        if asked is not None:
            return asked
        return max(3.0, min(80.0, 1.5 * SUPERNET_SAMPLES / len(self.data.batches("train"))))

    @cached_property
    def race_epochs(self) -> float:
        """Length of each finalist's training in the race."""
        return round(RACE_SHARE * self.train_epochs, 2)

    @cached_property
    def augmentation(self) -> Augmentation:
        """What was asked for, or the data's own."""
        names = self.specification.augmentation
        return Augmentation.from_names(self.data.augmentation if names is None else names)


def _precision(device: str) -> Literal["fp32", "bf16"]:
    """What suits a device: bf16 where it has units for it."""
    gpu = device.startswith("cuda") and torch.cuda.is_available()
    return "bf16" if gpu and torch.cuda.is_bf16_supported() else "fp32"


def _normed(space: SearchSpace) -> int:
    """How many blocks of the largest network end with a norm, 1 at least.

    Gradients of a transformer with norms behind its residual sums are large at first, in the last
    layers most (Xiong et al., "On layer normalization in the transformer architecture", 2020): at
    the usual rate `bert-mini` of four layers learns nothing, at this share of it all do.
    """
    blocks = space.ops(space.largest)
    return max(1, sum(isinstance(ops[-1], LayerNorm) for _, ops in blocks))


def _with_objectives(specification: Specification) -> Specification:
    """Where nothing was said: the loss if text is to be modelled, mean FLOPs with early exits."""
    unsaid = "objectives" not in specification.model_fields_set
    if not unsaid or not needs_images(kind_of(specification.evaluator)):
        return specification
    if samples_of(specification.space) == "text":
        return specification.model_copy(update={"objectives": ("loss", "macs")})
    if specification.early_exit is not None:
        return specification.model_copy(update={"objectives": ("accuracy", AVERAGE)})
    return specification


def _load(specification: Specification, samples: Samples) -> Data:
    """The data of a kind that were asked for."""
    name, size = specification.data, specification.image_size
    if samples == "images":
        return load_data(name or DEFAULT_DATA, image_size=size)
    if name is None:
        wanted = {
            "text": "tinyshakespeare or a text file",
            "sentences": "a parquet, CSV or JSON-lines file with a text and a label column",
        }
        raise UserError(f"space {specification.space} needs --data: {wanted[samples]}")
    for option, given in (("--image-size", size), ("--augment", specification.augmentation)):
        if given:
            raise UserError(f"{option} is for images, and {specification.space} takes {samples}")
    return load_text(name) if samples == "text" else load_sentences(name)


def check_batch(data: Data, batch_size: int, samples: int, where: str = "") -> None:
    """Raise a `UserError` for fewer training samples than a batch."""
    if samples < batch_size:
        given = " ".join(f"{samples} training {data.samples} {where}".split())
        raise UserError(
            f"{data.name} has {given}, fewer than a batch of {batch_size}: expected "
            f"--batch-size {samples} or less"
        )
