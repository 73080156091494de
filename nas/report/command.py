"""`nas report`: writes the report of a run, or serves it while the run continues.

Knows the command's options and messages. Does not know what a report contains.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nas.report.contents import ReportSource
from nas.report.page import page
from nas.report.server import PORT, CachedContents, serve
from nas.run.folder import Run
from search_spaces.errors import UserError
from search_spaces.files import write_text

REPORT_FILE = "report.html"


def report_and_print(
    folder: Path,
    *,
    out: Path | None = None,
    devices: Sequence[str] = (),
    live: bool = False,
    port: int = PORT,
    others: Sequence[Path] = (),
) -> None:
    """Write the report of a run, or serve it.

    Args:
        others: runs whose frontiers are drawn over this run's.
        out: file to write; by default `RUN/report.html`.
        devices: devices to price the networks on, beside those of the run.
        live: serve the run instead of writing a file.
        port: port to serve at.

    Raises:
        UserError: for a folder that is not a run or has no evaluated architecture, or a port that
            is in use.
    """
    if live:
        if out is not None:
            raise UserError("--out and --serve exclude each other: expected one of the two")
        source = ReportSource.of(Run(folder), devices, [Run(other) for other in others])
        serve(CachedContents(folder, source.contents), folder.resolve().name, port)
        return
    began = time.monotonic()
    run = Run(folder)
    source = ReportSource.of(run, devices, [Run(other) for other in others])
    contents = source.contents()
    if contents["points"]["count"] == 0:
        raise UserError(
            f"{folder} has no evaluated architecture yet: nas report {folder} --serve waits for "
            "the first one"
        )
    path = folder / REPORT_FILE if out is None else out
    if path.is_dir():
        raise UserError(f"{path} is a folder: expected a file, such as {path / REPORT_FILE}")
    write_text(path, page(contents, title=folder.resolve().name))
    print(path)
    if source.missing:
        print(
            f"layers are not shown, the space is not available: {source.missing}", file=sys.stderr
        )
    size = path.stat().st_size / 1e6
    print(
        f"{contents['points']['count']:,} architectures, {size:.1f} MB, "
        f"{time.monotonic() - began:.1f} s",
        file=sys.stderr,
    )
