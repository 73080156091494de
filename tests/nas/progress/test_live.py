"""What a search displays: lines outside a terminal, one screen within one."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from nas.progress import Live
from nas.progress.state import Best, Phase, State, duration, is_of
from nas.run.evaluation import Evaluation
from nas.run.objectives import objective
from search_spaces.architecture import Architecture

OBJECTIVES = (objective("accuracy"), objective("macs"))
PHASES = ("supernet", "search", "finalists", "winner")


def evaluation(accuracy: float, macs: float) -> Evaluation:
    arch = Architecture({"n": int(1000 * accuracy + macs)})
    return Evaluation(arch, {"accuracy": accuracy, "macs": macs})


class Heard(io.StringIO):
    """Text that tells when something with a word has been written."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[tuple[str, threading.Event]] = []

    def write(self, text: str) -> int:
        count = super().write(text)
        for word, event in self.wanted:
            if word in self.getvalue():
                event.set()
        return count

    def wait_for(self, word: str) -> None:
        event = threading.Event()
        self.wanted.append((word, event))
        if word not in self.getvalue():
            assert event.wait(60), self.getvalue()


def lines_of(act: Callable[[Live, Heard], None]) -> str:
    heard = Heard()
    act(Live(Console(file=heard, width=300), every=0.01), heard)
    return heard.getvalue()


def test_outside_a_terminal_a_line_comes_now_and_then_though_nothing_happens() -> None:
    def act(live: Live, heard: Heard) -> None:
        live.plan(PHASES, "at most 300k FLOPs", None)
        with live.training("supernet", 200) as on_step:
            on_step(50, 200, 2.5)
            heard.wait_for("25%, 50 of 200 steps; loss 2.500")
            heard.wait_for("then search, finalists, winner")

    said = lines_of(act)
    assert "\x1b" not in said
    assert "left of this phase" in said
    assert "✓ supernet" in said


def test_the_line_has_the_best_and_the_time_left() -> None:
    def act(live: Live, heard: Heard) -> None:
        live.plan(PHASES, "", lambda: 75.0)
        with live.evaluations(4, 0) as show:
            done = [evaluation(0.5, 100.0), evaluation(0.7, 200.0)]
            show(done, OBJECTIVES, {"macs": 1000.0}, "trees: τ 0.5")
            heard.wait_for("50%, 2 of 4 evaluations; best accuracy 70.00% at 200 FLOPs")
            heard.wait_for("1 min 15 s left")

    assert "trees: τ 0.5" in lines_of(act)


def test_a_phase_that_raises_leaves_no_tick_and_no_thread() -> None:
    before = threading.active_count()

    def act(live: Live, heard: Heard) -> None:
        try:
            with live.training("winner", 10):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass

    assert "✓" not in lines_of(act)
    assert threading.active_count() == before


def test_the_screen_of_a_terminal_has_the_whole_state() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, record=True)
    live = Live(console, Path("runs/first"))
    live.plan(PHASES, "at most 300k FLOPs", None)
    live.state.ended.append("supernet")
    with live.evaluations(100, 0) as show:
        show(
            [evaluation(0.5, 100.0), evaluation(0.4, 200.0)],
            OBJECTIVES,
            {"macs": 1000.0},
            "trees: τ 0.5",
        )
        plain = Console(file=io.StringIO(), width=100)
        plain.print(live._screen())
        text = plain.file.getvalue()  # type: ignore[attr-defined]
    assert "runs/first" in text
    assert "✓ supernet  ▸ search  · finalists  · winner" in text
    assert "2/100 evaluations" in text
    assert "accuracy 50.00% at 100 FLOPs (at most 300k FLOPs)" in text
    assert "1 networks, hypervolume" in text
    assert "unchanged for 0 evaluations" in text or "unchanged for 1 evaluations" in text
    assert "test" not in text
    assert len(text.splitlines()) <= 10


def test_a_terminal_is_left_with_a_line_for_each_phase() -> None:
    file = io.StringIO()
    live = Live(Console(file=file, width=80, force_terminal=True, color_system=None))
    with live.training("supernet", 3) as on_step:
        for step in (1, 2, 3):
            on_step(step, 3, 1.0)
    last = file.getvalue().splitlines()[-1]
    assert "✓ supernet" in last
    assert "loss 1.000" in last


def test_the_folder_is_the_first_line_and_comes_with_another_one() -> None:
    file = io.StringIO()
    live = Live(Console(file=file, width=80), Path("runs/first"))
    with live.starting():
        pass
    assert file.getvalue() == ""
    live.note("digits: train 1,079")
    live.note("more")
    assert file.getvalue().splitlines() == [
        "run folder: runs/first",
        "digits: train 1,079",
        "more",
    ]


def test_in_a_terminal_the_folder_is_said_at_once() -> None:
    file = io.StringIO()
    live = Live(Console(file=file, width=80, force_terminal=True), Path("runs/first"))
    with live.starting():
        assert "run folder: runs/first" in file.getvalue().splitlines()[0]


def test_phases_within_another_share_its_screen() -> None:
    def act(live: Live, heard: Heard) -> None:
        with live.training("rung 1: 1 of 2", 1), live.stage("measuring"):
            pass
        assert live.state.phase is None

    assert lines_of(act).count("✓") == 2


def test_what_is_to_come_follows_the_phase_that_is_going_on() -> None:
    state = State(phases=PHASES)
    assert state.to_come == list(PHASES)
    state.phase = Phase("measuring training steps")
    assert state.to_come == list(PHASES)
    state.ended, state.phase = ["supernet", "search"], Phase("finalist 2 of 4")
    assert state.to_come == ["winner"]
    state.phase = Phase("exporting to runs/x/winner")
    assert state.to_come == ["finalists", "winner"]


def test_names_belong_to_their_phase() -> None:
    assert is_of("finalist 1 of 4", "finalists")
    assert is_of("rung 2: 1 of 3", "rungs")
    assert not is_of("search", "supernet")


def test_time_left_follows_the_speed_of_this_session() -> None:
    phase = Phase("search", total=100, done=90, before=80, started=0.0)
    assert phase.seconds_left is not None
    assert abs(phase.seconds_left / phase.seconds - 1) < 1e-6
    assert Phase("search", total=100, done=80, before=80).seconds_left is None
    assert [duration(s) for s in (45, 200, 7500)] == ["45 s", "3 min 20 s", "2 h 05 min"]


def test_unchanged_evaluations_are_counted_by_the_hypervolume() -> None:
    best, worst = Best(), {"macs": 1000.0}
    done = [evaluation(0.5, 100.0)]
    best.update(done, OBJECTIVES, worst)
    assert (best.networks, best.unchanged) == (1, 0)
    done += [evaluation(0.4, 300.0), evaluation(0.3, 400.0)]
    best.update(done, OBJECTIVES, worst)
    assert best.unchanged == 2
    done += [evaluation(0.9, 300.0)]
    best.update(done, OBJECTIVES, worst)
    assert best.unchanged == 0


def test_without_a_reference_the_frontier_alone_counts_and_no_volume_is_named() -> None:
    best = Best()
    done = [evaluation(0.5, 100.0), evaluation(0.4, 300.0)]
    best.update(done, OBJECTIVES, {})
    assert best.line == "best accuracy 50.00% at 100 FLOPs"
    best.update([*done, evaluation(0.3, 400.0)], OBJECTIVES, {})
    assert best.unchanged == 1
    best.update([*done, evaluation(0.3, 400.0), evaluation(0.6, 90.0)], OBJECTIVES, {})
    assert (best.networks, best.unchanged) == (1, 0)
