"""The specification of a run: the settings of a search, checked, as one JSON file.

Each field carries an `Option`: its heading, option name and form of text. The options of
`nas search` and the arguments of `nas.search` are generated from the fields, their docstrings and
their defaults. Knows which settings exist and their ranges. Does not know what they do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from evaluators.metrics import GREENSCORE_EXPONENT
from evaluators.sizes import LARGEST_SEED
from nas.run.settings.files import read_settings
from nas.run.settings.option import BUDGET, CARBON, DATA, SEARCH, STRATEGY, TRAINING, Option
from nas.run.storage.address import public
from search_spaces.errors import UserError, unknown

MOST = 10**9
"""Largest count of anything: beyond, a number is a slip."""

PROXIES = ("synflow", "naswot", "zico", "jacob_cov", "grad_norm")
"""Zero-cost proxies: each is an evaluator, and a feature of evolution's predictor."""

VERSION = 4
"""Format of the runs that this program writes; it reads all formats up to this one."""

Sampling = Literal["flops", "uniform", "attentive"]
"""Which subnets a supernet trains on: spread evenly over the FLOPs within the budget, drawn
uniformly over the choices there, or those with the best and the worst loss at their FLOPs."""

Distillation = Literal["soft", "alpha"]
"""Loss between a subnet and the largest subnet: cross-entropy, or the adaptive α-divergence."""


