"""Trains one network on several workers of a Ray cluster, each on its share of every batch.

Ray Train starts and connects the workers; after the loss of a machine, a new attempt starts with
the workers that remain. This module averages gradients over the workers. Checkpoints are those of
the training loop and are written to a file of the process that started the training, since workers
share no disk. Batch norms use a worker's own share of a batch, and the statistics of the first
worker are kept. Knows Ray Train and `torch.distributed`. Does not know what is trained.
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nas.training.checkpoint import steps_done
from nas.training.job import TrainingJob, batch_of, run_training, steps_of
from nas.training.loop import CHECKPOINT_SECONDS
from nas.workers.cluster import gpus_for, ray_session
from nas.workers.remote import (
    AttemptLost,
    RemoteTrainings,
    UpdateHandler,
    run_on_workers,
    train_in_worker,
)
from search_spaces.errors import UserError

BUCKET_ELEMENTS = 4_194_304
"""Elements that are reduced at once: 16 MB of gradients."""

MAX_FAILURES = 16
"""Number of failures of workers after which a training is given up; each repeats the steps since
the last checkpoint."""

NODE_LOSS_SECONDS = 2.0
"""Time for a cluster to notice the loss of a machine, before its resources are counted."""

TRAINING = "training"
"""Name of the training in the mailbox."""

_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
"""Make Ray Train check its workers often and record no metrics, which are not used."""


class DistributedRanks:
    """The ranks of `torch.distributed`'s process group; implements `nas.training.loop.Ranks`.

    Means over ranks are weighted by each rank's share of a batch, so they are means over the batch.

    Args:
        batch: number of samples in a batch of all ranks together.
        device: device of the tensors that are reduced.
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._share = len(range(self.rank, batch, self.size)) / batch
        self._device = device
        self._flat = torch.empty(0)

    def share_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its mean over all ranks; a missing gradient counts as 0.

        A parameter without a gradient on every rank has none afterwards, as in a single process.
        """
        weights = [p for p in network.parameters() if p.requires_grad]
        elements = sum(weight.numel() for weight in weights)
        if len(self._flat) != elements + len(weights):
            self._flat = torch.empty(elements + len(weights), device=self._device)
        flat = self._flat.zero_()
        views = self._views(weights)
        have = [(v, w.grad) for v, w in zip(views, weights, strict=True) if w.grad is not None]
        if have:
            torch._foreach_copy_([view for view, _ in have], [grad for _, grad in have])
        flat.mul_(self._share)
        present = flat[elements:]
        present.copy_(torch.tensor([float(weight.grad is not None) for weight in weights]))
        self._sum(flat)
        for weight, view, count in zip(weights, views, present.tolist(), strict=True):
            weight.grad = view if count else None

    def _views(self, weights: list[nn.Parameter]) -> list[Tensor]:
        """Views of the flat tensor for each gradient, in the layout of its parameter."""
        views, begin = [], 0
        for weight in weights:
            part = self._flat[begin : begin + weight.numel()]
            views.append(part.as_strided(weight.shape, weight.stride(), part.storage_offset()))
            begin += weight.numel()
        return views

    def mean(self, value: float) -> float:
        """Mean of a number over all ranks; equal on each."""
        total = torch.tensor([value * self._share], dtype=torch.float64, device=self._device)
        self._sum(total)
        return float(total.item())

    def _sum(self, flat: Tensor) -> None:
        try:
            for work in [dist.all_reduce(b, async_op=True) for b in flat.split(BUCKET_ELEMENTS)]:
                work.wait()
        except RuntimeError as error:
            raise AttemptLost(str(error)) from error


def train_data_parallel(
    training: TrainingJob,
    checkpoint: Path | None = None,
    *,
    workers: int = 0,
    address: str | None = None,
    device: str = "cpu",
    on_step: Callable[[int, int, float], None] | None = None,
    watch: Callable[[nn.Module], None] | None = None,
    on_message: Callable[[str], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> nn.Module:
    """Train a network on Ray workers or in this process.

    Args:
        training: sent to the workers, its tensors once per machine.
        checkpoint: see `nas.training.loop.fit`; at the end it contains the complete training.
        workers: number of workers, each with one processor, and one GPU if the device is one; 0
            trains in this process.
        address: address of a Ray cluster; without it, Ray is started on this machine.
        device: name of the device; on a GPU, each worker has its own `cuda`.
        on_step: see `nas.training.loop.fit`; steps that are repeated after the death of a worker
            are reported again.
        watch: see `nas.training.loop.fit`; not called for steps on workers.
        on_message: called with each message of the training, one line each.
        checkpoint_seconds: see `nas.training.loop.fit`.

    Returns:
        The trained network.

    Raises:
        UserError: if no cluster answers at the address or it has too few processors, for more
            workers than samples in a batch, after `MAX_FAILURES` failures of workers, and see
            `nas.training.loop.fit`.
    """
    with contextlib.ExitStack() as stack:
        if checkpoint is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="training-"))
            checkpoint = Path(folder) / "checkpoint.pt"
        if workers and steps_done(checkpoint) < steps_of(training):
            if workers > (batch := batch_of(training)):
                raise UserError(
                    f"{workers} workers cannot share a batch of {batch} samples: "
                    f"expected --workers {batch} at most, or a larger --batch-size"
                )
            ignore: Callable[..., None] = lambda *args: None  # noqa: E731
            handler = UpdateHandler(checkpoint, on_step or ignore, on_message or ignore)
            with ray_session(workers, address, gpus=gpus_for(device, workers)):
                _train_on_workers(training, handler, workers, device, checkpoint_seconds)
        # After a remote training, this only restores the network from the complete checkpoint.
        return run_training(
            training,
            torch.device(device),
            checkpoint=checkpoint,
            checkpoint_seconds=checkpoint_seconds,
            on_step=on_step,
            watch=watch,
            on_message=on_message,
        )


def _train_on_workers(
    training: TrainingJob,
    handler: UpdateHandler,
    workers: int,
    device: str,
    checkpoint_seconds: float,
) -> None:
    failure = run_on_workers(
        _train,
        workers,
        jobs={TRAINING: training},
        handlers={TRAINING: handler},
        device=device,
        checkpoint_seconds=checkpoint_seconds,
        env=_ENVIRONMENT,
    )
    if failure is not None:
        raise UserError(
            f"workers died {MAX_FAILURES + 1} times during the training: {failure}; the last "
            "checkpoint is kept, and the same command resumes from it"
        )


def _train(trainings: RemoteTrainings, workers: int) -> str | None:
    """Run Ray Train until the training has ended; return the reason if it is given up.

    Each attempt counts the workers for which there is room: Ray Train's own elastic scaling counts
    reservations, which a killed search leaves behind for minutes.
    """
    from ray.train import ControllerError, WorkerGroupError

    gpu = trainings.device == "cuda"
    failures = 0
    interrupt = signal.getsignal(signal.SIGINT)
    with tempfile.TemporaryDirectory(prefix="train-") as folder:
        while True:
            ranks = min(workers, _capacity(gpu=gpu))
            try:
                if ranks:
                    _trainer(trainings, ranks, folder, gpu=gpu).fit()
                    return None
            except WorkerGroupError as error:
                failures += 1
                if failures > MAX_FAILURES:
                    return (str(error).splitlines() or ["no reason given"])[0]
            except ControllerError:
                pass  # there was no room after all
            finally:
                # Ray Train's own handler would keep its workers alive.
                signal.signal(signal.SIGINT, interrupt)
            time.sleep(NODE_LOSS_SECONDS)


def _capacity(*, gpu: bool) -> int:
    """Number of workers that fit on the machines that are alive, including resources in use."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needed = ("CPU", "GPU") if gpu else ("CPU",)
    return sum(int(min(resources.get(kind, 0) for kind in needed)) for resources in alive)


