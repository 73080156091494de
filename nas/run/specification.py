"""The specification of a run: everything that a search was asked for, as one JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluators.footprint.greenscore import DEFAULT_EXPONENT
from search_spaces.errors import UserError, unknown

VERSION = 1
"""The format of runs that this program writes; it reads all up to it."""

Sampling = Literal["flops", "uniform", "attentive"]
"""Which subnets a supernet trains on: evenly over the range of MACs within the budget, uniformly
over the choices there, or the best and the worst of their MACs."""

Distillation = Literal["soft", "alpha"]
"""How a subnet learns from the largest: by cross-entropy, or by the adaptive α-divergence."""


class Specification(BaseModel):
    """What to search for and how. Counts are plain numbers; `None` means the default.

    Raises:
        pydantic.ValidationError: for a value outside its range; `read` and `make` turn it into
            a `UserError`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: str = "mobilenet"
    data: str | None = None
    """Images by name or path; where none are given, digits are used if images are needed."""
    image_size: int | None = Field(None, ge=8)
    augmentation: tuple[str, ...] | None = None
    objectives: tuple[str, ...] = Field(("accuracy", "macs"), min_length=1)
    high: dict[str, int | float] = Field(default_factory=dict)
    """Upper bounds by metric (`macs`, `params`, `memory`, `latency_ms_DEVICE`, ...)."""
    low: dict[str, int | float] = Field(default_factory=dict)
    """Lower bounds by metric."""
    devices: tuple[str, ...] = ()
    """Devices whose latency and energy are costs: names, tables or files."""
    region: str = "world"
    """Whose electricity the search and its networks take, for carbon."""
    green_exponents: tuple[float, float] = (DEFAULT_EXPONENT, DEFAULT_EXPONENT)
    """α of FLOPs and β of carbon in GreenScore."""
    evaluator: str = "supernet"
    """`supernet`, `train`, a zero-cost proxy, `table:FILE` or `file.py:FUNCTION`."""
    time_limit: float | None = Field(None, gt=0)
    """Seconds that the evaluation of one candidate may take."""
    strategy: str = "evolution"
    bins: int = Field(0, ge=0)
    """Ranges of MACs below the budget that `evolution` serves alike; 0: the whole budget first."""
    proxies: tuple[str, ...] = ()
    """Zero-cost proxies that `evolution`'s predictor sees beside the architecture."""
    sampler: str = "nsga2"
    sampler_options: dict[str, Any] = Field(default_factory=dict)
    """Options of Optuna's sampler, by their own names."""
    penalty: float | None = Field(None, ge=0)
    """λ of `darts`; None: a dual variable that the budget drives."""
    penalty_metric: str = "macs"
    """What a fixed λ is the price of."""
    penalty_ramp: float = Field(0.0, ge=0, le=1)
    """Share of the relaxation over which a fixed λ rises from 0."""
    estimator: Literal["gumbel", "softmax"] | None = None
    """How `darts` turns its parameters into probabilities; None: its own default."""
    trials: int = Field(100, ge=1)
    supernet_epochs: float | None = Field(None, gt=0)
    sampling: Sampling = "flops"
    distillation: Distillation = "soft"
    widening: bool = False
    """Whether the supernet's ranges open one after the other."""
    early_exit: float | None = Field(None, ge=0, lt=100)
    """Points of accuracy that leaving early may cost; None: networks have no exits."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that a training ends with; 0: none."""
    learning_rate: float | None = Field(None, gt=0)
    """Of the supernet, and of networks from scratch; None: what suits their norms."""
    precision: Literal["fp32", "bf16"] | None = None
    """Of products and convolutions in training; None: bf16 on a GPU that has it."""
    compile: bool = False
    """Whether networks that train alone are compiled by torch."""
    train_epochs: float | None = Field(None, ge=0)
    scratch: bool = False
    """Whether finalists and winners start from nothing, not from the supernet's weights."""
    teacher: bool = False
    """Whether they learn from the supernet's largest subnet too."""
    finalists: int = Field(4, ge=1)
    """Architectures that train shortly before one of them is the winner; 1 for no race."""
    batch_size: int = Field(64, ge=2)
    calibration_images: int = Field(512, ge=1)
    seed: int = Field(0, ge=0)
    device: str = "cpu"
    version: int = VERSION
    """Of the run's format; see `VERSION`."""


SEARCH_FIELDS = (
    "space",
    "data",
    "image_size",
    "objectives",
    "high",
    "low",
    "devices",
    "evaluator",
    "seed",
    "device",
)
TRAINING_FIELDS = (
    "augmentation",
    "supernet_epochs",
    "sampling",
    "distillation",
    "widening",
    "early_exit",
    "ema",
    "learning_rate",
    "precision",
    "batch_size",
    "calibration_images",
)
FIXED_ON_RESUME = SEARCH_FIELDS + TRAINING_FIELDS
"""What a resumed run must not change: it would make its evaluations incomparable."""


def make(values: dict[str, Any]) -> Specification:
    """Check values from outside.

    Raises:
        UserError: names the first wrong field, its value, and what was expected.
    """
    for name in values:
        if name not in Specification.model_fields:
            raise unknown("setting", name, Specification.model_fields)
    evaluator = str(values.get("evaluator") or "supernet")
    if not values.get("objectives") and evaluator not in ("supernet", "train"):
        from evaluators.accuracy.zero_cost_proxies import PROXIES  # brings torch

        if evaluator in PROXIES:
            values = {**values, "objectives": (evaluator, "macs")}
    try:
        return Specification(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{name} = {first['input']!r}: {first['msg'].lower()}") from error


def read(path: Path) -> Specification:
    """Read a specification that `to_json` wrote, or a user's file with some of its fields.

    Raises:
        UserError: if the file is missing, is not JSON, or has wrong fields.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}, expected a JSON object")
    version = values.get("version", VERSION)
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise UserError(
            f"{path} is of version {version}, and this program reads up to {VERSION}: the program "
            "that wrote it, or a later one, can (pip install --upgrade budget-nas)"
        )
    return make(values)


def to_json(specification: Specification) -> str:
    """The specification as indented JSON."""
    return json.dumps(specification.model_dump(), indent=2) + "\n"


def check_resumable(old: Specification, new: Specification, folder: Path) -> None:
    """Raise a `UserError` when `new` asks for something that the run in `folder` is not."""
    # Where candidates are trained, the length of their training is what makes them comparable.
    trained = ("train_epochs",) if new.evaluator == "train" else ()
    for name in (*FIXED_ON_RESUME, *trained):
        was, asked = getattr(old, name), getattr(new, name)
        if was != asked:
            raise UserError(
                f"{folder} was started with {name} {_shown(was)}, not {_shown(asked)}: "
                "use another --out, or the same settings to resume"
            )

    if (old.strategy == "darts") != (new.strategy == "darts"):
        raise UserError(
            f"{folder} was started with strategy {old.strategy}, whose supernet is another than "
            f"{new.strategy}'s: use another --out"
        )


def _shown(value: object) -> str:
    return str(value) if value else "none"


def replace_field(specification: Specification, **changes: Any) -> Specification:
    """A specification with some fields changed, checked."""
    from nas.run import specification as spec

    return spec.make({**specification.model_dump(), **changes})
