"""`nas data`: what it prints, its JSON and its page; the same words in a dry run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.cli import main
from nas.commands.show.data import named_classes

HOSTILE = "<b>&cat"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "pets"
    rng = np.random.default_rng(0)
    for title, count in ((HOSTILE, 40), ("dog", 20)):
        (root / title).mkdir(parents=True)
        for i in range(count):
            side = int(rng.integers(9, 40))
            pixels = rng.integers(0, 256, (side, side + 2, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / title / f"{i}.png")
    return root


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_it_says_parts_classes_sizes_and_what_the_search_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not run("data", str(folder))
    said = capsys.readouterr().out
    for part in ("train", "validation", "test"):
        assert re.search(rf"^{part}\s+\d+ ", said, re.MULTILINE)
    assert f"most of '{HOSTILE}', 32; fewest of 'dog', 16, 2 times as many" in said
    assert "modes: RGB 60" in said
    assert "in a search: the short side is resized to" in said
    assert "not readable: none" in said
    assert "equal samples: none" in said


def test_json_has_the_same_and_a_dry_run_agrees(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not run("data", str(folder), "--json")
    found = json.loads(capsys.readouterr().out)
    assert not run(
        "search",
        "--data",
        str(folder),
        "--max-flops",
        "300k",
        "--batch-size",
        "16",
        "--dry-run",
        "--json",
    )
    plan = json.loads(capsys.readouterr().out)["data"]
    assert found["image_size"] == plan["image_size"]
    assert found["resizing"] == plan["resizing"]
    assert plan["classes"] == found["parts"]["train"]["by_class"]
    for part, of_plan in plan["parts"].items():
        assert of_plan["samples"] == found["parts"][part]["samples"]
        assert of_plan["from"] == found["parts"][part]["from"]


def test_a_dry_run_says_it_in_a_few_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run(
        "search", "--data", str(folder), "--max-flops", "300k", "--batch-size", "16", "--dry-run"
    )
    said = capsys.readouterr().out
    assert f"2: {HOSTILE}, dog" in said
    assert "16 to 32 of each class" in said
    assert "the short side is resized to" in " ".join(said.split())


def test_unreadable_files_are_named_and_the_exit_code_tells(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dog" / "broken.jpg").write_text("no image")
    assert run("data", str(folder)) == 1
    said = capsys.readouterr().out
    assert "not readable: 1" in said
    assert "a search refuses these data:" in said
    assert "broken.jpg" in said


def test_the_page_is_self_contained_escaped_and_has_every_class(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "dog" / "a&<i>.png").write_bytes((folder / "dog" / "0.png").read_bytes())
    page = tmp_path / "out" / "page.html"
    assert not run("data", str(folder), "--html", str(page))
    text = page.read_text()
    assert "&lt;b&gt;&amp;cat" in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert set(re.findall(r'(?:src|href)="(.{5})', text)) == {"data:"}
    assert "http" not in text
    assert len(re.findall(r"<section", text)) == 2
    # Four of each class and part, less where there are fewer.
    assert len(re.findall("<img", text)) == 4 * 2 + 4 + 2 + 4 + 2
    assert "light-dark(" in text
    assert 'name="viewport"' in text


@pytest.mark.parametrize("as_json", [False, True])
def test_a_text_has_its_parts(
    as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("abcdefghij" * 100)
    assert not run("data", str(tmp_path / "a.txt"), *(["--json"] if as_json else []))
    said = capsys.readouterr().out
    if as_json:
        found = json.loads(said)
        assert (found["kind"], found["vocabulary"]) == ("text", 10)
        assert found["parts"]["test"] == {
            "samples": 100, "from": "held out", "why": "the end of the text"
        }  # fmt: skip
    else:
        assert "train: 800 tokens, 80%" in said


def test_sentences_are_quoted_on_their_page(tmp_path: Path) -> None:
    rows = [f'"film {i} was <u>fine</u>",good\n"film {i} was dull",bad\n' for i in range(30)]
    (tmp_path / "r.csv").write_text("text,label\n" + "".join(rows))
    page = tmp_path / "page.html"
    assert not run("data", str(tmp_path / "r.csv"), "--html", str(page))
    assert "&lt;u&gt;fine" in page.read_text()
    assert "<u>" not in page.read_text()


def test_many_classes_are_shortened() -> None:
    assert named_classes(["a", "b"]) == "a, b"
    many = named_classes([str(i) for i in range(1000)])
    assert many == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... 999"
    assert len(named_classes(["x" * 500])) < 40
