"""Folders are written whole, and only what an export wrote is replaced."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nas.exports.folder import RECORD, refuse_full, staged
from search_spaces.errors import UserError


def export(folder: Path, text: str = "a", *, overwrite: bool = False) -> None:
    with staged(folder, overwrite=overwrite) as place:
        (place / "weights").write_text(text)
        (place / "more").mkdir()
        (place / "more" / "card.md").write_text(text)


def refusal(folder: Path) -> str:
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError) as caught:
        export(folder, "b", overwrite=True)
    assert sorted(folder.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_export_is_replaced_by_another(tmp_path: Path) -> None:
    export(tmp_path / "d")
    with pytest.raises(UserError, match="not empty: use another folder or --overwrite"):
        export(tmp_path / "d")
    (tmp_path / "d" / "__pycache__").mkdir()
    (tmp_path / "d" / "__pycache__" / "network.pyc").touch()  # as left by who imports it
    export(tmp_path / "d", "b", overwrite=True)
    assert (tmp_path / "d" / "more" / "card.md").read_text() == "b"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_failed_export_leaves_what_was_there(tmp_path: Path) -> None:
    export(tmp_path / "d")
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "d", overwrite=True):
        _ = 1 / 0
    assert (tmp_path / "d" / "weights").read_text() == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_only_exports_are_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.tex").write_text("years of work")
    assert "no export wrote it" in refusal(own)
    run = tmp_path / "run"
    export(run)
    (run / "specification.json").write_text("{}")
    assert "it is a run" in refusal(run)
    export(tmp_path / "here" / "deep")
    for place in ("here", "here/deep"):
        monkeypatch.chdir(tmp_path / "here" / "deep")
        assert "is the current folder, or holds it" in refusal(tmp_path / place)
        assert "is the current folder, or holds it" in refusal(Path())


def test_files_beside_those_of_an_export_are_kept(tmp_path: Path) -> None:
    export(tmp_path / "d")
    (tmp_path / "d" / "more" / "notes").write_text("mine")
    assert "more/notes is not of the export" in refusal(tmp_path / "d")
    (tmp_path / "d" / "more" / "notes").unlink()
    (tmp_path / "d" / "weights").write_text("mine too")
    assert "weights was changed since the export" in refusal(tmp_path / "d")
    (tmp_path / "d" / RECORD).write_text("[")
    assert "no export wrote it" in refusal(tmp_path / "d")


def test_an_empty_folder_stays_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path / "d")
    before = Path().stat()
    export(Path())
    assert Path("more/card.md").read_text() == "a"
    assert (Path().stat().st_ino, Path().stat().st_mode) == (before.st_ino, before.st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    monkeypatch.chdir(tmp_path)
    export(Path("d"), "b", overwrite=True)
    assert Path("d").stat().st_mode == before.st_mode


def test_a_folder_that_cannot_be_filled_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()

    def move(source: Path, target: Path) -> None:
        if source.name == RECORD:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        source.rename(target)

    monkeypatch.setattr(shutil, "move", move)
    with pytest.raises(UserError, match="No space left"):
        export(tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    assert not list((tmp_path / "d").iterdir())


def test_a_change_that_keeps_the_size_is_kept(tmp_path: Path) -> None:
    export(tmp_path / "d", "accuracy 0.91")
    (tmp_path / "d" / "more" / "card.md").write_text("accuracy 0.92")
    assert "more/card.md was changed since the export" in refusal(tmp_path / "d")
    assert (tmp_path / "d" / "more" / "card.md").read_text() == "accuracy 0.92"
    (tmp_path / "d" / "more" / "card.md").write_text("accuracy 0.91")
    export(tmp_path / "d", "b", overwrite=True)


def test_records_of_sizes_alone_are_known(tmp_path: Path) -> None:
    export(tmp_path / "d")
    record = json.loads((tmp_path / "d" / RECORD).read_text())
    (tmp_path / "d" / RECORD).write_text(json.dumps({"files": record["files"]}))
    export(tmp_path / "d", "b", overwrite=True)
    assert (tmp_path / "d" / "weights").read_text() == "b"


@pytest.mark.parametrize("record", ["[]", "{}", '{"files": [1]}', '{"files": {}, "sha256": 3}'])
def test_a_broken_record_is_none(tmp_path: Path, record: str) -> None:
    export(tmp_path / "d")
    (tmp_path / "d" / RECORD).write_text(record)
    assert "no export wrote it" in refusal(tmp_path / "d")


def test_exports_of_before_records_are_known_by_their_description(tmp_path: Path) -> None:
    for name, config in (("ours", '{"format_version": 1, "network": []}'), ("other", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
        (tmp_path / name / "model.safetensors").write_text("a")
    export(tmp_path / "ours", overwrite=True)
    assert "no export wrote it" in refusal(tmp_path / "other")


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    export(tmp_path / "d")
    (tmp_path / "link").symlink_to(tmp_path / "d")
    export(tmp_path / "link", "b", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "d" / "weights").read_text() == "b"


def test_a_file_is_no_place_for_an_export(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is a file: use another folder"):
            refuse_full(tmp_path / "f", overwrite=overwrite)


def test_what_a_killed_export_left_goes_at_the_next(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom nas.exports.folder import staged\n"
        "with staged(Path(sys.argv[1])) as place:\n"
        "    (place / 'big').write_text('a')\n    os._exit(9)\n"
    )
    place = tmp_path / "d"
    subprocess.run([sys.executable, "-c", program, str(place)], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".export-")
    with staged(tmp_path / "e"):
        assert not left.exists()
        export(place)  # one that is running stays
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "e"]
