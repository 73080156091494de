"""The race of a search with a time of its own: candidates, rungs, the winner and its teacher.

Divides the time when it begins, and keeps the division in the run folder, so that the segments of a
resumed race are as long as those before. Knows the clock, the plan and the contest. Does not know
how candidates are proposed.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from evaluators.metrics import TRAINING_MS
from hardware_profiles.fitting.fitted import FittedLatency
from nas.engine.finish.plain import deliver
from nas.engine.timed_teacher import teacher_of, teachers_lead
from nas.progress import OnStep, Reporter
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.results import FinalScore
from nas.strategies.candidates import Candidates
from nas.task.task import Task
from nas.timed.clock import Clock
from nas.timed.contest import Contest, SegmentScore
from nas.timed.law import RANDOM_SPREAD, LearningLaw, law_spread
from nas.timed.plan import Rung, TimePlan, expected_end, plan_time
from nas.timed.proposals import RaceProposals
from nas.timed.speed import speed_file, timed_rows, training_speed
from nas.training.network import Teacher
from search_spaces.architecture import Architecture
from search_spaces.files import read_json, write_text
from search_spaces.space import Rows

PLAN = "plan.json"

LEFT = "left.json"
"""Name of the file with the seconds that were left after each rung, by its number."""

TEACHER = "teacher.json"
"""Name of the file with the architecture of the winner's teacher."""

PROPOSING = "evolution"
"""The strategy in whose place the law proposes the candidates."""

SURVEY, FAST = 256, 0.1
"""Random networks whose price is looked at, and the quantile that stands for the candidates'."""

MEASURING_SHARE, MOST_MEASURING = 0.04, 20.0
"""Share of the time, and seconds at most, for measuring the price of training."""

TIMING_SHARE = 0.01
"""Share of the time for timing those that the law prefers: the fitted price is most wrong where it
is lowest."""


