"""One training on several workers of a Ray cluster, each on its share of every batch.

Ray Train starts the workers, connects them and starts them again, fewer of them where a machine is
gone; here is what they do to each other's gradients, and where their checkpoints go. They are the
training loop's own, and lie in the file of the process that started the training: workers share no
disk. Batch norms see a worker's own share of a batch, and the first worker's statistics are kept.
Does not know what is trained.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nas.cluster import gpus_for, pickle_by_value, ray_session
from nas.courier import open_courier
from nas.fit import CHECKPOINT_SECONDS
from nas.object_store import Apart
from nas.remote_training import Home, Make, PeerLost, fit_away, follow, steps_done
from search_spaces.errors import UserError

BUCKET = 4_194_304
"""Elements that are sent at once: 16 MB of gradients."""

FAILURES = 16
"""How often workers may die before a training is given up; each costs what no checkpoint holds."""

_QUIET = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


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
    make: Make,
    checkpoint: Path | None,
    *,
    workers: int,
    address: str | None = None,
    device: str = "cpu",
    on_step: Callable[[int, int, float], None] | None = None,
    say: Callable[[str], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> nn.Module:
    """The network of a training after it has run, on Ray workers or in this process.

    Args:
        make: makes the training; sent to the workers, with its tensors once a machine.
        checkpoint: see `nas.fit.fit`; at the end it holds the whole training.
        workers: how many train together, each with a processor of its own, or a GPU where the
            device is one; 0 trains here.
        address: a Ray cluster's address; without it a Ray of this machine is started.
        device: the device's name, `cuda` being each worker's own.

    Raises:
        UserError: if nobody answers at the address or there are fewer processors, for more workers
            than a batch has samples, and for all that `nas.fit.fit` raises one for.
    """
    with contextlib.ExitStack() as stack:
        if checkpoint is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="training-"))
            checkpoint = Path(folder) / "checkpoint.pt"
        here = make(torch.device(device))
        home = Home(checkpoint, on_step or Home.on_step, say or Home.say)
        if workers and steps_done(checkpoint) < here.steps:
            batch = min(here.recipe.batch_size, len(here.batches))
            if workers > batch:
                raise UserError(
                    f"{workers} workers cannot share a batch of {batch} samples: "
                    f"expected --workers {batch} at most, or a larger --batch-size"
                )
            stack.enter_context(ray_session(workers, address, gpus=gpus_for(device, workers)))
            _train_away(make, home, workers, batch, device, checkpoint_seconds)
            on_step = None
        here.run(
            checkpoint=checkpoint, checkpoint_seconds=checkpoint_seconds, on_step=on_step, say=say
        )
        return here.network


def _train_away(
    make: Make, home: Home, workers: int, batch: int, device: str, checkpoint_seconds: float
) -> None:
    import ray
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = device.startswith("cuda")
    scaling: dict[str, Any] = {
        "num_workers": (1, workers),  # as many as there is room for
        "use_gpu": gpu,
        "resources_per_worker": {"CPU": 1, "GPU": 1} if gpu else {"CPU": 1},
        "elastic_resize_monitor_interval_s": checkpoint_seconds,
    }
    running: dict[str, Any] = {
        "name": "training",
        "failure_config": FailureConfig(max_failures=FAILURES),
        "logging_config": LoggingConfig("CRITICAL"),
    }
    start = {"training": home.checkpoint.read_bytes()} if home.checkpoint.exists() else {}
    pickle_by_value(make)
    with open_courier(start) as courier, quiet_train(), tempfile.TemporaryDirectory() as folder:
        running["storage_path"] = folder  # nothing is restored from what Ray Train writes
        trainer = TorchTrainer(
            _train_rank,
            train_loop_config={
                "make": ray.put(Apart.of(make)),
                "courier": courier,
                "batch": batch,
                "device": "cuda" if gpu else device,
                "checkpoint_seconds": checkpoint_seconds,
            },
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=ScalingConfig(**scaling),
            run_config=RunConfig(**running),
        )
        failure: list[BaseException] = []

        def run() -> None:
            try:
                trainer.fit()
            except BaseException as error:
                failure.append(error)

        # In a thread, since Ray Train would keep this process's Ctrl-C for itself.
        thread = threading.Thread(target=run, name="train", daemon=True)
        thread.start()
        follow(courier, thread.is_alive, {"training": home})
        if failure:
            raise failure[0]
        if home.failure:
            raise RuntimeError(home.failure)


def _train_rank(config: dict[str, Any]) -> None:
    """What Ray Train runs in each worker."""
    import ray

    device, courier = torch.device(config["device"]), config["courier"]
    torch.set_num_threads(1)
    ranks = Distributed(config["batch"], device)
    attempt = torch.zeros(1, dtype=torch.int64, device=device)
    if ranks.rank == 0:
        attempt += ray.get(courier.begin.remote("training", ranks.size))
    dist.broadcast(attempt, 0)
    if attempt.item() == 0:
        return
    fit_away(
        ray.get(config["make"]).whole(),
        courier,
        "training",
        int(attempt.item()),
        device=device,
        ranks=ranks,
        checkpoint_seconds=config["checkpoint_seconds"],
    )


@contextlib.contextmanager
def quiet_train() -> Iterator[None]:
    """Ray Train without its logs, looking after its workers often."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
