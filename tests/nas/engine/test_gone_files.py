"""A finished run whose files are gone says so when it is resumed, and makes them again."""

from __future__ import annotations

import shutil
from pathlib import Path

from nas.engine.search import search
from nas.progress import Quiet
from nas.run.specification import Specification


class Notes(Quiet):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_resumed_run_names_what_is_gone_and_makes_it_again(tmp_path: Path) -> None:
    specification = Specification(
        space="mobilenet-tiny", data="digits", high={"macs": 300_000}, trials=4, finalists=2,
        supernet_epochs=0.1, train_epochs=0.1,
    )  # fmt: skip
    run = tmp_path / "run"
    first = search(specification, run)
    winner = (run / "winner" / "model.safetensors").read_bytes()
    shutil.rmtree(run / "winner")
    (run / "supernet.pt").unlink()
    (run / ".supernet.pt.999999999.tmp").touch()
    reporter = Notes()
    again = search(specification, run, resume=True, reporter=reporter)
    gone = [note for note in reporter.notes if " is gone" in note]
    assert "supernet.pt is gone: the supernet trains again" in gone[0]
    assert "winner is gone or incomplete: exporting the winner again" in gone[1]
    assert again.summary == first.summary
    assert (run / "winner" / "model.safetensors").read_bytes() == winner
    assert not list(run.glob(".*.tmp"))
