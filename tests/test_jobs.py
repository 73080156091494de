"""Three jobs, each by its page of the site, from a folder that holds the user's data alone."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from pictures import picture, write_pictures
from site_pages import JOBS, follow, snippets


@pytest.mark.parametrize("page", JOBS)
def test_a_job_takes_at_most_ten_commands(page: str) -> None:
    found = snippets(page)
    assert sum(len(one.commands) for one in found if one.language == "bash") <= 10
    assert all(one.title for one in found if one.language == "python")  # files of the user's


@pytest.mark.slow
def test_a_classifier_of_photos_by_its_page_alone(tmp_path: Path) -> None:
    """Photos of three classes, of many sizes and modes, some turned by EXIF."""
    write_pictures(tmp_path / "photos", 60, seed=0, shapes=("cross", "disc", "gradient"))
    picture("disc", np.random.default_rng(5)).save(tmp_path / "mine.jpg")
    printed = follow(["photos.md"], tmp_path)
    ours = printed["nas predict classifier mine.jpg photos"].splitlines()
    (mine,) = [line for line in ours if line.startswith("mine.jpg")]
    apart = printed["python classifier/app/predict.py mine.jpg"]
    label = mine.split()[1]
    assert label in ("cross", "disc", "gradient")
    assert label in apart
    assert len(ours) >= 181  # a line for each picture
    right = sum(f"photos/{line.split()[1]}/" in line for line in ours[1:])
    assert right > 90  # a guess has 60
    assert (tmp_path / "runs" / "photos" / "report.html").is_file()


@pytest.mark.slow
def test_a_network_in_a_script_by_its_page_alone(tmp_path: Path) -> None:
    printed = follow(["own-script.md"], tmp_path)
    rows = {printed[f"python {name}.py"] for name in ("with_torch", "with_onnxruntime")}
    (row,) = rows  # both say the same
    guessed, labels = (half.split(",") for half in row.strip("[]\n").split("] ["))
    assert sum(map(str.__eq__, guessed, labels)) >= 7


@pytest.mark.slow
def test_a_language_model_by_its_page_alone(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = ["the cat", "the dog", "a bird", "sees", "hears", "and", "the night", "the rain"]
    text = ". ".join(" ".join(draw.choices(words, k=9)) for _ in range(3000))
    (tmp_path / "mine.txt").write_text(text)
    printed = follow(["language-model.md"], tmp_path)
    for command in ('nas predict runs/mine --text "the " --tokens 200', "python write.py"):
        written = printed[command].rstrip("\n")
        assert written.startswith("the ")
        assert len(written) >= 200
        known = sum(any(word in whole for whole in words) for word in written.split())
        assert known >= len(written.split()) * 0.8
