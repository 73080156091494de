"""Fit the latency of a device to a few whole networks timed on it, without access to the device.

`fit_latency` takes architectures and milliseconds and returns prices of every kind of op in their
space, with cross-validated predictions of the samples. Knows the samples of one device. Does not
know other devices or the origin of the samples: `nas device fit` reads them.
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
from hardware_profiles.latency.agreement import Agreement, agreement
from hardware_profiles.latency.kernel_features import QUANTITIES, KernelFeatures, kernel_features
from hardware_profiles.latency.live_ops import NEVER_RUN
from search_spaces.architecture import Value
from search_spaces.errors import UserError
from search_spaces.files import read_json, write_text
from search_spaces.ops import Op
from search_spaces.space import Rows, SearchSpace

FORMAT_VERSION = 1
"""Version of the file format."""

MIN_SAMPLES = 5
"""Minimum number of usable samples."""

FAILED_SHARE = 0.01
"""Readings below this share of the median are from networks that failed to run."""

COVERAGE_MARGIN = 0.25
"""Relative margin around the samples' range of a total within which architectures are covered."""


@dataclass(frozen=True, eq=False)
class FittedLatency:
    """A `Latency` fitted to whole networks.

    `milliseconds` prices blocks, for `CostTables(prices=...)`. If the device eliminates ops that a
    network's output does not depend on (`compiled`), a sum over blocks is too high for networks
    with such ops; `column` is exact, for `CostTables(columns=...)`.
    """

    device: str
    space: str
    date: str
    samples: int
    """Number of networks that it was fitted to."""
    dropped: int
    """Number of readings omitted: not above zero, or outliers."""
    agreement: Agreement
    """Cross-validated agreement of `predict` with the samples."""
    additive_agreement: Agreement
    """Cross-validated agreement of the sum of `milliseconds` over blocks."""
    features: KernelFeatures
    coefficients: Vector
    """`(width,)` milliseconds per unit of each feature."""
    compiled: bool
    """Whether the coefficients are for live ops only, because that predicts better."""
    unseen: tuple[str, ...]
    """Kinds of ops of the space that no sample contains; they have the average kind's prices."""
    ranges: Mapping[str, tuple[float, float]]
    """Range of the samples' totals, by feature."""

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
        words.append(f"cross-validated: {self.agreement}")
        if self.compiled:
            words.append(f"summed over blocks: {self.additive_agreement}")
        if self.unseen:
            words.append(f"no sample has {', '.join(self.unseen)}")
        return "; ".join(words)

    def milliseconds(self, ops: Sequence[Op]) -> float:
        """See `Latency.milliseconds`.

        Raises:
            UserError: if the samples' space does not have the kind of an op.
        """
        try:
            return float(self.features.of_ops(ops) @ self.coefficients)
        except LookupError as error:
            raise self._unknown_kind(error) from error

    def predict(self, space: SearchSpace, rows: Rows) -> Vector:
        """Return the milliseconds `(n,)` of whole networks.

        Args:
            space: the samples' space.
            rows: its networks, `(n, choices)`.

        Raises:
            UserError: if the space is not that of the samples.
        """
        self._check_space(space)
        # A population in a small space has many equal rows.
        rows, which = np.unique(space.canonical(rows), axis=0, return_inverse=True)
        try:
            features = self.features.of_rows(space, rows, dead=not self.compiled)
            return (features @ self.coefficients)[which.reshape(-1)]
        except LookupError as error:
            raise self._unknown_kind(error) from error

    def column(self, space: SearchSpace) -> Callable[[Rows], Vector]:
        """Return `predict` as a function of rows, for `CostTables(columns=...)`.

        Raises:
            UserError: if the space is not that of the samples.
        """
        self._check_space(space)
        return lambda rows: self.predict(space, rows)

    def covers(self, space: SearchSpace, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return which rows `(n, choices)` the samples cover, `(n,)`.

        Rows that are not covered have a kind of op that no sample contains, or totals outside the
        samples' range by more than `COVERAGE_MARGIN`.

        Raises:
            UserError: if the space is not that of the samples.
        """
        self._check_space(space)
        features = self.features.of_rows(space, rows)
        names = self.features.names
        result = np.ones(len(rows), dtype=bool)
        for kind in self.unseen:
            result &= features[:, names.index(f"{QUANTITIES[0]} of {kind}")] == 0
        for name, (low, high) in self.ranges.items():
            total = features[:, names.index(name)]
            result &= (total >= low * (1 - COVERAGE_MARGIN)) & (
                total <= high * (1 + COVERAGE_MARGIN)
            )
        return result

    def save(self, path: Path) -> None:
        """Write the fit as JSON, atomically.

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
            "quality": asdict(self.agreement),
            "additive_quality": asdict(self.additive_agreement),
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

    def _check_space(self, space: SearchSpace) -> None:
        if space.name != self.space:
            raise UserError(
                f"latencies on {self.device} were fitted on networks of {self.space}, "
                f"not of {space.name}: expected space {self.space}"
            )

    def _unknown_kind(self, error: LookupError) -> UserError:
        return UserError(
            f"latencies on {self.device} were fitted on networks of {self.space}, which have "
            f"no {error}: fit them on networks that do"
        )


def load_fitted(path: Path) -> FittedLatency:
    """Read a file written by `FittedLatency.save`.

    Raises:
        UserError: if the file cannot be read or is not a fitted latency.
    """
    try:
        content = read_json(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != "fitted":
        raise UserError(f"{path} is not a fitted latency: expected a file of nas device fit")
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
            agreement=Agreement(**content["quality"]),
            additive_agreement=Agreement(**content["additive_quality"]),
            features=features,
            coefficients=values(content["coefficients"]),
            compiled=bool(content["compiled"]),
            unseen=tuple(content["unseen"]),
            ranges={name: (low, high) for name, (low, high) in content["ranges"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is an incomplete fitted latency: {error!r}") from error


def fit_latency(
    space: SearchSpace,
    archs: Rows | Sequence[Mapping[str, Value]],
    milliseconds: npt.ArrayLike,
    device: str,
    *,
    date: str | None = None,
) -> FittedLatency:
    """Fit the latency of a space's networks on a device to timed samples.

    Args:
        space: the search space of the networks.
        archs: rows `(n, choices)`, or `n` architectures.
        milliseconds: `(n,)`; readings that are missing, not above zero, or outliers are omitted
            and counted.
        device: name of the device.
        date: date of the measurements; today by default.

    Raises:
        UserError: if fewer than `MIN_SAMPLES` samples are usable.
        ValueError: if the numbers of architectures and readings differ.
    """
    rows = archs if isinstance(archs, np.ndarray) else space.encode(archs)
    given = np.asarray(milliseconds, dtype=np.float64)
    if given.shape != (len(rows),):
        raise ValueError(
            f"milliseconds of shape {given.shape}: expected ({len(rows)},), one per architecture"
        )
    ran = np.isfinite(given) & (given > 0)
    ran[ran] = given[ran] >= FAILED_SHARE * np.median(given[ran]) if ran.any() else False
    kept = np.flatnonzero(ran)
    _check_sample_count(len(kept), len(given), device)
    features = kernel_features(space)
    views = [features.of_rows(space, rows[kept], dead=dead) for dead in (True, False)]
    running = np.ones(features.width)
    for index, name in enumerate(features.names):
        running[index] = name.partition(" of ")[2] not in NEVER_RUN
    fits = fit_views(views[0], views[1], running, given[kept])
    inliers = fits.inliers()
    if not inliers.all():
        kept, views = kept[inliers], [view[inliers] for view in views]
        _check_sample_count(len(kept), len(given), device)
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
        agreement=agreement(fits.left_out(), given[kept]),
        additive_agreement=agreement(fits.chosen.summed, given[kept]),
        features=features,
        coefficients=fits.chosen.coefficients * (running if compiled else 1.0),
        compiled=compiled,
        unseen=tuple(k for k in features.kinds if not seen[f"{QUANTITIES[0]} of {k}"].any()),
        ranges={name: (float(seen[name].min()), float(seen[name].max())) for name in totals},
    )


def _check_sample_count(usable: int, given: int, device: str) -> None:
    if usable < MIN_SAMPLES:
        raise UserError(
            f"{usable} of {given} latencies on {device} can be used: expected at least "
            f"{MIN_SAMPLES} that are above zero"
        )
