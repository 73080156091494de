"""Lets a training end its step and save before a signal interrupts it.

Knows signals. Does not know what is saved.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_waiting: list[int] = []
"""The signal that has arrived in this training, if one has."""

_handlers: dict[int, Any] = {}
"""What handles the signals outside of trainings."""


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Context in which a first SIGINT or SIGTERM waits for `answer_signal`; a second does not.

    Signals without a handler of Python's end the process at once, as their sender wants.
    """
    if _handlers or threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) for number in SIGNALS}
    _handlers.update({number: handler for number, handler in found.items() if callable(handler)})
    try:
        for number in _handlers:
            signal.signal(number, _arrived)
        yield
    finally:
        for number, handler in _handlers.items():
            signal.signal(number, handler)
        _handlers.clear()
        _waiting.clear()


def _arrived(number: int, frame: Any) -> None:
    if _waiting:
        _handlers[number](number, frame)
    _waiting.append(number)


def signal_waits() -> bool:
    """Whether a signal has arrived, so that the state should be saved."""
    return bool(_waiting)


def answer_signal() -> None:
    """Handle the signal that has arrived, if one has; usually raises `KeyboardInterrupt`."""
    if _waiting:
        number = _waiting.pop()
        _handlers[number](number, None)
