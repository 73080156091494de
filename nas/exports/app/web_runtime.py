"""Gets onnxruntime-web, with which the page of an app runs its network in the browser.

It is taken from a folder, from `node_modules` of the current folder, or from this user's cache,
which npm fills once. Knows the package's files. Does not know pages.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from search_spaces.errors import UserError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SCRIPT, GLUE, BINARY = (
    "ort.wasm.min.js",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)
FILES = (SCRIPT, GLUE, BINARY)
WRAPPED = "wasm.js"
"""Script that holds what a page from a disk may not fetch."""

TIMEOUT_SECONDS = 600


class NoRuntime(Exception):
    """There is no onnxruntime-web, for the reason that the message gives."""


def find(given: Path | None = None) -> Path:
    """The folder with the package's files.

    Args:
        given: an installed or unpacked package, or its `dist`.

    Raises:
        UserError: if `given` lacks the files.
        NoRuntime: if it is nowhere, and npm is missing or fails.
    """
    if given is not None:
        found = _in(given)
        if found is None:
            raise UserError(
                f"{given} is no {PACKAGE}: expected the npm package, with dist/{BINARY}"
            )
        return found
    return _in(Path("node_modules") / PACKAGE) or _in(_cache()) or _packed(_cache())


def _in(folder: Path) -> Path | None:
    for place in (folder / "dist", folder):
        if all((place / name).is_file() for name in FILES):
            return place
    return None


def _cache() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "budget-nas" / f"{PACKAGE}-{VERSION}"


def _packed(target: Path) -> Path:
    """Let npm fetch the package into the cache.

    Raises:
        NoRuntime: if npm is missing or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NoRuntime(
            f"npm is not installed, which fetches {PACKAGE}: install it, or give the package's "
            "folder to --web-runtime"
        )
    try:
        with tempfile.TemporaryDirectory(prefix="nas-web-") as scratch:
            done = subprocess.run(
                [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"],
                cwd=scratch,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
            archive = next(Path(scratch).glob("*.tgz"), None)
            if done.returncode or archive is None:
                lines = [line for line in done.stderr.splitlines() if line.strip()]
                raise NoRuntime(f"npm cannot fetch {PACKAGE}: {(lines or ['no reason given'])[0]}")
            _unpack(archive, Path(scratch) / "new")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(Path(scratch) / "new", target)
    except (OSError, subprocess.TimeoutExpired, tarfile.TarError) as error:
        raise NoRuntime(f"npm cannot fetch {PACKAGE}: {error}") from error
    found = _in(target)
    if found is None:
        raise NoRuntime(f"{PACKAGE} {VERSION} has no {BINARY}")
    return found


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the files that a page needs, and no others."""
    target.mkdir()
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            name = Path(member.name).name
            if member.isfile() and Path(member.name).parent.name == "dist" and name in FILES:
                source = packed.extractfile(member)
                assert source is not None
                with (target / name).open("wb") as file:
                    shutil.copyfileobj(source, file)


def write(found: Path, folder: Path) -> None:
    """Write the runtime's scripts to a new folder."""
    folder.mkdir()
    shutil.copy(found / SCRIPT, folder / SCRIPT)
    held = {
        name: base64.b64encode((found / file).read_bytes()).decode("ascii")
        for name, file in (("mjs", GLUE), ("wasm", BINARY))
    }
    text = f"const RUNTIME = {json.dumps(held)};\n"
    (folder / WRAPPED).write_text(text, encoding="utf-8")
