"""Writes the folder `app` beside an export: a program and a page that classify pictures.

Both run the file with preprocessing, so neither knows how a picture is prepared. Knows the folder's
files. Does not know runs.
"""

from __future__ import annotations

import base64
import html
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nas.exports.app import web_runtime
from nas.exports.app.pixels_graph import PIXELS_FILE
from nas.exports.description import LABELS_FILE

FOLDER = "app"
ASSETS = Path(__file__).parent / "assets"
PAGE, PROGRAM, MODEL = "index.html", "predict.py", "model.js"
REQUIREMENTS = ("numpy", "onnxruntime", "pillow")


def write(place: Path, config: Mapping[str, Any], runtime: Path | None) -> None:
    """Write the folder `app` into the folder of an export, which has the file with preprocessing.

    Args:
        config: the network's description.
        runtime: folder of onnxruntime-web's files; None leaves out the page.
    """
    folder = place / FOLDER
    folder.mkdir()
    for name in (PIXELS_FILE, LABELS_FILE):
        shutil.copy(place / name, folder / name)
    program = (ASSETS / f"{PROGRAM}.in").read_text(encoding="utf-8")
    for constant in ("bits", "white"):
        name = f"{constant.upper()} = "
        program = program.replace(f"{name}None", f"{name}{config.get(constant)}")
    (folder / PROGRAM).write_text(program, "utf-8")
    (folder / "requirements.txt").write_text(_requirements(), encoding="utf-8")
    if runtime is None:
        return
    web_runtime.write(runtime, folder / "runtime")
    name = f"{config['space']} {config['architecture']['id']}"
    page = (ASSETS / PAGE).read_text(encoding="utf-8").replace("NAME", html.escape(name))
    (folder / PAGE).write_text(page, encoding="utf-8")
    content = {
        "labels": config["classes"],
        "bits": config.get("bits"),
        "onnx": base64.b64encode((place / PIXELS_FILE).read_bytes()).decode("ascii"),
    }
    text = f"const MODEL = {json.dumps(content)};\n"
    (folder / MODEL).write_text(text, encoding="utf-8")


def _requirements() -> str:
    """The packages that the program needs, at least as new as those that wrote it."""
    lines = []
    for name in REQUIREMENTS:
        try:
            lines.append(f"{name}>={version(name)}")
        except PackageNotFoundError:
            lines.append(name)
    return "\n".join(lines) + "\n"
