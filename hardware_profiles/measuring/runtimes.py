"""Run a block or a network once on a runtime.

Knows onnxruntime on the CPU, and torch on any of its devices: eager, compiled, or a training step
(forward, backward, optimiser). Does not measure times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, Protocol, get_args

from hardware_profiles.measuring.standalone import Runner, onnx_runner
from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError, unknown
from search_spaces.onnx.writer import inputs_of, write_onnx
from search_spaces.serial import Blocks

Runtime = Literal["onnxruntime", "torch", "torch-compile", "training"]
"""Names of the runtimes. `training` is a step of training in torch."""


class Optimizer(Protocol):
    """What a training step needs of an optimiser; gradients become None by default in torch."""

    def step(self) -> object:
        """Update the weights."""
        ...

    def zero_grad(self) -> object:
        """Remove all gradients."""
        ...


def momentum_sgd(network: Any) -> Optimizer:
    """The usual optimiser of a network that has parameters."""
    import torch

    return torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True)


@dataclass(frozen=True)
class TrainingStep:
    """A step of training: forward, backward, optimiser."""

    batch: int
    """Number of samples."""
    threads: int = 1
    torch_device: str = "cpu"
    make_optimizer: Callable[[Any], Optimizer] = momentum_sgd
    """Makes the optimiser of a network, which may cost as much as the rest of the step."""


def check_runtime(name: str) -> Runtime:
    """Return the runtime of a name.

    Raises:
        UserError: if the name is unknown.
    """
    for runtime in get_args(Runtime):
        if name == runtime:
            return runtime
    raise unknown("runtime", name, get_args(Runtime))


def versions(runtime: Runtime) -> dict[str, str]:
    """Return the version of the runtime's package, by its name.

    Raises:
        UserError: if the package is not installed.
    """
    package = "torch" if runtime == "training" else runtime.partition("-")[0]
    try:
        return {package: version(package)}
    except PackageNotFoundError:
        raise UserError(f"{package} is not installed: pip install {package}") from None


def runner(
    blocks: Blocks, runtime: Runtime, *, threads: int, batch: int, torch_device: str = "cpu"
) -> Runner:
    """Return a function that runs blocks once, on random input.

    Args:
        blocks: one block, or all blocks of a network.
        runtime: the runtime.
        threads: number of threads.
        batch: number of samples per run.
        torch_device: torch device, for the torch runtimes.

    Raises:
        UserError: if the runtime does not support an op.
    """
    if runtime == "onnxruntime":
        model = write_onnx(blocks).SerializeToString()
        run: Runner = onnx_runner(model, input_specs(blocks), batch, threads)
        return run
    if runtime == "training":
        return training_runner(blocks, TrainingStep(batch, threads, torch_device))
    return _torch_runner(blocks, threads, batch, torch_device, compiled=runtime == "torch-compile")


def input_specs(blocks: Blocks) -> dict[str, dict[str, Any]]:
    """Return the inputs of blocks from outside them, as `standalone.onnx_runner` expects them."""
    return {
        name: {"shape": list(spec.shape), "ids": spec.ids}
        for name, spec in inputs_of(blocks).items()
    }


def reference_blocks() -> Blocks:
    """Return the reference kernel: an inverted residual that takes a fraction of a millisecond."""
    build = BlockBuilder(64, 28, 28)
    x = build.activation("a", build.conv("expand", build.input, 192), "relu")
    x = build.activation("b", build.conv("depthwise", x, 192, 3, groups=192), "relu")
    build.conv("project", x, 64)
    return [("reference", build.ops)]


def _torch_runner(
    blocks: Blocks, threads: int, batch: int, device: str, *, compiled: bool
) -> Runner:
    import torch

    torch.set_num_threads(threads)
    whole = _network(blocks, device).eval()
    for parameter in whole.parameters():
        parameter.requires_grad_(False).normal_(std=0.02)
    network: Callable[..., Any] = whole
    if compiled:
        network = torch.compile(_with_own_code_object(whole), dynamic=False)
    arguments = _arguments(blocks, batch, device)

    def run() -> None:
        with torch.inference_mode():
            network(*arguments)
            if device != "cpu":
                torch.cuda.synchronize(device)

    return run


def training_runner(blocks: Blocks, step: TrainingStep) -> Runner:
    """Return a function that trains blocks for one step, on random input."""
    import torch

    torch.set_num_threads(step.threads)
    device = step.torch_device
    network = _network(blocks, device).train()
    parameters = list(network.parameters())
    optimizer = step.make_optimizer(network) if parameters else None
    first, *outside = _arguments(blocks, step.batch, device)
    if len(blocks) == 1 and first.is_floating_point():
        first.requires_grad_()  # within a network, the gradient goes on to the block before

    def run() -> None:
        output = network(first, *outside)
        if output.requires_grad:
            output.backward(torch.ones_like(output))
        if optimizer is not None:
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            optimizer.zero_grad()
        first.grad = None
        if device != "cpu":
            torch.cuda.synchronize(device)

    return run


def _network(blocks: Blocks, device: str) -> Any:
    from search_spaces.networks.modules import BlockModule, Network, channels_last

    whole = Network(blocks) if len(blocks) > 1 else BlockModule(blocks[0][1])
    return channels_last(whole).to(device)


def _arguments(blocks: Blocks, batch: int, device: str) -> list[Any]:
    """Random inputs: the first one's tensor, then the others by name if there are any."""
    import torch

    generator = torch.Generator().manual_seed(0)
    inputs: dict[str, torch.Tensor] = {}
    for name, spec in inputs_of(blocks).items():
        shape = (batch, *spec.shape)
        x = torch.randn(shape, generator=generator)
        if spec.ids:
            x = torch.zeros(shape, dtype=torch.int64)
        elif x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        inputs[name] = x.to(device)
    first = inputs.pop("input", torch.zeros(batch, 1, device=device))
    return [first, inputs] if inputs else [first]


def _with_own_code_object(network: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls the network, with a separate code object.

    The compiler caches a limited number of versions per code object and silently runs further ones
    uncompiled. All blocks are instances of one class, so they would share a code object.
    """

    def call(*inputs: Any) -> Any:
        return network(*inputs)

    call.__code__ = call.__code__.replace(co_name=f"call_{id(network)}")
    return call