@dataclass(frozen=True)
class TimedRace:
    """The race and the winner's training of a run; an evaluator: the first segment of a network."""

    task: Task
    run: Run
    clock: Clock
    reporter: Reporter

    @cached_property
    def plan(self) -> TimePlan:
        """The division of the time, as it was when the search began.

        Raises:
            UserError: if the time is too short for a single training.
        """
        file = self.run.folder / PLAN
        if file.exists():
            return _read(file)
        found = _divided(self.task, self.clock.left, self.speed, self.clock.spent)
        write_text(file, json.dumps(asdict(found), indent=2) + "\n")
        return found

    @cached_property
    def speed(self) -> FittedLatency:
        """The price of training on this machine."""
        return training_speed(self.task, measuring_seconds(self.clock.seconds), self.reporter)

    @cached_property
    def law(self) -> LearningLaw:
        """What networks should reach in the winner's time."""
        samples = len(self.task.data.batches("train"))
        return LearningLaw(self.task.space, self.speed, self.plan.final, samples)

    def proposals(self) -> RaceProposals:
        """The default strategy of the race."""
        task = self.task
        candidates = Candidates(task.budgeted, task.specification.seed)
        prior = task.priors.get(task.objectives[0].metric)
        return RaceProposals(candidates, task.objectives, self.law, self.trials, prior, self._timed)

    @property
    def trials(self) -> int:
        """Candidates of the race."""
        return self.plan.rungs[0].networks

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Train a candidate for the first segment.

        Returns:
            Its validation score, the epochs of its training, and milliseconds per sample.
        """
        ended = self._contest(self.clock.tick).segment(arch, 0, self.plan.rungs[0].seconds)
        self.clock.save()
        data = self.task.data
        trained = ended.epochs * len(data.batches("train"))
        return {
            data.metric: ended.score,
            "epochs": ended.epochs,
            TRAINING_MS: 1e3 * ended.seconds / max(1.0, trained),
        }

    @property
    def has_time(self) -> bool:
        """Whether there is time for another candidate."""
        rungs = self.plan.rungs
        later = sum(rung.networks * rung.seconds for rung in rungs[1:])
        end = self.plan.teacher + self.plan.final + self.plan.closing + later
        # Half a segment late is nearer to the plan than half a segment early.
        return self.clock.left - rungs[0].seconds / 2 > end

    def go_on(
        self, evaluations: Sequence[Evaluation]
    ) -> tuple[list[Evaluation], dict[str, float], int]:
        """Train the best further, rung by rung.

        Args:
            evaluations: the candidates after their first segment.

        Returns:
            The networks of the second rung, the best first; the last score of each, by id; and the
            number of segments of the winner.
        """
        known = {e.arch.id: self._contest(self.clock.tick).score(e.arch, 0) for e in evaluations}
        left = sorted((e for e in evaluations if e.feasible), key=self._expected(known, 0))
        scores: dict[str, float] = {}
        starters, segments = left[:1], 1
        for number, rung in enumerate(self.plan.rungs[1:], start=1):
            left = left[: rung.networks]
            # Segments that ended before a search was killed take no more time.
            contest = self._contest(self.clock.tick)
            waiting = sum(contest.score(e.arch, number) is None for e in left)
            if waiting and self.clock.left < self.plan.closing + waiting * rung.seconds:
                break
            for place, one in enumerate(left, start=1):
                name = f"rung {number + 1}: {place} of {len(left)}"
                with self.reporter.training(name, 1) as on_step:
                    ended = self._contest(on_step).segment(one.arch, number, rung.seconds)
                known[one.arch.id] = ended
                scores[one.arch.id] = ended.score
                self.clock.save()
            left = sorted(left, key=self._expected(known, number))
            starters = left if number == 1 else starters
            segments = number + 1
        order = {e.arch.id: place for place, e in enumerate(left)}
        return sorted(starters, key=lambda e: order.get(e.arch.id, len(order))), scores, segments

    def _left_after(self, rung: int) -> float:
        """Seconds that were left for the winner when the networks of a rung were first compared.

        A resumed race compares them as before, although less is left by then: otherwise another
        network than the one that trains already might win.
        """
        file = self.run.race / LEFT
        known: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            known |= read_json(file)
        if str(rung) not in known:
            left = self.clock.left - self.plan.teacher - self.plan.closing
            known[str(rung)] = max(0.0, left)
            write_text(file, json.dumps(known) + "\n")
        return known[str(rung)]

    def _expected(
        self, known: Mapping[str, SegmentScore | None], rung: int
    ) -> Callable[[Evaluation], float]:
        """What a network should reach as the winner, as a key for sorting: less is better.

        A network that learns fast at first is not preferred to one that needs longer.

        Args:
            known: the last score of each network, by id.
            rung: the last one that ended, from 0.
        """
        left = self._left_after(rung)

        def key(evaluation: Evaluation) -> float:
            ended = known[evaluation.arch.id]
            if ended is None or ended.epochs <= 0:
                return math.inf
            rows = self.task.space.encode([evaluation.arch])
            final = ended.epochs * (1 + left / max(ended.seconds, 1e-9))
            now, then = (
                float(self.law.after(rows, np.array([epochs]))[0])
                for epochs in (ended.epochs, final)
            )
            share = self.task.data.metric == "accuracy"
            reached = math.log(max(1e-4, 1 - ended.score)) if share else math.log(ended.score)
            return expected_end(reached, now, then, ended.epochs / final)

        return key

    def finish(self, arch: Architecture, segments: int, folder: Path) -> FinalScore:
        """Train the winner with the time that is left, score it on the test part, export it."""
        # A winner whose training began without a teacher ends without one, also with more time.
        begun = self._contest(self.clock.tick).checkpoint(arch, segments).exists()
        least = math.inf if begun else self.plan.teacher / 2
        teacher = self._teacher(least) if self.plan.teacher else None
        with self.reporter.training("winner", 1) as on_step:
            network = self._contest(on_step).finish(arch, segments, self._left_but(0.0), teacher)
        self.clock.save()
        return deliver(self.task, network, arch, folder, self.reporter)

    def _teacher(self, least: float) -> Teacher | None:
        """The winner's teacher, trained until the winner's own time begins; None if it is late.

        Args:
            least: seconds without which it does not begin.
        """
        file = self.run.race / TEACHER
        arch = teacher_of(self.task, self.law, self.plan.teacher, self._timed, file)
        left = self._left_but(self.plan.final)
        with self.reporter.training("teacher", 1) as on_step:
            teacher = self._contest(on_step).teach(arch, left, least)
        if teacher is None:
            self.reporter.note("The winner has no teacher: too little of its time was left")
        self.clock.save()
        return teacher

    def _left_but(self, kept: float) -> Callable[[], float]:
        """Returns the seconds that are left without those of score and export and some others."""
        return lambda: max(0.0, self.clock.left - self.plan.closing - kept)

    def _timed(self, rows: Rows) -> list[float]:
        """Time training steps of the first of some rows: milliseconds per sample."""
        return timed_rows(self.task, TIMING_SHARE * self.clock.seconds, rows)

    def _contest(self, on_step: OnStep) -> Contest:
        def step(done: int, steps: int, loss: float) -> None:
            self.clock.tick()
            on_step(done, steps, loss)

        return Contest(self.task, self.run, step, self.reporter.note)


def planned(task: Task, seconds: float, reporter: Reporter) -> tuple[float, TimePlan]:
    """What a search of `seconds` would do: seconds of measuring, and the division of the rest.

    The price of training is measured, unless it is known, and kept for the search.

    Raises:
        UserError: if the time is too short for a single training.
    """
    known = speed_file(task).exists()
    speed = training_speed(task, measuring_seconds(seconds), reporter)
    measuring = 0.0 if known else measuring_seconds(seconds)
    left = seconds - measuring
    return measuring, _divided(task, left, speed, measuring)


def _divided(task: Task, left: float, speed: FittedLatency, spent: float) -> TimePlan:
    """The division of the time that is left, by how unlike the candidates should be."""
    specification = task.specification
    judged = specification.strategy == PROPOSING
    return plan_time(
        left,
        step_seconds(task, speed),
        spread=law_spread(task.space) if judged else RANDOM_SPREAD,
        most=specification.trials if "trials" in specification.model_fields_set else None,
        spent=spent,
        lead=teachers_lead(task, speed, left),
    )


def measuring_seconds(seconds: float) -> float:
    """Longest time of measuring the price of training in a search of `seconds`."""
    return min(MOST_MEASURING, MEASURING_SHARE * seconds)


def step_seconds(task: Task, speed: FittedLatency) -> float:
    """Seconds of a training step of a network that trains fast for its budget.

    Those are the candidates; one in the middle of all may take five times as long.
    """
    rows = task.budgeted.sample(SURVEY, np.random.default_rng(task.specification.seed))
    milliseconds = float(np.quantile(speed.predict(task.space, rows), FAST))
    return milliseconds * task.schedule.timed_recipe.batch_size / 1e3


def _read(file: Path) -> TimePlan:
    content = read_json(file)
    content["rungs"] = tuple(Rung(**rung) for rung in content["rungs"])
    content["reasons"] = tuple(content["reasons"])
    return TimePlan(**content)
