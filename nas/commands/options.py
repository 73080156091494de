"""Options of the command line as they are typed, turned into values; what is malformed, named.

Does not know what they mean.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.workers.resources import Crew
from search_spaces.errors import UserError

RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
Mlflow = Annotated[
    str | None,
    typer.Option(
        help="Log the learning curves there, to MLflow: http://HOST:PORT, sqlite:///FILE."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]


def _pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    """`NAME=VALUE`s, split."""
    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"malformed {option} '{text}': expected NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def bounds_of(option: str, texts: list[str] | None) -> dict[str, float]:
    """Numbers as they are, else sizes: `latency_ms=2.5`, `macs=50M`."""
    from math import isfinite

    from evaluators.sizes import parse_size

    bounds: dict[str, float] = {}
    for name, text in _pairs(option, texts).items():
        try:
            bounds[name] = float(text)
        except ValueError:
            bounds[name] = parse_size(text)
        if not isfinite(bounds[name]):
            raise UserError(f"malformed {option} '{name}={text}': expected a finite number")
    return bounds


def device_names(references: list[str] | None, *, by_alias: bool) -> list[str]:
    """What devices are called in metrics."""
    if not references:
        return []
    from hardware_profiles.latencies import device_name

    return [device_name(reference, by_alias=by_alias) for reference in references]


def on_devices(
    option: str, prefix: str, devices: list[str], text: str | None, parse: Callable[[str], float]
) -> dict[str, float]:
    """The ceiling of a metric on each device."""
    if text is None:
        return {}
    if not devices:
        raise UserError(f"{option} needs --device NAME, where it is to be kept")
    return {f"{prefix}{name}": parse(text) for name in devices}


def exponents(text: str | None) -> tuple[float, float] | None:
    """GreenScore's α and β, as `0.035,0.035`."""
    if text is None:
        return None
    try:
        alpha, beta = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"malformed --green-exponents '{text}': expected two numbers, α,β"
        ) from None
    return alpha, beta


def seconds(text: str | None) -> float | None:
    """A time such as `90s`."""
    from evaluators.sizes import parse_seconds

    return None if text is None else parse_seconds(text)


def sampler_options(texts: list[str] | None) -> dict[str, Any] | None:
    """Values as JSON where they are, else as text."""
    import json

    if texts is None:
        return None
    options: dict[str, Any] = {}
    for name, text in _pairs("--sampler-option", texts).items():
        try:
            options[name] = json.loads(text)
        except ValueError:
            options[name] = text
    return options


def comma_separated(text: str | None) -> tuple[str, ...] | None:
    """Names; `none` is none of them."""
    if text is None:
        return None
    return tuple(n for n in text.split(",") if n and n != "none")


def crew_of(workers: int, ray_address: str | None) -> Crew:
    """Who works on a run; an address alone is not enough."""
    if ray_address and not workers:
        raise UserError("--ray-address needs --workers N, the number of actors to use there")
    return Crew(workers, ray_address)
