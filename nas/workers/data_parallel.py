"""One training on several workers of a Ray cluster, each on its share of every batch.

Ray Train starts the workers, connects them and starts them again, fewer of them where a machine is
gone; here is what they do to each other's gradients, and where their checkpoints go. They are the
training loop's own, and lie in the file of the process that started the training: workers share no
disk. Batch norms see a worker's own share of a batch, and the first worker's statistics are kept.
Does not know what is trained.
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

from nas.training.job import Training, batch_of, run, steps_of
from nas.training.loop import CHECKPOINT_SECONDS
from nas.workers.cluster import gpus_for, pickle_by_value, ray_session
from nas.workers.mailbox import hosted, open_courier
from nas.workers.remote import Home, PeerLost, fit_away, follow, steps_done
from search_spaces.errors import UserError

BUCKET = 4_194_304
"""Elements that are sent at once: 16 MB of gradients."""

FAILURES = 16
"""How often workers may die before a training is given up; each costs what no checkpoint holds."""

SETTLE_SECONDS = 2.0
"""What a cluster has to notice that a machine is gone, before it is asked for room."""

NAME = "training"
"""The courier's name for it."""

_QUIET = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
"""Ray Train looks after its workers often, and leaves out what nobody here reads."""


class Distributed:
    """The ranks of `torch.distributed`'s process group, as `nas.fit.Ranks` wants them.

    Means weigh each rank by its share of a batch, so that they are the means over the batch.

    Args:
        batch: samples in a batch of all ranks together.
        device: where tensors are exchanged.
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._share = len(range(self.rank, batch, self.size)) / batch
        self._device = device
        self._flat = torch.empty(0)

    def share_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its mean over all ranks, 0 on those that have none.

        A parameter that has no gradient anywhere has none afterwards, as in a single process.
        """
        weights = [p for p in network.parameters() if p.requires_grad]
        elements = sum(weight.numel() for weight in weights)
        if len(self._flat) != elements + len(weights):
            self._flat = torch.empty(elements + len(weights), device=self._device)
        flat = self._flat.zero_()
        places = self._places(weights)
        have = [(p, w.grad) for p, w in zip(places, weights, strict=True) if w.grad is not None]
        if have:
            torch._foreach_copy_([place for place, _ in have], [grad for _, grad in have])
        flat.mul_(self._share)
        present = flat[elements:]
        present.copy_(torch.tensor([float(weight.grad is not None) for weight in weights]))
        self._sum(flat)
        for weight, place, count in zip(weights, places, present.tolist(), strict=True):
            weight.grad = place if count else None

    def _places(self, weights: list[nn.Parameter]) -> list[Tensor]:
        """Where each gradient lies in the flat one, in its parameter's own layout."""
        places, begin = [], 0
        for weight in weights:
            part = self._flat[begin : begin + weight.numel()]
            places.append(part.as_strided(weight.shape, weight.stride(), part.storage_offset()))
            begin += weight.numel()
        return places

    def mean(self, value: float) -> float:
        """The mean of a number over all ranks, the same on each."""
        total = torch.tensor([value * self._share], dtype=torch.float64, device=self._device)
        self._sum(total)
        return float(total.item())

    def _sum(self, flat: Tensor) -> None:
        try:
            for work in [dist.all_reduce(b, async_op=True) for b in flat.split(BUCKET)]:
                work.wait()
        except RuntimeError as error:
            raise PeerLost(str(error)) from error


