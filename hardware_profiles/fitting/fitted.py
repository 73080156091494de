"""Latency on a device from a few whole networks that were timed on it: no model, no access needed.

`fit_latency` takes architectures and milliseconds and gives prices of every kind of op in their
space, with what it would have said of each sample that it did not see. Knows the samples of one
device and nothing of others. Does not know where the samples are from: `nas device fit` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date as day
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hardware_profiles.fitting.kernel_prices import Vector, fit_views
from hardware_profiles.latency.agreement import Quality, quality
from hardware_profiles.latency.kernel_features import QUANTITIES, KernelFeatures, kernel_features
from hardware_profiles.latency.live_ops import NEVER_RUN
from search_spaces.architecture import Value
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.ops import Op
from search_spaces.space import Rows, SearchSpace

FORMAT_VERSION = 1

FEWEST = 5
"""Usable samples without which nothing is fitted."""

FAILED = 0.01
"""A reading below this share of their median is of a network that did not run."""

MARGIN = 0.25
"""How far beyond the samples' range of a total (relatively) an architecture is still covered."""


@dataclass(frozen=True, eq=False)
class FittedLatency:
    """A `Latency` learnt from whole networks.

    `milliseconds` prices blocks, so that it is a column of cost tables like any other. Where the
    device was seen to leave out ops that a network's output does not depend on (`compiled`), no
    sum over blocks can say so: it is too high for networks with such ops, and `column` is exact,
    for `CostTables(columns=...)`.
    """

    device: str
    space: str
    date: str
    samples: int
    """Networks that it was fitted on."""
    dropped: int
    """Readings that were left out: not above zero, or far off what all others say."""
    quality: Quality
    """Of `predict`, on samples left out (cross-validation)."""
    additive_quality: Quality
    """The same of a sum of `milliseconds` over blocks."""
    features: KernelFeatures
    coefficients: Vector
    """`(width,)` milliseconds a unit of each feature."""
    compiled: bool
    """Whether they are for those ops alone that a compiler leaves: that predicts better."""
    unseen: tuple[str, ...]
    """Kinds of ops of the space that no sample had: their price is the average kind's."""
    ranges: Mapping[str, tuple[float, float]]
    """Smallest and largest of the samples' totals, by feature."""

    @property
    def origin(self) -> Literal["fitted"]:
        """See `Latency.origin`."""
        return "fitted"

    @property
    def summary(self) -> str:
        """See `Latency.summary`."""
        words = [f"fitted on {self.samples} networks of {self.space} on {self.date}"]
        if self.dropped:
            words[0] += f" ({self.dropped} readings left out)"
        words.append(f"cross-validated: {self.quality}")
        if self.compiled:
            words.append(f"summed over blocks: {self.additive_quality}")
        if self.unseen:
            words.append(f"no sample has {', '.join(self.unseen)}")
        return "; ".join(words)

    def milliseconds(self, ops: Sequence[Op]) -> float:
        """See `Latency.milliseconds`.

        Raises:
            UserError: for an op of a kind that the samples' space does not have.
        """
        try:
            return float(self.features.of_ops(ops) @ self.coefficients)
        except LookupError as error:
            raise self._foreign(error) from error

    def predict(self, space: SearchSpace, rows: Rows) -> Vector:
        """Milliseconds `(n,)` of whole networks, rows `(n, choices)` of the samples' space.

        Raises:
            UserError: for another space.
        """
        self._check(space)
        # Cells of a small space come again and again in a population.
        rows, which = np.unique(space.canonical(rows), axis=0, return_inverse=True)
        try:
            features = self.features.of_rows(space, rows, dead=not self.compiled)
            return (features @ self.coefficients)[which.reshape(-1)]
        except LookupError as error:
            raise self._foreign(error) from error

    def column(self, space: SearchSpace) -> Callable[[Rows], Vector]:
        """`predict` as a function of rows alone, for `CostTables(columns=...)`.

        Raises:
            UserError: for another space.
        """
        self._check(space)
        return lambda rows: self.predict(space, rows)

    def covers(self, space: SearchSpace, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which rows `(n, choices)` are like the samples.

        Others have a kind of op that no sample had, or more or less work than all samples.
        """
        self._check(space)
        features = self.features.of_rows(space, rows)
        names = self.features.names
        result = np.ones(len(rows), dtype=bool)
        for kind in self.unseen:
            result &= features[:, names.index(f"{QUANTITIES[0]} of {kind}")] == 0
        for name, (low, high) in self.ranges.items():
            total = features[:, names.index(name)]
            result &= (total >= low * (1 - MARGIN)) & (total <= high * (1 + MARGIN))
        return result

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            UserError: if the file cannot be written.
        """
        write_text(path, json.dumps(self._content(), indent=2) + "\n")

    def _content(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "kind": "fitted",
            "device": self.device,
            "space": self.space,
            "runtime": f"unknown: fitted to {self.samples} timed networks",
            "date": self.date,
            "samples": self.samples,
            "dropped": self.dropped,
            "quality": asdict(self.quality),
            "additive_quality": asdict(self.additive_quality),
            "compiled": self.compiled,
            "unseen": list(self.unseen),
            "ranges": {name: list(bounds) for name, bounds in self.ranges.items()},
            "kinds": list(self.features.kinds),
            "anchor": self.features.anchor,
            "coefficients": self._named(self.coefficients),
        }

    def _named(self, values: Vector) -> dict[str, float]:
        named = zip(self.features.names, values.tolist(), strict=True)
        return {name: value for name, value in named if value}

    def _check(self, space: SearchSpace) -> None:
        if space.name != self.space:
            raise UserError(
                f"latencies on {self.device} were fitted on networks of {self.space}, "
                f"not of {space.name}: expected space {self.space}"
            )

    def _foreign(self, error: LookupError) -> UserError:
        return UserError(
            f"latencies on {self.device} were fitted on networks of {self.space}, which have "
            f"no {error}: fit them on networks that do"
        )


def load_fitted(path: Path) -> FittedLatency:
    """Read what `FittedLatency.save` wrote.

    Raises:
        UserError: for a file that cannot be read, or that is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != "fitted":
        raise UserError(f"{path} is no fitted latency: expected what nas device fit writes")
    if content.get("format_version") != FORMAT_VERSION:
        version = content.get("format_version")
        raise UserError(f"{path} has format {version}, expected {FORMAT_VERSION}: fit it again")
    try:
        features = KernelFeatures(tuple(content["kinds"]), content["anchor"])
        index = {name: place for place, name in enumerate(features.names)}

        def values(named: Mapping[str, float]) -> Vector:
            result = np.zeros(features.width)
            for name, value in named.items():
                result[index[name]] = value
            return result

        return FittedLatency(
            **{key: content[key] for key in ("device", "space", "date", "samples", "dropped")},
            quality=Quality(**content["quality"]),
            additive_quality=Quality(**content["additive_quality"]),
            features=features,
            coefficients=values(content["coefficients"]),
            compiled=bool(content["compiled"]),
            unseen=tuple(content["unseen"]),
            ranges={name: (low, high) for name, (low, high) in content["ranges"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no whole fitted latency: {error!r}") from error


def fit_latency(
    space: SearchSpace,
    archs: Rows | Sequence[Mapping[str, Value]],
    milliseconds: npt.ArrayLike,
    device: str,
    *,
    date: str | None = None,
) -> FittedLatency:
    """Learn what networks of a space take on a device from some that were timed there.

    Args:
        archs: rows `(n, choices)`, or `n` architectures.
        milliseconds: `(n,)`; readings that are missing, not above zero, or far off what all
            others say are left out and counted.
        date: when they were timed; today by default.

    Raises:
        UserError: if fewer than five usable samples are left.
    """
    rows = archs if isinstance(archs, np.ndarray) else space.encode(archs)
    given = np.asarray(milliseconds, dtype=np.float64)
    if given.shape != (len(rows),):
        raise ValueError(f"{len(rows)} architectures, milliseconds of shape {given.shape}")
    ran = np.isfinite(given) & (given > 0)
    ran[ran] = given[ran] >= FAILED * np.median(given[ran]) if ran.any() else False
    kept = np.flatnonzero(ran)
    _enough(len(kept), len(given), device)
    features = kernel_features(space)
    views = [features.of_rows(space, rows[kept], dead=dead) for dead in (True, False)]
    running = np.ones(features.width)
    for index, name in enumerate(features.names):
        running[index] = name.partition(" of ")[2] not in NEVER_RUN
    fits = fit_views(views[0], views[1], running, given[kept])
    usual = fits.usual()
    if not usual.all():
        kept, views = kept[usual], [view[usual] for view in views]
        _enough(len(kept), len(given), device)
        fits = fit_views(views[0], views[1], running, given[kept])
    seen = dict(zip(features.names, views[0].T, strict=True))
    compiled = fits.chosen is fits.compiled
    totals = [f"all {quantity}" for quantity in QUANTITIES[:2]]
    return FittedLatency(
        device=device,
        space=space.name,
        date=date or day.today().isoformat(),
        samples=len(kept),
        dropped=len(given) - len(kept),
        quality=quality(fits.left_out(), given[kept]),
        additive_quality=quality(fits.chosen.summed, given[kept]),
        features=features,
        coefficients=fits.chosen.coefficients * (running if compiled else 1.0),
        compiled=compiled,
        unseen=tuple(k for k in features.kinds if not seen[f"{QUANTITIES[0]} of {k}"].any()),
        ranges={name: (float(seen[name].min()), float(seen[name].max())) for name in totals},
    )


def _enough(usable: int, given: int, device: str) -> None:
    if usable < FEWEST:
        raise UserError(
            f"{usable} of {given} latencies on {device} can be used: expected at least {FEWEST} "
            "that are above zero"
        )
