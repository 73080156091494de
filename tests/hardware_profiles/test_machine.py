"""The description of this machine: contents, and no host name."""

from __future__ import annotations

import json
import platform
import socket

import torch

from hardware_profiles.machine import cores, describe, memory_bytes


def test_description_is_json_with_processor_memory_and_versions() -> None:
    described = json.loads(json.dumps(describe()))
    assert described["python"] == platform.python_version()
    assert described["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert described["cores"] == cores() >= 1
    assert abs(described["memory_gib"] - memory_bytes() / 2**30) < 0.1


def test_description_names_no_host() -> None:
    assert socket.gethostname() not in {str(value) for value in describe().values()}
