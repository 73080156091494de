"""Ray, here or at an address: whether it answers, what it must have, how quiet it is.

Does not know what runs in it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

from search_spaces.errors import UserError
from search_spaces.space import SearchSpace

CONNECT_SECONDS = 10
"""Within this a cluster accepts a connection, and within this again it says something."""

OUR_PACKAGES = ("search_spaces", "hardware_profiles", "evaluators", "nas")

QUIET_TUNE = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nothing is restored from what Tune writes
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""Ray Tune without its tables, notes and logs: for the environment of the process it runs in."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of gRPC begins: the connection preface and empty settings (RFC 9113, 3.4)."""

_SETTINGS_FRAME = 4


@contextlib.contextmanager
def ray_session(count: int, address: str | None = None, *, gpus: int = 0) -> Iterator[None]:
    """A Ray with at least so many processors and GPUs, ended again unless it was there before.

    Raises:
        UserError: if nobody answers at the address, or Ray has fewer of them at the start.
    """
    import ray

    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    owns = not ray.is_initialized()
    try:
        if owns and address:
            check_reachable(address)
            ray.init(address=address, **quiet)
        elif owns:
            # Not one that somebody has left running on this machine.
            ray.init(address="local", num_cpus=count, include_dashboard=False, **quiet)
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {error}") from error
    try:
        resources = ray.cluster_resources()
        for wanted, kind, each in ((count, "CPU", ""), (gpus, "GPU", " with a GPU each")):
            given = int(resources.get(kind, 0))
            # Whoever began was told; a cluster that has lost machines since is still one.
            if owns and wanted > given:
                raise UserError(
                    f"--workers {wanted}{each} is more than the {given} {kind}s Ray has"
                )
        yield
    finally:
        if owns:
            ray.shutdown()


def check_reachable(address: str) -> None:
    """Raise a `UserError` where no Ray cluster listens, within 2 * `CONNECT_SECONDS`.

    Ray itself waits for minutes.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"malformed --ray-address '{address}': expected HOST:PORT or auto")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return  # what is said there is encrypted
            connection.sendall(_PREFACE)
            answer = connection.recv(9)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"no Ray cluster answers at {address}: {reason}") from error
    # A server of gRPC begins with a frame of settings, too.
    if len(answer) < 4 or answer[3] != _SETTINGS_FRAME:
        raise UserError(f"what answers at {address} is no Ray cluster")


def gpus_for(device: str, count: int) -> int:
    """How many GPUs so many workers take on a device."""
    return count if device.startswith("cuda") else 0


def pickle_by_value(sent: object) -> None:
    """Send a user's own modules along: workers cannot import a file given by its path.

    Args:
        sent: what is sent: a function, or an object with a `function`, a `space` or a `supernet`.
    """
    import ray.cloudpickle as cloudpickle

    # A wrapper's own class is known everywhere; what it wraps may be the user's.
    functions: list[Any] = [getattr(sent, "function", sent)]
    space = getattr(getattr(sent, "supernet", sent), "space", None)
    if isinstance(space, SearchSpace):
        functions += [block.ops for block in space.blocks]
    for function in functions:
        name = getattr(function, "__module__", None)
        if name and name.split(".")[0] not in OUR_PACKAGES and name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])
