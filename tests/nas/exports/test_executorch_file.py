"""Programs of ExecuTorch compute what the network does; without its package that is said."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from nas.cli import main
from nas.engine.search import Outcome
from nas.exports import checks, executorch_file
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build
from search_spaces.space import SearchSpace
from search_spaces.spaces.bert import bert


def space_of(kind: str) -> SearchSpace:
    if kind == "bert":
        return bert("mini", sequence=12, vocabulary=50, classes=4, padding=0)
    return load_space(kind, vocabulary=40) if kind == "gpt-char" else load_space(kind)


@pytest.mark.skipif(find_spec("executorch") is None, reason="executorch, an extra, is not here")
@pytest.mark.parametrize("kind", ["mobilenet-tiny", "vit-tiny", "vit-pruned", "bert", "gpt-char"])
def test_a_program_gives_the_same_in_a_fresh_process(kind: str, tmp_path: Path) -> None:
    space = space_of(kind)
    network, blocks = build(space, space.smallest).eval(), space.ops(space.smallest)
    executorch_file.write(network, blocks, tmp_path / executorch_file.EXECUTORCH_FILE)
    done = checks.in_a_fresh_process(network, blocks, tmp_path, ("executorch",), costs=None)
    assert done.differences["executorch"] <= checks.TOLERANCE


def test_without_its_package_the_error_names_the_command_that_installs_it(
    finished: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(executorch_file, "find_spec", lambda name: None)
    out = tmp_path / "out"
    options = ["--format", "onnx,executorch", "--out", str(out)]
    with pytest.raises(SystemExit) as end:
        main(["export", str(finished.run.folder), *options])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "executorch is not installed: pip install 'budget-nas[executorch]'" in error
    assert error.count("\n") == 1
    assert not out.exists()