def train_together(
    training: Training,
    checkpoint: Path | None = None,
    *,
    workers: int = 0,
    address: str | None = None,
    device: str = "cpu",
    on_step: Callable[[int, int, float], None] | None = None,
    say: Callable[[str], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> nn.Module:
    """Train, on Ray workers or in this process, and return the network.

    Args:
        training: sent to the workers, its tensors once a machine.
        checkpoint: see `nas.fit.fit`; at the end it holds the whole training.
        workers: how many train together, each with a processor of its own, and a GPU where the
            device is one; 0 trains here.
        address: a Ray cluster's address; without it a Ray of this machine is started.
        device: the device's name; each worker has its own `cuda`.
        on_step: see `nas.fit.fit`; after a worker's death some steps are told again.
        say: told in one line what is to be known.

    Raises:
        UserError: if nobody answers at the address or there are fewer processors, for more workers
            than a batch has samples, where workers die again and again, and for all that
            `nas.fit.fit` raises one for.
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
            ignore: Callable[..., None] = lambda *news: None  # noqa: E731
            home = Home(checkpoint, on_step or ignore, say or ignore)
            with ray_session(workers, address, gpus=gpus_for(device, workers)):
                _train_away(training, home, workers, device, checkpoint_seconds)
        # What has been trained elsewhere is the checkpoint, and nothing is left to do here.
        return run(
            training,
            torch.device(device),
            checkpoint=checkpoint,
            checkpoint_seconds=checkpoint_seconds,
            on_step=on_step,
            say=say,
        )


def _train_away(
    training: Training, home: Home, workers: int, device: str, checkpoint_seconds: float
) -> None:
    import ray

    from nas.workers.object_store import Apart

    pickle_by_value(training)
    start = {NAME: home.checkpoint.read_bytes()} if home.checkpoint.exists() else {}
    with open_courier(start) as courier:
        config = {
            "training": ray.put(Apart.of(training)),
            "courier": courier,
            "device": "cuda" if gpus_for(device, 1) else device,
            "checkpoint_seconds": checkpoint_seconds,
        }
        with hosted(_train, config, workers, env=_QUIET) as ended:
            failure = follow(courier, ended, {NAME: home})
    if failure is not None:
        raise UserError(
            f"workers died {FAILURES + 1} times while they trained: {failure}; what was trained "
            "is kept, and the same command goes on from there"
        )


def _train(config: dict[str, Any], workers: int) -> str | None:
    """Run Ray Train until the training has ended; why it is given up, if it is.

    Whoever begins again asks how many workers there is room for: Ray Train's own elastic scaling
    goes by reservations, which a search that was killed leaves behind for minutes.
    """
    from ray.train import ControllerError, WorkerGroupError

    gpu = config["device"] == "cuda"
    failures = 0
    interrupt = signal.getsignal(signal.SIGINT)
    with tempfile.TemporaryDirectory(prefix="train-") as folder:
        while True:
            ranks = min(workers, _room(gpu=gpu))
            try:
                if ranks:
                    _trainer(config, ranks, folder, gpu=gpu).fit()
                    return None
            except WorkerGroupError as error:
                failures += 1
                if failures > FAILURES:
                    return (str(error).splitlines() or ["no reason given"])[0]
            except ControllerError:
                pass  # there was no room after all
            finally:
                # Ray Train's own would keep what it has started alive.
                signal.signal(signal.SIGINT, interrupt)
            time.sleep(SETTLE_SECONDS)


def _room(*, gpu: bool) -> int:
    """How many workers the machines that are alive have room for, whoever is using them."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needed = ("CPU", "GPU") if gpu else ("CPU",)
    return sum(int(min(resources.get(kind, 0) for kind in needed)) for resources in alive)


def _trainer(config: dict[str, Any], ranks: int, folder: str, *, gpu: bool) -> Any:
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    # Another class to a type checker, which sees that of Ray Train's first version.
    run_config: Any = RunConfig
    failures: Any = FailureConfig
    return TorchTrainer(
        _train_rank,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=ranks,
            use_gpu=gpu,
            resources_per_worker={"CPU": 1, "GPU": 1} if gpu else {"CPU": 1},
        ),
        run_config=run_config(
            name=NAME,
            storage_path=folder,  # nothing is restored from what Ray Train writes
            failure_config=failures(max_failures=0, controller_failure_limit=0),
            logging_config=LoggingConfig("CRITICAL"),
        ),
    )


def _train_rank(config: dict[str, Any]) -> None:
    """What Ray Train runs in each worker."""
    import ray

    device, courier = torch.device(config["device"]), config["courier"]
    torch.set_num_threads(1)
    training: Training = ray.get(config["training"]).whole()
    ranks = Distributed(batch_of(training), device)
    attempt = torch.zeros(1, dtype=torch.int64, device=device)
    if ranks.rank == 0:
        attempt += ray.get(courier.begin.remote(NAME, ranks.size))
    dist.broadcast(attempt, 0)
    if attempt.item() == 0:
        return
    fit_away(
        training,
        courier,
        NAME,
        int(attempt.item()),
        device=device,
        ranks=ranks,
        checkpoint_seconds=config["checkpoint_seconds"],
    )