def _trainer(trainings: RemoteTrainings, ranks: int, folder: str, *, gpu: bool) -> Any:
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    # Type checkers see the classes of Ray Train's first version.
    run_config: Any = RunConfig
    failures: Any = FailureConfig
    return TorchTrainer(
        _train_rank,
        train_loop_config={"trainings": trainings},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=ranks,
            use_gpu=gpu,
            resources_per_worker={"CPU": 1, "GPU": 1} if gpu else {"CPU": 1},
        ),
        run_config=run_config(
            name=TRAINING,
            storage_path=folder,  # Ray Train's own files are never restored
            failure_config=failures(max_failures=0, controller_failure_limit=0),
            logging_config=LoggingConfig("CRITICAL"),
        ),
    )


def _train_rank(config: dict[str, Any]) -> None:
    """The function that Ray Train runs in each worker."""
    trainings: RemoteTrainings = config["trainings"]
    device = torch.device(trainings.device)
    torch.set_num_threads(1)
    job = trainings.job(TRAINING)
    ranks = DistributedRanks(batch_of(job), device)
    attempt = torch.zeros(1, dtype=torch.int64, device=device)
    if ranks.rank == 0:
        attempt += trainings.start_attempt(TRAINING, ranks.size)
    dist.broadcast(attempt, 0)
    if attempt.item() == 0:
        return
    train_in_worker(job, trainings, TRAINING, int(attempt.item()), ranks=ranks)
