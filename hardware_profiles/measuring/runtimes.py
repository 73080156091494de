"""Running a block or a network once, as each runtime would.

Knows onnxruntime on the CPU, and torch, eager or compiled, on any of its devices. Does not time.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, get_args

from hardware_profiles.measuring import standalone
from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError, unknown
from search_spaces.onnx.writer import inputs_of, write_onnx
from search_spaces.serial import Blocks

Runtime = Literal["onnxruntime", "torch", "torch-compile"]

Run = Callable[[], Any]


def check_runtime(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        UserError: for an unknown name.
    """
    for runtime in get_args(Runtime):
        if name == runtime:
            return runtime
    raise unknown("runtime", name, get_args(Runtime))


def versions(runtime: Runtime) -> dict[str, str]:
    """Versions of what runs."""
    package = runtime.partition("-")[0]
    try:
        return {package: version(package)}
    except PackageNotFoundError:
        raise UserError(f"{package} is not installed: pip install {package}") from None


def runner(
    blocks: Blocks, runtime: Runtime, *, threads: int, batch: int, torch_device: str = "cpu"
) -> Run:
    """A function that runs blocks once, on random input.

    Raises:
        UserError: for an op that the runtime cannot run.
    """
    if runtime == "onnxruntime":
        model = write_onnx(blocks).SerializeToString()
        run: Run = standalone.onnx_runner(model, taken(blocks), batch, threads)
        return run
    return _torch_runner(blocks, threads, batch, torch_device, compiled=runtime == "torch-compile")


def taken(blocks: Blocks) -> dict[str, dict[str, Any]]:
    """What blocks read from outside, as `standalone.onnx_runner` wants it."""
    return {
        name: {"shape": list(what.shape), "ids": what.ids}
        for name, what in inputs_of(blocks).items()
    }


def reference() -> Blocks:
    """The reference kernel: an inverted residual of a usual size, a fraction of a millisecond."""
    build = BlockBuilder(64, 28, 28)
    x = build.activation("a", build.conv("expand", build.input, 192), "relu")
    x = build.activation("b", build.conv("depthwise", x, 192, 3, groups=192), "relu")
    build.conv("project", x, 64)
    return [("reference", build.ops)]


def _torch_runner(blocks: Blocks, threads: int, batch: int, device: str, *, compiled: bool) -> Run:
    import torch

    from search_spaces.networks.modules import BlockModule, Network, channels_last

    torch.set_num_threads(threads)
    whole = Network(blocks) if len(blocks) > 1 else BlockModule(blocks[0][1])
    network: Callable[..., Any] = channels_last(whole).eval().to(device)
    for parameter in whole.parameters():
        parameter.requires_grad_(False).normal_(std=0.02)
    if compiled:
        network = torch.compile(_own_code(whole), dynamic=False)
    generator = torch.Generator().manual_seed(0)
    inputs: dict[str, torch.Tensor] = {}
    for name, what in inputs_of(blocks).items():
        shape = (batch, *what.shape)
        x = torch.randn(shape, generator=generator)
        if what.ids:
            x = torch.zeros(shape, dtype=torch.int64)
        elif x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        inputs[name] = x.to(device)
    first = inputs.pop("input", torch.zeros(batch, 1, device=device))
    arguments = [first, inputs] if inputs else [first]

    def run() -> None:
        with torch.inference_mode():
            network(*arguments)
            if device != "cpu":
                torch.cuda.synchronize(device)

    return run


def _own_code(network: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls the network, with a code object that no other function has.

    The compiler keeps a few versions of each code object and runs the next ones uncompiled, without
    a word: all blocks are instances of one class, so they would share one.
    """

    def call(*inputs: Any) -> Any:
        return network(*inputs)

    call.__code__ = call.__code__.replace(co_name=f"call_{id(network)}")
    return call
