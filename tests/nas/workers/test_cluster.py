"""A search on a cluster of three machines that loses some of them, or its own process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nas.engine.preparation import supernet_training
from nas.engine.search import search
from nas.progress import OnStep, Quiet, ShowEvaluations
from nas.run import specification as spec
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.task.task import Task
from nas.training.checkpoint import steps_done
from nas.training.job import steps_of
from nas.workers.cluster import check_reachable, ray_session
from nas.workers.data_parallel import train_data_parallel
from nas.workers.opening import open_workers
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError


class Machines:
    """A cluster: a head without processors, where searches run, and three machines with one each.

    Each machine also declares a GPU, which does not exist.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.address = str(self._cluster.address)
        self._nodes: list[Any] = []
        self.complete()

    def complete(self) -> None:
        """Replace the machines that were lost."""
        self._nodes += [
            self._cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(3 - len(self._nodes))
        ]

    def lose_one(self) -> None:
        """Kill a machine and all its processes."""
        self._cluster.remove_node(self._nodes.pop(), allow_graceful=False)

    def __len__(self) -> int:
        return len(self._nodes)

    def shutdown(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machines]:
    before = dict(os.environ)
    machines = Machines()
    yield machines
    machines.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def machines(cluster: Machines) -> Machines:
    cluster.complete()
    return cluster


class Losing(Quiet):
    """Kills one machine at a step of the supernet's training and one after some evaluations."""

    def __init__(
        self, machines: Machines, *, step: int | None = None, evaluation: int | None = None
    ) -> None:
        self._machines = machines
        self._step = step
        self._evaluation = evaluation
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def training(self, name: str, steps: int) -> Iterator[OnStep]:
        def on_step(done: int, steps: int, loss: float) -> None:
            if name == "supernet" and done == self._step:
                self._step = None
                self._machines.lose_one()

        yield on_step

    @contextmanager
    def evaluations(self, trials: int, done: int) -> Iterator[ShowEvaluations]:
        def show(done: Sequence[Evaluation], *others: object) -> None:
            if len(done) == self._evaluation:
                self._evaluation = None
                self._machines.lose_one()

        yield show


def logging_evaluator(folder: Path, seconds: float) -> str:
    """A slow evaluator that appends the id of its machine to a file for each architecture."""
    log = folder / "log"
    log.mkdir()
    file = folder / "slow_evaluator.py"
    file.write_text(
        "import pathlib, time\n"
        "import ray\n"
        "def score(arch):\n"
        f"    with (pathlib.Path({str(log)!r}) / arch.id).open('a') as file:\n"
        "        file.write(ray.get_runtime_context().get_node_id() + '\\n')\n"
        f"    time.sleep({seconds})\n"
        "    return {'accuracy': sum(v for v in arch.values() if isinstance(v, int)) / 1000}\n"
    )
    return f"{file}:score"


def searching(folder: Path, seconds: float, trials: int) -> dict[str, Any]:
    return {
        "space": "mobilenet-tiny",
        "evaluator": logging_evaluator(folder, seconds),
        "strategy": "random",
        "high": {"macs": 300_000},
        "trials": trials,
    }


def test_a_machine_lost_during_evaluations_loses_none_and_repeats_no_finished_one(
    machines: Machines, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reporter = Losing(machines, evaluation=8)
    specification = spec.make(searching(tmp_path, seconds=0.2, trials=24))
    outcome = search(
        specification,
        tmp_path / "run",
        workers=3,
        ray_address=machines.address,
        reporter=reporter,
    )
    assert len(machines) == 2
    evaluations = outcome.run.evaluations()
    assert len(evaluations) == len({e.arch for e in evaluations}) == 24
    assert all(e.error is None for e in evaluations)
    ran = [file.read_text().split() for file in (tmp_path / "log").iterdir()]
    assert len(ran) == 24
    assert len(Counter(node for nodes in ran for node in nodes)) == 3
    # Only the evaluation on the lost machine ran again.
    assert sum(len(nodes) for nodes in ran) <= 25
    assert capfd.readouterr().out == ""


def test_more_workers_or_gpus_than_the_cluster_has_are_refused_in_one_line(
    machines: Machines,
) -> None:
    with (
        pytest.raises(UserError, match=r"^--workers 9 is more than the \d CPUs Ray has$"),
        ray_session(9, machines.address),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"^--workers 9 with a GPU each is more than the \d GPUs"),
        ray_session(1, machines.address, gpus=9),
    ):
        pass


class OnGPU(torch.nn.Module):
    """A network that claims to be on a GPU."""

    def parameters(self, recurse: bool = True) -> Any:
        yield SimpleNamespace(device=torch.device("cuda", 0))


@dataclass
class CountsGPUs:
    """Returns the number of GPUs that Ray has assigned to the worker."""

    supernet: OnGPU

    def __call__(self, arch: Architecture) -> dict[str, float]:
        import ray

        return {"gpus": len(ray.get_gpu_ids())}


def test_a_worker_gets_a_gpu_of_its_own_where_the_weights_are_on_one(machines: Machines) -> None:
    space = load_space("mobilenet-tiny", image_size=8)
    archs = space.decode(space.sample(2, seed=0))
    for evaluator, expected in ((CountsGPUs(OnGPU()), 1.0), (without_gpu, 0.0)):
        with open_workers(evaluator, 2, machines.address) as pool:
            for arch in archs:
                pool.submit(arch)
            assert [pool.next_result().metrics["gpus"] for _ in archs] == [expected] * len(archs)


