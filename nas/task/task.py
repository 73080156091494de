"""A task: the data, the space, the cost tables and the budget that a specification describes.

Each is made on first use and cached. How long networks train is in `schedule.py`. Does not search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from evaluators.accuracy.exit_accuracy import EXIT_METRICS
from evaluators.accuracy.published_table import PublishedTable, read_table
from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables, Price, macs_per_token
from evaluators.data.augmentation import augment
from evaluators.data.dataset import Data
from evaluators.data.images import ImageData
from evaluators.device_prices import Target, device_tables, targets_of
from evaluators.footprint.greenscore import GreenScore
from evaluators.metrics import (
    COUNTED,
    GREENSCORE,
    MACS_PER_TOKEN,
    MEAN_MACS,
    Metric,
    energy_on,
    latency_on,
)
from evaluators.prediction.prior import Prior
from hardware_profiles.latencies import device_name
from nas.run.objectives import Objective, objective
from nas.run.specification import Specification
from nas.task.defaults import with_defaults
from nas.task.earlier_runs import priors_of
from nas.task.evaluator_kinds import Kind, UserFunction, kind_of, needs_images, user_function
from nas.task.loading import check_batch, load
from nas.task.names import TABLE
from nas.task.own_code import runnable
from nas.task.schedule import Schedule
from nas.task.space_choice import SpaceChoice, space_for
from search_spaces.architecture import Architecture
from search_spaces.catalogue import Samples, load_space, samples_of
from search_spaces.errors import UserError, unknown
from search_spaces.space import SearchSpace

DEVICES = "devices"
"""Folder in a run that keeps the tables and datasheets its devices were priced by."""


@dataclass(frozen=True)
class Task:
    """Data, space and cost tables of a specification."""

    specification: Specification
    folder: Path | None = None
    """Folder of the run, which keeps the tables of its devices; None before there is one."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Device name -> name, table or file as the user gave it."""
    space_reason: str = ""
    """Why the space was chosen; empty for one that was named, and for the usual one."""

    @classmethod
    def of(cls, specification: Specification, folder: Path | None = None) -> Task:
        """The task of a specification as a user wrote it, whose devices may be paths or aliases."""
        by_alias = kind_of(specification.evaluator) != "table"
        names = tuple(device_name(r, by_alias=by_alias) for r in specification.devices)
        references = dict(zip(names, specification.devices, strict=True))
        specification = specification.model_copy(update={"devices": names})
        named = "space" in specification.model_fields_set
        specification = with_defaults(specification, partial(runnable, folder))
        task = cls(specification, folder, references)
        return task if named else task._with_fitting_space()

    def _with_fitting_space(self) -> Task:
        """This task, with the space that suits its budget where its own does not.

        Raises:
            UserError: if the data cannot be read.
        """
        found = self._fitting_space()
        if found is None:
            return self
        changed = self.specification.model_copy(update={"space": found.name})
        task = replace(self, specification=changed, space_reason=found.reason)
        if self.trains:
            vars(task)["_loaded"] = self._loaded  # reading images takes seconds
        return task

    def larger(self, factor: float) -> Task:
        """The same task with a multiple of the budget's upper bounds."""
        high = {metric: factor * bound for metric, bound in self.specification.high.items()}
        changed = self.specification.model_copy(update={"high": high})
        task = replace(self, specification=changed)
        known = ("_loaded", "data", "space", "tables", "targets")
        vars(task).update({name: vars(self)[name] for name in known if name in vars(self)})
        return task

    def _fitting_space(self) -> SpaceChoice | None:
        """The space for the budget; None if the specified one suits it, or no other could."""
        if self.samples != "images" or not self.specification.high or self.table is not None:
            return None
        budget = self._bounds(known=True)
        shape: Mapping[str, int] = {}
        if self.trains:
            shape = self._loaded.space_options
        elif self.specification.image_size is not None:
            shape = {"image_size": self.specification.image_size}
        if not shape or not budget.high:
            return None

        def prices(space: SearchSpace) -> dict[str, Price]:
            return {m: p for t in self._targets_of(space) for m, p in t.prices().items()}

        return space_for(self.tables, budget, shape, prices)

    @cached_property
    def kind(self) -> Kind:
        """The kind of the evaluator."""
        return kind_of(self.specification.evaluator)

    @property
    def trains(self) -> bool:
        """Whether a winner is trained: data are specified, or the evaluator needs them."""
        return needs_images(self.kind) or self.specification.data is not None

    @cached_property
    def space_reference(self) -> str:
        """Name of the space; of a user's file, the one that may be run.

        Raises:
            UserError: for a file that the user has not trusted.
        """
        return runnable(self.folder, self.specification.space)

    @cached_property
    def samples(self) -> Samples:
        """Kind of input that the networks of the space take."""
        return samples_of(self.space_reference)

    @cached_property
    def _loaded(self) -> Data:
        return load(self.specification, self.samples)

    @cached_property
    def data(self) -> Data:
        """The data in the form that the space takes, loaded once.

        Raises:
            UserError: if the data cannot be read, do not fit the space, or have fewer training
                samples than a batch.
        """
        data = self._loaded.for_space(self.space)
        check_batch(data, self.specification.batch_size, len(data.batches("train")))
        return data

    @property
    def images(self) -> ImageData:
        """The data, where only images will do.

        Raises:
            UserError: if the data are not images.
        """
        if not isinstance(self.data, ImageData):
            raise UserError(f"expected a space of images; {self.space.name} takes {self.samples}")
        return self.data

    @cached_property
    def calibration(self) -> Tensor:
        """Training samples for batch-norm recalibration, in the form the data store them.

        Images are augmented as in training: shifted images have a border of zeros, and statistics
        without it cost a network that trained with it one to two points of accuracy.
        """
        specification = self.specification
        samples = self.data.calibration(specification.calibration_images, specification.seed)
        if not isinstance(self.data, ImageData):
            return samples
        generator = torch.Generator().manual_seed(specification.seed)
        return augment(samples, self.schedule.augmentation, generator)

    @cached_property
    def space(self) -> SearchSpace:
        """The space, with the input size and classes of the data where there are any."""
        name = self.space_reference
        if not self.trains:
            return load_space(name, image_size=self.specification.image_size)
        return load_space(name, **self._loaded.space_options)

    @cached_property
    def schedule(self) -> Schedule:
        """Lengths and recipe of all trainings."""
        return Schedule(self.specification, self.space, self.data)

    @cached_property
    def _published(self) -> PublishedTable | None:
        """The evaluator's published table with all columns; None for other evaluators."""
        if self.kind != "table":
            return None
        return read_table(self.specification.evaluator.removeprefix(TABLE), self.space)

    @cached_property
    def table(self) -> PublishedTable | None:
        """The published table with the columns that objectives and bounds name; None without one.

        Raises:
            UserError: if the table lacks an objective or a bounded metric.
        """
        whole = self._published
        if whole is None:
            return None
        if "accuracy" in self._named and "accuracy" not in whole.columns:
            scores = [name for name in whole.columns if not Metric.of(name).less_is_better]
            raise UserError(
                f"{whole.path} has no column 'accuracy': name an objective, "
                f"--objective {' or --objective '.join(scores[:8])}"
            )
        return whole.only([n for n in self._named if n in whole.columns or not self._derived(n)])

    def _derived(self, metric: str) -> bool:
        """Whether a metric follows from ops, devices or accuracy, so that no table needs it."""
        of_devices = {
            named(device)
            for device in self.specification.devices
            for named in (latency_on, energy_on)
        }
        return metric in COUNTED or metric == GREENSCORE or metric in of_devices

    @cached_property
    def targets(self) -> list[Target]:
        """The devices whose latency no published table gives.

        Raises:
            UserError: for a device without a table or datasheet.
        """
        published = () if self._published is None else self._published.columns
        wanted = [d for d in self.specification.devices if latency_on(d) not in published]
        try:
            return self._targets_of(self.space, wanted)
        except UserError:
            if self._published is not None:  # most likely a misspelt column of the table
                self._published.only([latency_on(name) for name in wanted])
            raise

    def _targets_of(self, space: SearchSpace, devices: Sequence[str] | None = None) -> list[Target]:
        """Devices with their prices for a space; by default all."""
        folder = None if self.folder is None else self.folder / DEVICES
        wanted = self.specification.devices if devices is None else devices
        return targets_of([self.references.get(d, d) for d in wanted], space, folder)

    @cached_property
    def green(self) -> GreenScore:
        """GreenScore relative to the largest network of the space, whose score is its accuracy.

        Carbon is that of one inference on the first device with a known energy.
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
        """Metric of the energy that GreenScore's carbon is computed from; None without one."""
        return next((m for m in self.tables.metrics if Metric.of(m).is_energy), None)

    def derived(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Metrics computed from the costs and the accuracy of a network: GreenScore."""
        accuracy = metrics.get("accuracy")
        if accuracy is None or not accuracy >= 0 or not metrics["macs"] > 0:
            return {}
        co2 = None if self.green_energy is None else metrics[self.green_energy]
        return {GREENSCORE: float(self.green.score(accuracy, metrics["macs"], co2))}

    @cached_property
    def function(self) -> UserFunction | None:
        """The user's function that evaluates; None for other evaluators.

        Raises:
            UserError: if there is no such function.
        """
        if self.kind != "function":
            return None
        return user_function(runnable(self.folder, self.specification.evaluator))

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What the search optimises."""
        return tuple(objective(name) for name in self.specification.objectives)

    @cached_property
    def priors(self) -> dict[str, Prior]:
        """By metric, what the runs of `learn_from` say; see `priors_of`."""
        return priors_of(self.specification.learn_from, self.tables, self.objectives)

    @property
    def _named(self) -> list[str]:
        """All metrics that are objectives or have a bound."""
        specification = self.specification
        names = [o.metric for o in self.objectives]
        return list(dict.fromkeys([*names, *specification.high, *specification.low]))

    @cached_property
    def tables(self) -> CostTables:
        """Cost tables of the space; the costs in a published table are columns of them."""
        table = self.table
        columns = (
            {}
            if table is None
            else {n: table.column(n) for n in table.columns if Metric.of(n).less_is_better}
        )
        prices: dict[str, Price] = (
            {MACS_PER_TOKEN: macs_per_token} if self.samples == "text" else {}
        )
        return device_tables(self.space, self.targets, columns, prices)

    @cached_property
    def budgeted(self) -> BudgetedSpace:
        """The part of the space within all bounds on metrics known before evaluation.

        Raises:
            UserError: for a bound on a metric that neither tables nor evaluator give.
        """
        try:
            return BudgetedSpace(self.tables, self._bounds(known=True))
        except UserError as error:
            raise UserError(f"{error}{self._other_space()}") from error

    @property
    def largest(self) -> Architecture:
        """The network that the supernet's other networks learn from.

        Widening begins with the largest of the space.
        """
        return self.space.largest if self.specification.widening else self.budgeted.largest

    def _other_space(self) -> str:
        """A space that suits the budget, as the end of a message about one that does not."""
        found = self._fitting_space()
        return "" if found is None else f"; --space {found.name} has such networks"

    @cached_property
    def measured(self) -> Budget:
        """The bounds on metrics that only an evaluation gives."""
        return self._bounds(known=False)

    def _bounds(self, *, known: bool) -> Budget:
        priced = self.tables.metrics
        if self.kind != "function":
            # A user's function may return any metric.
            given = self.table.columns if self.table is not None else self.metrics
            for name in (*self.specification.high, *self.specification.low):
                if name not in (*priced, *given):
                    raise unknown("metric", name, [*priced, *given])
        high, low = (
            {name: bound for name, bound in bounds.items() if (name in priced) == known}
            for bounds in (self.specification.high, self.specification.low)
        )
        return Budget(high, low)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that the evaluator returns; for a user's function, only an assumption."""
        if self.kind == "proxy":
            return (self.specification.evaluator,)
        if self.table is not None:
            return self.table.columns
        if self.specification.early_exit is not None:
            return EXIT_METRICS
        return (self.data.metric,) if self.trains else ("accuracy",)

    @cached_property
    def worst(self) -> dict[str, float]:
        """Reference value for the hypervolume of each minimised metric.

        Its ceiling, else the cost of the largest network; for the loss, that of guessing.
        """
        largest = self.tables.cost(self.space.largest)
        finite = {metric: cost for metric, cost in largest.items() if isfinite(cost)}
        if self.trains and Metric.of(self.data.metric).less_is_better:
            finite[self.data.metric] = self.data.worst
        if self.specification.early_exit is not None:
            finite[MEAN_MACS] = largest["macs"]
        return {**finite, **self.specification.high}
