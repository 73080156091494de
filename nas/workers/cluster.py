"""Connects to a Ray cluster or starts Ray on this machine, and checks its resources.

Knows addresses, processors and GPUs, and how objects of user files are pickled. Does not know what
runs on the cluster.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from search_spaces.errors import UserError
from search_spaces.space import SearchSpace

CONNECT_SECONDS = 10
"""Time limit for a cluster to accept a connection, and again for its first answer."""

OUR_PACKAGES = ("search_spaces", "hardware_profiles", "evaluators", "nas")
"""Packages that workers can import."""

QUIET_TUNE = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own files are never restored
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""Environment variables that turn off the tables, notes and logs of Ray Tune."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""First bytes of a gRPC client: connection preface and empty settings (RFC 9113, 3.4)."""

_SETTINGS_FRAME = 4
"""Type of the first frame of a gRPC server."""


@contextlib.contextmanager
def ray_session(count: int, address: str | None = None, *, gpus: int = 0) -> Iterator[None]:
    """Connect to Ray; on leaving, disconnect or stop it, unless it was already initialised.

    Args:
        count: number of processors that Ray must have.
        address: address of a cluster; without it, Ray is started on this machine.
        gpus: number of GPUs that Ray must have.

    Raises:
        UserError: if no cluster answers at the address, or it has too few processors or GPUs.
    """
    import ray

    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    owns = not ray.is_initialized()
    if owns and address:
        check_reachable(address)
    try:
        with _own_signals() if owns else contextlib.nullcontext():
            if owns and address:
                ray.init(address=address, **quiet)
            elif owns:
                # "local": do not join a Ray that is already running on this machine.
                ray.init(address="local", num_cpus=count, include_dashboard=False, **quiet)
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {error}") from error
    try:
        resources = ray.cluster_resources()
        for wanted, kind, each in ((count, "CPU", ""), (gpus, "GPU", " with a GPU each")):
            available = int(resources.get(kind, 0))
            # Checked once, by the outermost session: a cluster may lose machines later.
            if owns and wanted > available:
                raise UserError(
                    f"--workers {wanted}{each} is more than the {available} {kind}s Ray has"
                )
        yield
    finally:
        if owns:
            ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Context in which Ray starts; this process answers SIGTERM afterwards as it did before.

    Ray replaces its handler, kills its own processes and exits: nothing would be saved, and the
    process could be aborted by its own Ray.
    """
    found = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:  # only Ray's handler raises it here
        raise KeyboardInterrupt from end
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, found)


def check_reachable(address: str) -> None:
    """Check within 2 * `CONNECT_SECONDS` that a Ray cluster listens; Ray itself waits for minutes.

    Raises:
        UserError: for a malformed address, or one where no Ray cluster answers.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"malformed --ray-address '{address}': expected HOST:PORT or auto")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return  # encrypted: the answer cannot be read
            connection.sendall(_PREFACE)
            answer = connection.recv(9)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"no Ray cluster answers at {address}: {reason}") from error
    # A gRPC server starts with a settings frame.
    if len(answer) < 4 or answer[3] != _SETTINGS_FRAME:
        raise UserError(f"the server at {address} is not a Ray cluster")


def gpus_for(device: str, count: int) -> int:
    """Number of GPUs that `count` workers need for a device: one each for `cuda`, else 0."""
    return count if device.startswith("cuda") else 0


def pickle_by_value(sent: object) -> None:
    """Pickle a user's modules by value: workers cannot import a file given by its path.

    Args:
        sent: a function, or an object with a `function`, a `space` or a `supernet`.
    """
    import ray.cloudpickle as cloudpickle

    # A wrapper's class can be imported; the function that it wraps may be a user's.
    functions: list[Any] = [getattr(sent, "function", sent)]
    space = getattr(getattr(sent, "supernet", sent), "space", None)
    if isinstance(space, SearchSpace):
        functions += [block.ops for block in space.blocks]
    for function in functions:
        name = getattr(function, "__module__", None)
        if name and name.split(".")[0] not in OUR_PACKAGES and name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])