def without_gpu(arch: Architecture) -> dict[str, float]:
    import ray

    return {"gpus": len(ray.get_gpu_ids())}


# Addresses where no cluster is


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """An address that accepts connections and sends `answer`, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    if answer is not None:
                        connection.sendall(answer)
                    connection.recv(100)
                    time.sleep(2)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, r"no Ray cluster answers at 127\.0\.0\.1:\d+: timed out$"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", r"the server at \S+ is not a Ray cluster$"),
        (b"", r"no Ray cluster answers|is not a Ray cluster"),
    ],
)
def test_a_server_that_is_not_a_ray_cluster_is_recognised(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, message: str
) -> None:
    monkeypatch.setattr("nas.workers.cluster.CONNECT_SECONDS", 0.3)
    with listening(answer) as address, pytest.raises(UserError, match=message):
        check_reachable(address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1: Connection refused"),
        ("nobody.invalid:6379", "no Ray cluster answers at nobody.invalid:6379"),
        ("6379", "malformed --ray-address '6379': expected HOST:PORT or auto"),
        ("127.0.0.1:", "malformed --ray-address"),
    ],
)
def test_a_wrong_address_is_an_error(address: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        check_reachable(address)


def test_a_process_with_ray_answers_a_signal_as_before() -> None:
    """Ray's own handler ends the process without a checkpoint, once even by SIGABRT."""

    class Answered(Exception):
        pass

    def answer(number: int, frame: object) -> None:
        raise Answered

    before = signal.signal(signal.SIGTERM, answer)
    try:
        with ray_session(1), pytest.raises(Answered):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_cluster_is_reachable(machines: Machines) -> None:
    check_reachable(machines.address)


@pytest.mark.slow
def test_a_machine_lost_while_a_supernet_trains_costs_the_steps_since_the_checkpoint(
    machines: Machines, tmp_path: Path
) -> None:
    settings = {"space": "vit-tiny", "data": "digits", "supernet_epochs": 2.0}
    training = supernet_training(Task(spec.make(settings)))
    checkpoint = tmp_path / "supernet.pt"
    messages: list[str] = []
    steps: list[int] = []

    def on_step(done: int, all_steps: int, loss: float) -> None:
        steps.append(done)
        if len(machines) == 3 and steps_done(checkpoint) > 0:
            machines.lose_one()

    train_data_parallel(
        training,
        checkpoint,
        workers=3,
        address=machines.address,
        on_step=on_step,
        on_message=messages.append,
        checkpoint_seconds=0.5,
    )
    assert steps_done(checkpoint) == steps_of(training)
    (message,) = messages
    found = re.fullmatch(r"resumes from step (\d+), with 2 workers", message)
    assert found is not None, message
    kept = int(found[1])
    after = list(range(kept + 1, steps_of(training) + 1))
    before = steps[: -len(after)]
    assert steps == [*before, *after]
    assert before == list(range(1, len(before) + 1))
    assert len(before) >= kept > 0


@pytest.mark.slow
def test_a_search_that_loses_two_of_three_machines_ends_as_it_would_have(
    machines: Machines, tmp_path: Path
) -> None:
    """One during the supernet's training, one during the evaluations."""
    settings: dict[str, Any] = {"space": "mobilenet-tiny", "data": "digits", "trials": 12}
    settings |= {"high": {"macs": 200_000}, "supernet_epochs": 1.0, "train_epochs": 0.5}
    reporter = Losing(machines, step=5, evaluation=4)
    outcome = search(
        spec.make(settings),
        tmp_path / "run",
        workers=3,
        ray_address=machines.address,
        reporter=reporter,
    )
    assert len(machines) == 1
    evaluations = outcome.run.evaluations()
    assert len(evaluations) == len({e.arch for e in evaluations}) == 12
    assert all(e.error is None and e.metrics["macs"] <= 200_000 for e in evaluations)
    assert any("resumes from step" in note for note in reporter.notes)
    assert outcome.summary.winner.score.value > 0.2


@pytest.mark.slow
def test_a_killed_driver_resumes_on_the_cluster_and_evaluates_nothing_twice(
    machines: Machines, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = searching(tmp_path, seconds=0.5, trials=20)
    command = [sys.executable, "-m", "nas.cli", "search", "--out", str(folder), "--quiet"]
    command += ["--space", settings["space"], "--evaluator", settings["evaluator"]]
    command += ["--strategy", "random", "--max-flops", "300k", "--trials", "20"]
    command += ["--workers", "3", "--ray-address", machines.address]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    wait(lambda: process.poll() is not None or len(recorded(folder)) >= 5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = recorded(folder)
    assert 5 <= len(before) < 20
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL)
    after = recorded(folder)
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == 20


def recorded(folder: Path) -> list[str]:
    """Ids in the study of a run that another process is writing."""
    try:
        return [evaluation.arch.id for evaluation in Run(folder).evaluations()]
    except UserError:
        return []


def wait(until: Callable[[], bool]) -> None:
    while not until():
        time.sleep(0.3)
