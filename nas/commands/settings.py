"""Settings of a search as options: of `nas search`, and of `nas.search` in Python.

Options are the fields of `Specification` and the bounds in `BOUNDS`. Reads values as people write
them (`300k`, `5ms`, `crop,flip`) and returns the checked specification. Does not search, and does
not know typer.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import isfinite
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args

from pydantic.fields import FieldInfo

from evaluators.metrics import MACS_PER_TOKEN, energy_on, latency_on, tighten
from evaluators.sizes import (
    parse_exponents,
    parse_millijoules,
    parse_milliseconds,
    parse_seconds,
    parse_size,
    parse_watt_hours,
)
from nas.run import specification as spec
from nas.run.settings.option import BUDGET, STRATEGY, Form, Option
from nas.run.specification import Specification
from search_spaces.errors import UserError

Spelling = Callable[[str], str]
"""How a message writes the name of an option: `--max-flops`, or `max_flops`."""


@dataclass(frozen=True)
class Bound:
    """An option that sets a bound.

    Args:
        side: field of the specification: `high` for a maximum, `low` for a minimum.
        metric: metric of the bound; None where the value names metrics (`METRIC=VALUE`).
        on_device: name of the metric on a device, for a bound that holds on each device.
        parse: reads the value written as text.
    """

    side: Literal["high", "low"]
    description: str
    metavar: str
    parse: Callable[[str], float]
    metric: str | None = None
    on_device: Callable[[str], str] | None = None


def _number_or_size(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return parse_size(text)
    if not isfinite(number):
        raise UserError(f"malformed bound '{text}': expected a finite number")
    return number


BOUNDS = {
    "max_flops": Bound(
        "high",
        "Maximum FLOPs (multiply-accumulates of one sample), such as 50M.",
        "SIZE",
        parse_size,
        "macs",
    ),
    "min_flops": Bound("low", "Minimum FLOPs.", "SIZE", parse_size, "macs"),
    "max_flops_per_token": Bound(
        "high",
        "Maximum FLOPs per token of a language model, such as 200k.",
        "SIZE",
        parse_size,
        MACS_PER_TOKEN,
    ),
    "max_params": Bound("high", "Maximum parameters, such as 2M.", "SIZE", parse_size, "params"),
    "max_memory": Bound(
        "high", "Maximum bytes of activations at their peak, such as 4MB.", "SIZE", parse_size,
        "memory",
    ),
    "max_latency": Bound(
        "high",
        "Maximum latency on each --device, such as 5ms.",
        "TIME",
        parse_milliseconds,
        on_device=latency_on,
    ),
    "max_energy": Bound(
        "high",
        "Maximum energy of an inference on each --device, such as 5mJ.",
        "ENERGY",
        parse_millijoules,
        on_device=energy_on,
    ),
    "max": Bound("high", "Maximum of any metric (repeatable).", "METRIC=VALUE", _number_or_size),
    "min": Bound("low", "Minimum of any metric (repeatable).", "METRIC=VALUE", _number_or_size),
}  # fmt: skip
"""Options that set bounds, by name."""


@dataclass(frozen=True)
class Setting:
    """One option of a search: a field of the specification, or a bound."""

    name: str
    option: Option
    kind: type
    """Type of one value on the command line: str, int, float or bool."""
    description: str
    default: str
    """Description of the default."""
    choices: tuple[str, ...]
    """Known values, for completion."""
    field: str
    """Field of the specification that it sets."""
    bound: Bound | None = None

    @property
    def repeated(self) -> bool:
        """Whether the option is given once for each of several values."""
        return self.option.form in ("repeated", "pairs")

    @property
    def negative(self) -> str | None:
        """Name of the option that sets False; None for options with a value."""
        if self.kind is not bool:
            return None
        return self.option.negative or f"no_{self.name}"

    @property
    def strategy(self) -> str | None:
        """The strategy that alone has this option; None for options of all."""
        owner, colon, _ = self.description.partition(": ")
        return owner if colon and self.option.heading == STRATEGY else None

    def read(self, value: Any) -> Any:
        """Return a value of the field from one as a person writes it.

        Text is parsed by the option's form; other values are returned as they are, lists as tuples.

        Raises:
            UserError: for malformed text.
        """
        parse = self.bound.parse if self.bound is not None else PARSERS.get(self.option.form)
        if self.option.form == "pairs":
            pairs = value if isinstance(value, Mapping) else _pairs(value)
            return {
                name: parse(item) if parse and isinstance(item, str) else _number(item, self)
                for name, item in pairs.items()
            }
        if self.option.form == "repeated" and isinstance(value, str):
            value = (value,)
        if isinstance(value, str) and parse is not None:
            return parse(value)
        if self.bound is not None:
            return _number(value, self)
        return tuple(value) if isinstance(value, list) else value


def _pairs(texts: str | list[str] | tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE`s, split."""
    pairs: dict[str, str] = {}
    for text in (texts,) if isinstance(texts, str) else texts:
        name, equals, value = str(text).partition("=")
        if not (name and equals and value):
            raise UserError(f"malformed '{text}': expected NAME=VALUE")
        if pairs.setdefault(name.strip(), value.strip()) != value.strip():
            raise UserError(f"{name.strip()} has two values, expected one")
    return pairs


