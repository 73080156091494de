"""`nas report`: writes the page of a run, or serves it while the run goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nas.report.contents import Source
from nas.report.page import page
from nas.report.server import PORT, Contents, serve
from nas.run.folder import Run
from search_spaces.errors import UserError
from search_spaces.files import write_text

FILE = "report.html"


def report_and_print(
    folder: Path,
    *,
    out: Path | None = None,
    devices: Sequence[str] = (),
    live: bool = False,
    port: int = PORT,
) -> None:
    """Write the report of a run, or serve it.

    Args:
        out: the file; `RUN/report.html` by default.
        live: serve the run instead, as it goes on.

    Raises:
        UserError: for a folder that is no run, one in which nothing was evaluated yet, and a port
            that is in use.
    """
    if live:
        if out is not None:
            raise UserError("--out writes a file and --serve writes none: expected one of the two")
        source = Source.of(Run(folder), devices)
        serve(Contents(folder, source.contents), folder.resolve().name, port)
        return
    began = time.monotonic()
    run = Run(folder)
    source = Source.of(run, devices)
    contents = source.contents()
    if contents["points"]["count"] == 0:
        raise UserError(
            f"{folder} holds no evaluated architecture yet: nas report {folder} --serve waits "
            "for the first one"
        )
    path = folder / FILE if out is None else out
    if path.is_dir():
        raise UserError(f"{path} is a folder: expected a file to write, such as {path / FILE}")
    write_text(path, page(contents, title=folder.resolve().name))
    print(path)
    if source.missing:
        print(f"without layers, for lack of the space: {source.missing}", file=sys.stderr)
    size = path.stat().st_size / 1e6
    print(
        f"{contents['points']['count']:,} architectures, {size:.1f} MB, "
        f"{time.monotonic() - began:.1f} s",
        file=sys.stderr,
    )
