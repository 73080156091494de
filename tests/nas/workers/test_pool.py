"""Evaluations in this process and on Ray actors, including actors that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from evaluators.accuracy.exit_accuracy import ExitAccuracy
from evaluators.data.files.images import load_data
from nas.engine.preparation import inherited_evaluator
from nas.engine.search import Outcome, search
from nas.progress import Quiet
from nas.run.specification import Specification
from nas.supernet.exit_supernet import ExitSupernet
from nas.workers.actors import RayWorkers, shared_evaluator
from nas.workers.cluster import ray_session
from nas.workers.opening import open_workers
from nas.workers.pool import ATTEMPTS, InProcess, evaluate
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError


@pytest.fixture(scope="module")
def archs(finished: Outcome) -> list[Architecture]:
    space = finished.task.space
    return list(dict.fromkeys(space.decode(space.sample(6, seed=1))))


@pytest.fixture(scope="module")
def ray_pool(finished: Outcome) -> Iterator[RayWorkers]:
    evaluator = inherited_evaluator(finished.task, finished.run, Quiet())
    # One processor more than the pool needs, for the worker that a test starts.
    with ray_session(3), open_workers(evaluator, 2) as pool:
        assert isinstance(pool, RayWorkers)
        yield pool


def _accuracy_of_all(pool: InProcess | RayWorkers, archs: list[Architecture]) -> dict[str, float]:
    waiting, found = list(archs), {}
    while len(found) < len(archs):
        while pool.idle and waiting:
            pool.submit(waiting.pop())
        ended = pool.next_result()
        assert ended.error is None
        found[ended.arch.id] = ended.metrics["accuracy"]
    return found


def test_ray_and_in_process_evaluations_agree(
    finished: Outcome, ray_pool: RayWorkers, archs: list[Architecture]
) -> None:
    evaluator = inherited_evaluator(finished.task, finished.run, Quiet())
    expected = _accuracy_of_all(InProcess(evaluator), archs)
    given = _accuracy_of_all(ray_pool, archs)
    # Workers have another number of threads: sums may be rounded in another order.
    assert given == pytest.approx(expected, abs=2 / 359)


def test_a_killed_worker_is_replaced_and_its_candidate_retried(
    ray_pool: RayWorkers, archs: list[Architecture]
) -> None:
    import ray

    replaced = ray_pool.replaced
    pids = [(actor, ray.get(actor.pid.remote())) for actor in ray_pool.actors]
    ray_pool.submit(archs[0])
    ((busy, _, _),) = ray_pool._running.values()
    os.kill(next(pid for actor, pid in pids if actor is busy), signal.SIGKILL)
    ended = ray_pool.next_result()
    assert ended.arch == archs[0]
    assert ended.error is None
    assert ray_pool.replaced == replaced + 1
    assert ray_pool.idle == 2


def test_a_candidate_that_kills_every_worker_fails_and_the_pool_lives(
    ray_pool: RayWorkers, archs: list[Architecture]
) -> None:
    def deadly(arch: Architecture) -> dict[str, float]:
        if arch == archs[0]:
            os._exit(1)
        return {"accuracy": 0.5}

    pool = RayWorkers(deadly, 1)
    pool.submit(archs[0])
    assert f"died {ATTEMPTS} times" in (pool.next_result().error or "")
    pool.submit(archs[1])
    assert pool.next_result().metrics == {"accuracy": 0.5}


def test_an_evaluator_with_early_exits_scores_the_same_when_it_is_shared() -> None:
    data = load_data("digits")
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    torch.manual_seed(0)
    evaluator = ExitAccuracy(ExitSupernet(space), data, data.train.images[:64])
    shared = shared_evaluator(evaluator)
    assert len(shared.pickled) < sum(array.nbytes for array in shared.arrays)
    rebuilt = shared.rebuild()
    assert rebuilt(space.smallest) == evaluator(space.smallest)
    assert rebuilt.data.extent("test") == 0


def test_a_search_on_ray_workers_keeps_the_budget_and_repeats_nothing(
    ray_pool: RayWorkers, quick: Specification, folder: Path
) -> None:
    outcome = search(quick, folder, workers=1)
    evaluations = outcome.run.evaluations()
    assert len({e.arch for e in evaluations}) == len(evaluations) == 8
    assert all(e.error is None and e.metrics["macs"] <= 200_000 for e in evaluations)


def test_without_workers_ray_is_never_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from nas.cli import main\n"
        "try: main(['search', '--max-flops', '200k', '--trials', '2', '--supernet-epochs', '.1',"
        f" '--train-epochs', '0', '--quiet', '--out', {str(tmp_path / 'run')!r}])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_an_evaluator_that_raises_or_gives_nan_is_a_failed_evaluation(
    archs: list[Architecture],
) -> None:
    def raises(arch: Architecture) -> dict[str, float]:
        raise RuntimeError("first line\nsecond line")

    class Wordless(Exception):
        def __str__(self) -> str:
            raise LookupError

    def raises_wordless(arch: Architecture) -> dict[str, float]:
        raise Wordless

    assert evaluate(raises, archs[0]).error == "RuntimeError: first line"
    assert evaluate(raises_wordless, archs[0]).error == "Wordless"
    assert evaluate(lambda arch: {"accuracy": float("nan")}, archs[0]).error == "accuracy is NaN"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_cluster_that_does_not_answer_is_an_error_before_any_training(
    quick: Specification, folder: Path, address: str
) -> None:
    with pytest.raises(UserError, match=r"no Ray cluster answers|malformed --ray-address"):
        search(quick, folder, workers=1, ray_address=address)
    assert not folder.exists()