def _number(value: Any, setting: Setting) -> Any:
    """Check a bound that is not text; the specification checks values of other settings."""
    if setting.bound is None or (isinstance(value, Real) and isfinite(value)):
        return value
    raise UserError(f"malformed bound {value!r}: expected a finite number or text such as 300M")


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name and name != "none")


PARSERS: dict[str, Callable[[str], Any]] = {
    "time": parse_seconds,
    "energy": parse_watt_hours,
    "list": _names,
    "numbers": parse_exponents,
    "pairs": _json_or_text,
}
"""Readers of text by the form of an option; forms that are not here take text as it is."""


@cache
def settings() -> dict[str, Setting]:
    """Return all options of a search by name, in the order of `nas search --help`."""
    texts = descriptions()
    found = [
        _of_field(field, info, option, texts.get(field, ""))
        for field, info in Specification.model_fields.items()
        for option in info.metadata
        if isinstance(option, Option)
    ]
    bounds = [_of_bound(name, bound) for name, bound in BOUNDS.items()]
    (device,) = (s for s in found if s.option.heading == BUDGET)
    at = next(i for i, s in enumerate(bounds) if s.bound and s.bound.on_device)
    ordered = [*bounds[:at], device, *bounds[at:], *(s for s in found if s is not device)]
    return {setting.name: setting for setting in ordered}


def _of_bound(name: str, bound: Bound) -> Setting:
    form: Form = "text" if bound.metric or bound.on_device else "pairs"
    option = Option(BUDGET, bound.metavar, form=form, default="no bound")
    return Setting(name, option, str, bound.description, option.default, (), bound.side, bound)


def _of_field(field: str, info: FieldInfo, option: Option, text: str) -> Setting:
    kinds: list[type] = [int, float, bool] if option.form == "text" else []
    kind = next((k for k in kinds if _is(info, k)), str)
    name = option.name or field
    default = info.get_default(call_default_factory=True)
    if kind is bool and not default:
        shown = option.negative or f"no-{name}"
    elif default in (None, (), {}) or option.default != Option.default:
        shown = option.default
    elif isinstance(default, tuple):
        shown = ",".join(map(str, default))
    else:
        shown = f"{default:g}" if kind is float else str(default)
    text = text.replace("`", "")
    if option.choices:
        text += f" Known: {', '.join(option.choices)}."
    literals = (
        value for part in (info.annotation, *get_args(info.annotation)) for value in get_args(part)
    )
    choices = option.choices or tuple(value for value in literals if isinstance(value, str))
    return Setting(name, option, kind, text, shown, choices, field)


def _is(info: FieldInfo, kind: type) -> bool:
    """Whether a field takes values of this type, or None."""
    alternatives = get_args(info.annotation) or (info.annotation,)
    return {a for a in alternatives if a is not NoneType} == {kind}