class Specification(BaseModel):
    """What to search for and how.

    Counts are numbers, times seconds, energies Wh. None means the default that the docstring gives.

    Raises:
        pydantic.ValidationError: for a value outside its range; `read` and `make` turn it into
            a `UserError`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    high: dict[str, int | float] = Field(default_factory=dict)
    """Upper bounds by metric (`macs`, `params`, `memory`, `latency_ms_DEVICE`, ...)."""
    low: dict[str, int | float] = Field(default_factory=dict)
    """Lower bounds by metric."""
    devices: Annotated[tuple[str, ...], Option(BUDGET, name="device", form="repeated")] = ()
    """Device to price on (repeatable): a name, a latency table or a device file. Its latency
    becomes an objective."""

    space: Annotated[str, Option(DATA, default="by data and budget")] = "mobilenet"
    """Search space: a name, or file.py:OBJECT."""
    data: Annotated[
        str | None,
        Option(
            DATA,
            default="digits, if the evaluator needs data",
            choices=("digits", "cifar10", "cifar100", "mnist", "fashion-mnist", "tinyshakespeare"),
        ),
    ] = None
    """Images, text or sentences: a known name, OWNER/NAME on the Hugging Face hub, or a path."""
    image_size: Annotated[
        int | None,
        Option(DATA, "PIXELS", default="the size of the data's images"),
        Field(ge=8, le=8192),
    ] = None
    """Size to resize images to."""

    trials: Annotated[int, Option(SEARCH, "N"), Field(ge=1, le=MOST)] = 100
    """Number of architectures to evaluate."""
    patience: Annotated[
        int | None, Option(SEARCH, "N", default="all --trials"), Field(ge=1, le=MOST)
    ] = None
    """Stop when the frontier's hypervolume has not improved for this many evaluations."""
    strategy: Annotated[
        str,
        Option(
            SEARCH,
            choices=("evolution", "darts", "optuna", "nsga2", "regularized-evolution", "random"),
        ),
    ] = "evolution"
    """Search strategy."""
    evaluator: Annotated[
        str,
        Option(
            SEARCH,
            choices=(
                *("supernet", "train", "halving", *PROXIES),
                *("table:FILE", "file.py:FUNCTION"),
            ),
        ),
    ] = "supernet"
    """Source of an architecture's score: inherited weights of the supernet, training from scratch,
    successive halving of trainings that go on (with --time), a zero-cost proxy, a published table,
    or a function."""
    objectives: Annotated[
        tuple[str, ...],
        Option(SEARCH, "METRIC", name="objective", form="repeated"),
        Field(min_length=1),
    ] = ("accuracy", "macs")
    """Metric to optimise (repeatable): accuracy, macs, params, memory, or any that the evaluator
    returns; -METRIC minimises it."""
    time: Annotated[
        float | None, Option(SEARCH, "TIME", form="time", default="no limit"), Field(gt=0)
    ] = None
    """Time of the whole search, such as 30m: it is divided between a race of candidates, whose
    trainings go on, and the winner's training. With --trials both hold."""
    energy: Annotated[
        float | None, Option(SEARCH, "ENERGY", form="energy", default="no limit"), Field(gt=0)
    ] = None
    """Energy of the whole search, such as 50Wh, as measured on this machine; divided as --time."""
    time_limit: Annotated[
        float | None, Option(SEARCH, "TIME", form="time", default="no limit"), Field(gt=0)
    ] = None
    """Longest time for the evaluation of one candidate, such as 90s."""
    learn_from: Annotated[tuple[str, ...], Option(SEARCH, "RUN", form="repeated")] = ()
    """Earlier run of the same space, on any data (repeatable): a prior of evolution's predictor."""
    storage: Annotated[
        str | None, Option(SEARCH, "ADDRESS", default="RUN/study.db"), AfterValidator(public)
    ] = None
    """Database of several runs, such as postgresql://USER@HOST/NAME, for the evaluations."""
    reuse: Annotated[bool, Option(SEARCH)] = False
    """Take over equal evaluations that other runs in --storage have finished."""
    seed: Annotated[int, Option(SEARCH, "N"), Field(ge=0, le=LARGEST_SEED)] = 0
    """Random seed."""

    bins: Annotated[int, Option(STRATEGY, "N"), Field(ge=0, le=MOST)] = 0
    """evolution: number of ranges of FLOPs within the budget that are searched with equal effort;
    0 searches the budget as a whole."""
    proxies: Annotated[
        tuple[str, ...],
        Option(
            STRATEGY,
            "NAME,...",
            form="list",
            choices=PROXIES,
        ),
    ] = ()
    """evolution: zero-cost proxies that are features of its predictor."""
    sampler: Annotated[
        str,
        Option(
            STRATEGY,
            choices=(
                *("nsga2", "nsga3", "tpe", "gp", "cmaes", "qmc", "grid", "bruteforce"),
                *("partialfixed", "random"),
            ),
        ),
    ] = "nsga2"
    """optuna: its sampler."""
    sampler_options: Annotated[
        dict[str, Any],
        Option(STRATEGY, "NAME=VALUE", name="sampler_option", form="pairs"),
    ] = Field(default_factory=dict)
    """optuna: argument of the sampler (repeatable)."""
    penalty: Annotated[
        float | None, Option(STRATEGY, "X", default="adapted to the budget"), Field(ge=0)
    ] = None
    """darts: fixed weight λ of the logarithm of the cost in the loss."""
    penalty_metric: Annotated[str, Option(STRATEGY, "METRIC", choices=("macs", "params"))] = "macs"
    """darts: metric that a fixed λ weights."""
    penalty_ramp: Annotated[float, Option(STRATEGY, "FRACTION"), Field(ge=0, le=1)] = 0.0
    """darts: fraction of the steps over which a fixed λ rises from 0."""
    estimator: Annotated[
        Literal["gumbel", "softmax"] | None, Option(STRATEGY, default="softmax")
    ] = None
    """darts: masks of the options, gumbel (drawn) or softmax (their probabilities)."""

    supernet_epochs: Annotated[
        float | None,
        Option(TRAINING, "EPOCHS", default="2 to 20, more for fewer samples"),
        Field(gt=0),
    ] = None
    """Epochs of the supernet's training."""
    train_epochs: Annotated[
        float | None,
        Option(TRAINING, "EPOCHS", default="1.5 to 40, more for fewer samples"),
        Field(ge=0),
    ] = None
    """Epochs of the winner's training; 0 exports it untrained."""
    finalists: Annotated[int, Option(TRAINING, "N"), Field(ge=1, le=MOST)] = 4
    """Number of architectures trained briefly, from which the winner is chosen; 1 takes the best
    by its score."""
    batch_size: Annotated[int, Option(TRAINING, "N"), Field(ge=2, le=MOST)] = 64
    """Samples per training step."""
    learning_rate: Annotated[
        float | None, Option(TRAINING, "X", default="by the kind of norms"), Field(gt=0)
    ] = None
    """Learning rate of the supernet and of networks trained from scratch."""
    augmentation: Annotated[
        tuple[str, ...] | None,
        Option(
            TRAINING,
            "NAME,...",
            name="augment",
            form="list",
            default="by the data",
            choices=("crop", "flip", "affine", "colour", "erase", "mixup", "cutmix", "none"),
        ),
    ] = None
    """Augmentations of training images."""
    scratch: Annotated[bool, Option(TRAINING, negative="inherited")] = False
    """Train finalists and winner from random weights, or from those of the supernet."""
    teacher: Annotated[bool, Option(TRAINING)] = False
    """Distil the supernet's largest subnet into finalists and winner."""
    sampling: Annotated[Sampling, Option(TRAINING)] = "flops"
    """Subnets that the supernet trains on: flops (evenly over the FLOPs within the budget), uniform
    (over the choices) or attentive (best and worst loss at their FLOPs)."""
    distillation: Annotated[Distillation, Option(TRAINING)] = "soft"
    """Loss between subnets and the largest subnet: soft (cross-entropy) or alpha (adaptive
    α-divergence)."""
    widening: Annotated[bool, Option(TRAINING)] = False
    """Open the supernet's kernels, depths and widths one after the other."""
    early_exit: Annotated[
        float | None, Option(TRAINING, "POINTS", default="no exits"), Field(ge=0, lt=100)
    ] = None
    """Train networks with early exits that may lose this many percentage points of accuracy, such
    as 0.5. Adds the metric avg_flops, to bound (--max avg_flops=1M) and to optimise."""
    ema: Annotated[float, Option(TRAINING, "DECAY"), Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of the weights that a training ends with, such as 0.99; 0 keeps
    the last weights."""
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        Option(TRAINING, default="bf16 on a GPU that computes in it, else fp32"),
    ] = None
    """Precision of matrix products and convolutions in training: fp32 or bf16."""
    compile: Annotated[bool, Option(TRAINING)] = False
    """Compile networks that train alone with torch.compile."""
    device: Annotated[str, Option(TRAINING, name="torch_device", choices=("cpu", "cuda"))] = "cpu"
    """PyTorch device, such as cuda:1."""
    calibration_images: int = Field(512, ge=1, le=MOST)
    """Training samples that recalibrate the batch norms of a subnet."""

    region: Annotated[str, Option(CARBON)] = "world"
    """Electricity grid for carbon: world, a country (de), a region (us-ca) or a cloud's place
    (aws:us-east-1)."""
    green_exponents: Annotated[
        tuple[float, float], Option(CARBON, "ALPHA,BETA", form="numbers")
    ] = (GREENSCORE_EXPONENT, GREENSCORE_EXPONENT)
    """Exponents of GreenScore: α of FLOPs, β of carbon."""

    study: str | None = None
    """Name of the run's study in `storage`."""
    version: int = VERSION
    """Format of the run; see `VERSION`. Before 2, no training used Muon; before 3, none mixed."""

    @property
    def limited(self) -> bool:
        """Whether the search as a whole has a time or an energy."""
        return self.time is not None or self.energy is not None


PRIVATE_FIELDS = {"storage", "study", "reuse"}
"""Fields on where a run is kept: published files leave them out."""

SEARCH_FIELDS = (
    *("space", "data", "image_size", "objectives", "high", "low", "devices", "evaluator"),
    *("seed", "device"),
)
TRAINING_FIELDS = (
    *("augmentation", "supernet_epochs", "sampling", "distillation", "widening", "early_exit"),
    *("ema", "learning_rate", "precision", "batch_size", "calibration_images"),
)
FIXED_ON_RESUME = SEARCH_FIELDS + TRAINING_FIELDS
"""Fields that a resumed run cannot change: its evaluations would not be comparable."""


def make(values: Mapping[str, Any], names: Mapping[str, str] | None = None) -> Specification:
    """Return the specification with these values of its fields; a zero-cost proxy is its objective.

    Args:
        values: values by field.
        names: what an error calls a field, where that is not the field's name.

    Raises:
        UserError: for an unknown field, and for the first value outside its range; the message has
            the field, the value and what is expected.
    """
    for name, value in values.items():
        if (field := Specification.model_fields.get(name)) is None:
            raise unknown("setting", name, Specification.model_fields)
        if isinstance(value, bool) and field.annotation is not bool:
            raise UserError(f"{name} = {value}: expected a number or a word, no truth value")
    evaluator = str(values.get("evaluator") or "supernet")
    if not values.get("objectives") and evaluator in PROXIES:
        values = {**values, "objectives": (evaluator, "macs")}
    try:
        return Specification(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where, *inside = map(str, first["loc"])
        name = ".".join([(names or {}).get(where, where), *inside])
        raise UserError(f"{name} = {first['input']!r}: {first['msg'].lower()}") from error


def read(path: Path) -> Specification:
    """Read a file that `to_json` wrote, or a user's file with some of the fields.

    Raises:
        UserError: if the file cannot be read, is of a later format, or has wrong fields.
    """
    values = read_settings(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}, expected settings by name")
    version = values.get("version", VERSION)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise UserError(
            f"{path} has format {version}, expected at most {VERSION}: a later version of this "
            "program wrote it (pip install --upgrade budget-nas)"
        )
    return make(values)


def to_json(specification: Specification) -> str:
    """Return the specification as indented JSON."""
    return json.dumps(specification.model_dump(), indent=2) + "\n"


def check_resumable(old: Specification, new: Specification, folder: Path) -> None:
    """Check that the run in `folder`, started as `old`, can continue as `new`.

    Raises:
        UserError: for a changed field that would make its evaluations incomparable.
    """
    # Candidates that train from scratch compare only after trainings of one length.
    trained = ("train_epochs",) if new.evaluator == "train" else ()
    for name in (*FIXED_ON_RESUME, *trained):
        before, now = getattr(old, name), getattr(new, name)
        if before != now:
            raise UserError(
                f"{folder} was started with {name} {_value(before)}, not {_value(now)}: "
                "use another --out, or the same settings to resume"
            )
    if (old.storage is None) != (new.storage is None):
        raise UserError(
            f"{folder} was started {'without' if old.storage is None else 'with'} --storage: "
            "resume it likewise, or use another --out"
        )
    if (old.strategy == "darts") != (new.strategy == "darts"):
        raise UserError(
            f"{folder} was started with strategy {old.strategy}, which trains another supernet "
            f"than {new.strategy}: use another --out"
        )


def _value(value: object) -> str:
    return str(value) if value else "none"


def replace_field(specification: Specification, **changes: Any) -> Specification:
    """Return a specification with some fields changed, checked as by `make`."""
    return make({**specification.model_dump(), **changes})
