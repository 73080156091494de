"""What scheduling costs one search process that keeps a thousand workers busy.

Nothing is trained. First the engine's own loop (strategy, study, progress) runs against workers
that are only simulated: what the loop does takes its real time, and where it would wait for the
next of a thousand evaluations the clock is moved on instead; so the share of time in which workers
are busy is what it would be, until the last candidate has begun. Costs are given for all
candidates, and for the first and the last thousand of them: they must not grow. Then Ray's part:
as many real actors as asked for, which answer at once, and a thousand that are stood in for by a
few processes (Ray sees a thousand running calls).

    python benchmarks/thousand_workers.py
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from report import emit
from rich.console import Console

from nas.workers.cluster import ray_session
from nas.engine.search import _evaluate, _judged
from nas.progress import Live
from nas.workers.actors import RayWorkers
from nas.run.specification import make
from nas.strategies import Candidates, make_strategy
from nas.run.evaluation import Evaluation
from nas.run.study import Study
from nas.task.task import Task
from nas.workers.pool import EvaluationResult
from search_spaces.architecture import Architecture

EVALUATOR = Path(__file__).parents[1] / "examples" / "own_evaluator.py"
SETTINGS = {"space": "mobilenet-cifar", "high": {"macs": 3_000_000}}


STRATEGIES = ["evolution", "random", "regularized-evolution"]

WINDOW = 1000
"""Candidates at the start and at the end whose overhead is given apart."""


class Clock:
    """Real time, but for the waits that are skipped and for what workers would compute."""

    def __init__(self) -> None:
        self._skipped = self._elsewhere = 0.0
        self.spent: dict[str, float] = defaultdict(float)

    def now(self) -> float:
        return self.own + self._skipped

    def wait(self, until: float) -> None:
        self._skipped += max(0.0, until - self.now())

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Not the time of this process: a worker would spend it."""
        started = time.perf_counter()
        yield
        self._elsewhere += time.perf_counter() - started

    @property
    def own(self) -> float:
        """Real seconds of this process alone."""
        return time.perf_counter() - self._elsewhere

    @contextmanager
    def charging(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.spent[what] += time.perf_counter() - started


class Simulated:
    """Workers that take their time without doing anything; see `nas.workers.Workers`."""

    def __init__(
        self, clock: Clock, count: int, seconds: float, score: Callable[..., Any], seed: int
    ) -> None:
        self._clock = clock
        self._count = count
        self._seconds = seconds
        self._score = score
        self._rng = np.random.default_rng(seed)
        self._running: list[tuple[float, int, float, Architecture]] = []
        self._number = itertools.count()
        self.spans: list[tuple[float, float]] = []
        """Start and end of each evaluation."""

    @property
    def idle(self) -> int:
        return self._count - len(self._running)

    def submit(self, arch: Architecture) -> None:
        seconds = self._seconds * float(self._rng.uniform(0.5, 1.5))
        starts = self._clock.now()
        ends = starts + seconds
        self.spans.append((starts, ends))
        heapq.heappush(self._running, (ends, next(self._number), seconds, arch))

    def next_result(self) -> EvaluationResult:
        ends, _, seconds, arch = heapq.heappop(self._running)
        self._clock.wait(ends)
        with self._clock.elsewhere():
            accuracy = self._score(arch)["accuracy"]
        return EvaluationResult(arch, {"accuracy": accuracy}, seconds)

    def share_busy(self) -> float:
        """Share of the workers' time in which they evaluated, until the last candidate began."""
        first, last = self.spans[0][0], self.spans[-1][0]
        busy = sum(min(ends, last) - starts for starts, ends in self.spans)
        return busy / (self._count * (last - first))


class Charged:
    """Anything whose methods are charged to a clock."""

    def __init__(self, thing: object, clock: Clock, **names: str) -> None:
        self._thing, self._clock, self._names = thing, clock, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if name not in self._names:
            return found

        def charged(*arguments: Any) -> Any:
            with self._clock.charging(self._names[name]):
                return found(*arguments)

        return charged


def simulate(
    strategy_name: str, arguments: argparse.Namespace, count: int, seconds: float
) -> dict[str, Any]:
    settings = {"evaluator": f"{EVALUATOR}:score", "strategy": strategy_name}
    task = Task(make(SETTINGS | settings | {"seed": arguments.seed}))
    assert task.function is not None
    candidates = Candidates(task.budgeted, arguments.seed)
    clock = Clock()
    bare = make_strategy(strategy_name, candidates, task.objectives, seed=arguments.seed)
    strategy: Any = Charged(bare, clock, propose="propose", tell="tell")
    workers = Simulated(clock, arguments.workers, seconds, task.function, arguments.seed)
    pool: Any = Charged(workers, clock, submit="submit")
    done: list[Evaluation] = []
    ended_at = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        Live(Console(file=nowhere)).evaluations(count, 0) as show,
        Study(Path(folder) / "study.db", task.space, task.objectives) as study,
    ):
        for row, ended in _evaluate(strategy, pool, task.space, count, has_time=lambda: True):
            evaluation = _judged(task, bare, row, ended)
            with clock.charging("store"):
                study.add(evaluation)
            strategy.tell(row, evaluation)
            done.append(evaluation)
            show(done, task.objectives, task.worst, bare.status)
            ended_at.append(clock.own)
    spent = {name: 1e3 * clock.spent[name] / len(done) for name in PARTS}
    window = min(WINDOW, count // 2)
    fed = ended_at[: count - arguments.workers]  # a candidate began after each of these
    overhead, first, last = (
        1e3 * (part[-1] - part[0]) / (len(part) - 1)
        for part in (fed, fed[: window + 1], fed[-window - 1 :])
    )
    return {
        "what": f"{strategy_name}, {arguments.workers:,} workers of {seconds:g} s",
        "candidates": f"{count:,}",
        **{f"{name} ms": round(value, 2) for name, value in spent.items()},
        "rest ms": round(overhead - sum(spent.values()), 2),
        "overhead ms": round(overhead, 2),
        "first ms": round(first, 2),
        "last ms": round(last, 2),
        "busy": f"{workers.share_busy():.1%}",
        "kept busy": f"{int(1e3 * seconds / overhead):,}",
    }


PARTS = ("propose", "submit", "tell", "store")


class Host:
    """Stands for many workers: its calls run at the same time, and only wait."""

    async def evaluate(self, arch: Architecture) -> EvaluationResult:
        import asyncio

        await asyncio.sleep(0)
        return EvaluationResult(arch, {"accuracy": 0.5}, 0.0)

    async def pid(self) -> int:
        return os.getpid()


class Crowd(RayWorkers):
    """Many workers on a few processes: all that this process has to do for them is real."""

    def __init__(self, count: int, processes: int) -> None:
        import ray

        remote: Any = ray.remote
        host = remote(num_cpus=0, max_concurrency=count)(Host)
        self._hosts = itertools.cycle([host.remote() for _ in range(processes)])
        super().__init__(at_once, count)

    def _start(self) -> Any:
        return next(self._hosts)


def at_once(arch: Architecture) -> dict[str, float]:
    return {"accuracy": 0.5}


def through_ray(pool: RayWorkers, what: str, count: int, seed: int) -> dict[str, Any]:
    """Submitting to workers that are all busy, and taking results: as many as asked for."""
    task = Task(make(SETTINGS | {"evaluator": f"{EVALUATOR}:score"}))
    archs = iter(task.space.decode(task.space.sample(count, seed)))
    clock = Clock()
    for arch in itertools.islice(archs, pool.idle):  # all have begun
        pool.submit(arch)
    left = pool.idle == 0 and count
    ended = 0
    started = time.perf_counter()
    for arch in archs:
        with clock.charging("next"):
            assert pool.next_result().error is None
        ended += 1
        with clock.charging("submit"):
            pool.submit(arch)
    overhead = 1e3 * (time.perf_counter() - started) / max(1, ended)
    assert left
    return {
        "what": what,
        "candidates": f"{count:,}",
        "propose ms": 0.0,
        "submit ms": round(1e3 * clock.spent["submit"] / ended, 2),
        "tell ms": 0.0,
        "store ms": 0.0,
        "rest ms": round(1e3 * clock.spent["next"] / ended, 2),
        "overhead ms": round(overhead, 2),
        "first ms": "",
        "last ms": "",
        "busy": "",
        "kept busy": f"{int(60e3 / overhead):,} of 60 s",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--candidates", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--seconds", type=float, nargs="+", default=[3.0])
    parser.add_argument("--through-ray", type=int, default=2000, help="candidates of real actors")
    parser.add_argument("--strategy", nargs="+", default=STRATEGIES)
    parser.add_argument("--actors", type=int, default=16, help="real ones")
    parser.add_argument("--processes", type=int, default=2, help="that stand for the thousand")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [
        simulate(strategy, arguments, count, seconds)
        for strategy in arguments.strategy
        for count in arguments.candidates
        for seconds in arguments.seconds
    ]
    count = arguments.through_ray
    with ray_session(arguments.actors):
        real = RayWorkers(at_once, arguments.actors)
        rows.append(through_ray(real, f"Ray, {arguments.actors} actors", count, arguments.seed))
        crowd = Crowd(arguments.workers, arguments.processes)
        what = f"Ray, {arguments.workers:,} on {arguments.processes} processes"
        rows.append(through_ray(crowd, what, count, arguments.seed))
    emit("thousand_workers", rows, vars(arguments), arguments.json)


if __name__ == "__main__":
    main()
