"""Loads an object from a user's Python file (`file.py:OBJECT`), and runs users' code.

Does not know what the object is.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError, unknown


@contextlib.contextmanager
def running_user_code() -> Iterator[None]:
    """Context for users' code: it may print and change the working directory without harm.

    What it prints goes to standard error, since standard output has the command's result, and the
    working directory is restored, since paths of the run may be relative to it.
    """
    place = os.getcwd()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.chdir(place)


def load_object(reference: str) -> Any:
    """Run the file of `file.py:NAME` and return the object of that name.

    Raises:
        UserError: if the file is missing, raises, or does not define the name.
    """
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"no file '{file}' (from '{reference}'; expected file.py:NAME)")
    # A unique module name: the file may have the name of a module that is already imported.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    module_name = f"{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"'{file}' is not a Python file (expected file.py:NAME)")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a class's module up by name.
    sys.modules[module_name] = module
    try:
        with running_user_code():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"'{file}' fails to run: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise unknown(f"name in {file}", name, public)
    return getattr(module, name)