def specification_of(
    given: Mapping[str, Any],
    *,
    spell: Spelling,
    config: Path | None = None,
    resumed: Path | None = None,
) -> Specification:
    """Return the specification of a search from its options.

    Options override the file `config`, which overrides the run that is resumed.

    Args:
        given: values by option; None leaves an option as it is.
        spell: how messages write the name of an option.
        config: a JSON file with fields of the specification.
        resumed: folder of a run that is resumed, if there is one.

    Raises:
        UserError: for values that cannot be read, and names of strategies, evaluators, samplers
            and augmentations that do not exist.
    """
    known = settings()
    values: dict[str, Any] = {}
    bounds: dict[str, dict[str, float]] = {"high": {}, "low": {}}
    on_devices: list[tuple[str, Bound, float]] = []
    # Options that are not repeated are None where they are not given, others may be empty.
    given = {
        name: value
        for name, value in given.items()
        if value is not None and (value or not known[name].repeated)
    }
    for name, value in given.items():
        setting = known[name]
        try:
            read = setting.read(value)
        except UserError as error:
            raise UserError(f"{spell(name)}: {error}") from error
        if setting.bound is None:
            values[setting.field] = read
        elif setting.bound.on_device is not None:
            on_devices.append((name, setting.bound, read))
        else:
            metric, at = setting.bound.metric, setting.bound.side
            tighten(bounds[at], read if metric is None else {metric: read}, at)
    names = _device_names(values.get("devices", ()), str(values.get("evaluator")))
    for name, bound, read in on_devices:
        if not names:
            raise UserError(
                f"{spell(name)} needs {spell('device')}, the device to which it applies"
            )
        own = {bound.on_device(d): read for d in names if bound.on_device}
        tighten(bounds[bound.side], own, bound.side)
    if names and "objectives" not in values:
        values["objectives"] = ("accuracy", "macs", *map(latency_on, names))
    over = _under(config, resumed) | values
    for side, added in bounds.items():
        if added:
            over[side] = {**over.get(side, {}), **added}
    specification = spec.make(over, {s.field: s.name for s in known.values() if not s.bound})
    _check_names(specification)
    configured = () if config is None else spec.read(config).model_fields_set
    for name, setting in known.items():
        owner, field = setting.strategy, setting.field
        set_there = field in configured and getattr(specification, field) != _default(field)
        if owner not in (None, specification.strategy) and (name in given or set_there):
            raise UserError(
                f"{spell(name)} is of {spell('strategy')} {owner}: with {specification.strategy} "
                "it would do nothing"
            )
    return specification


def _default(field: str) -> Any:
    return Specification.model_fields[field].get_default(call_default_factory=True)


def _under(config: Path | None, resumed: Path | None) -> dict[str, Any]:
    """Values that options override."""
    values: dict[str, Any] = {}
    if resumed is not None and (resumed / "specification.json").exists():
        values = spec.read(resumed / "specification.json").model_dump()
    if config is not None:
        values |= spec.read(config).model_dump(exclude_unset=True)
    return values


def _device_names(references: tuple[str, ...], evaluator: str) -> list[str]:
    """Names of devices in metrics."""
    if not references:
        return []
    from hardware_profiles.latencies import device_name
    from nas.task.names import TABLE

    # The columns of a published table have its own names of devices.
    by_alias = not evaluator.startswith(TABLE)
    return [device_name(reference, by_alias=by_alias) for reference in references]


def _check_names(specification: Specification) -> None:
    """Check names before data is loaded or anything is trained."""
    from nas.task.names import check_names, known_values

    check_names(specification)
    if specification.sampler not in known_values("sampler"):  # it may be a name of Optuna's
        from nas.strategies import check_sampler

        check_sampler(specification.sampler)


def descriptions() -> dict[str, str]:
    """The docstring of each field as one line; empty where the source is not installed."""
    # Only helps read them: pydantic's own reading of the source would slow every start.
    try:
        module = ast.parse(Path(spec.__file__).read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    (body,) = (
        node.body
        for node in module.body
        if isinstance(node, ast.ClassDef) and node.name == Specification.__name__
    )
    found = {}
    for field, below in pairwise(body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found
