"""What is found in a data set: sizes, modes, broken files, equal samples, parts of a search."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluators.data.files.images import find_images, load_data
from evaluators.data.files.kinds import kind_of_data
from evaluators.data.files.sentences import find_sentences, load_sentences
from evaluators.data.files.survey import survey_images, survey_sentences
from evaluators.data.files.text import is_text
from pictures import deep_png
from search_spaces.errors import UserError


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def noise(seed: int, size: tuple[int, int] = (12, 10)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, train and test, images of two sizes."""
    root = tmp_path / "pets"
    for part, count in (("train", 12), ("Testing", 3)):
        for label, title in enumerate(("cat", "dog")):
            place = root / part / title
            place.mkdir(parents=True)
            for i in range(count):
                size = (12, 10) if i % 3 else (30, 20)
                noise(100 * label + i + (part == "train") * 1000, size).save(place / f"{i}.png")
    return root


def test_parts_are_those_of_the_search_with_their_reasons(folder: Path) -> None:
    survey = survey_images(find_images(str(folder)))
    loaded = load_data(str(folder))
    parts = survey.division.parts
    assert {name: part.samples for name, part in parts.items()} == {
        name: len(getattr(loaded, name)) for name in ("train", "validation", "test")
    }
    for name, part in parts.items():
        labels = getattr(loaded, name).labels.numpy()
        assert part.by_class == tuple(np.bincount(labels, minlength=2))
    assert parts["test"].origin == "Testing/"
    assert parts["test"].reason == "the folder's name has the word 'Testing'"
    assert parts["validation"].origin == "held out"
    assert survey.image_size == loaded.image_size == 10
    assert survey.resizing == loaded.resizing
    assert survey.refused is None


def test_a_broken_file_is_named_and_the_others_are_surveyed(folder: Path) -> None:
    whole = (folder / "train" / "cat" / "1.png").read_bytes()
    (folder / "train" / "cat" / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train" / "dog" / "2.png").write_text("no image")
    survey = survey_images(find_images(str(folder)))
    assert [Path(name).name for name, _ in survey.unreadable] == ["1.png", "2.png"]
    assert len(survey.sizes) == 28
    assert "1.png" in (survey.refused or "")
    with pytest.raises(UserError, match=r"[12]\.png"):
        load_data(str(folder))


def test_equal_pixels_are_found_whatever_the_file_and_the_part(folder: Path) -> None:
    picture = noise(7)
    picture.save(folder / "train" / "cat" / "a.png", optimize=True)
    picture.save(folder / "Testing" / "dog" / "b.bmp")
    duplicates = survey_images(find_images(str(folder))).duplicates
    (group,) = duplicates.groups
    assert {Path(place.name).name for place in group} == {"a.png", "b.bmp"}
    assert duplicates.across == duplicates.contradicting == (group,)
    assert duplicates.surplus == 1


def test_equal_images_of_one_class_and_part_contradict_nothing(folder: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        noise(7).save(folder / "Testing" / "cat" / name)
    duplicates = survey_images(find_images(str(folder))).duplicates
    assert duplicates.surplus == 2
    assert duplicates.across == duplicates.contradicting == ()


def test_modes_and_sizes_are_counted_before_anything_is_resized(folder: Path) -> None:
    noise(8).convert("L").save(folder / "train" / "cat" / "grey.png")
    survey = survey_images(find_images(str(folder)), image_size=16)
    assert survey.modes == {"RGB": 30, "L": 1}
    assert set(survey.sizes) == {(12, 10), (30, 20)}
    assert survey.image_size == 16


def test_a_class_with_the_name_of_a_part_names_none(tmp_path: Path) -> None:
    for title in ("train", "plane"):
        (tmp_path / "d" / title).mkdir(parents=True)
        for i in range(20):
            noise(i + 100 * len(title)).save(tmp_path / "d" / title / f"{i}.png")
    survey = survey_images(find_images(str(tmp_path / "d")))
    assert survey.classes == ("plane", "train")
    assert "classes" in survey.division.parts["train"].reason


def test_a_class_too_small_to_hold_out_is_said(tmp_path: Path) -> None:
    for title, count in (("cat", 20), ("dog", 1)):
        (tmp_path / "d" / title).mkdir(parents=True)
        for i in range(count):
            noise(i + 100 * count).save(tmp_path / "d" / title / f"{i}.png")
    survey = survey_images(find_images(str(tmp_path / "d")))
    assert "class 'dog'" in (survey.refused or "")
    assert survey.division.parts["train"].by_class == (20, 1)


def test_sentences_are_divided_as_in_the_search_and_equal_ones_found(tmp_path: Path) -> None:
    file = tmp_path / "reviews.jsonl"
    rows = [{"text": f"film {i} was fine", "label": "good"} for i in range(40)]
    rows += [{"text": f"film {i} was dull", "label": "bad"} for i in range(40)]
    rows += [{"text": "film 3 was fine", "label": "bad"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    survey, loaded = survey_sentences(find_sentences(str(file))), load_sentences(str(file))
    assert {n: p.samples for n, p in survey.division.parts.items()} == {
        part: loaded.extent(part)
        for part in ("train", "validation", "test")  # type: ignore[arg-type]
    }
    (group,) = survey.duplicates.groups
    assert {place.row for place in group} == {3, 80}
    assert survey.duplicates.contradicting == (group,)


def test_the_kind_of_data_follows_from_its_files(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("once")
    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    assert kind_of_data("digits") == "images"
    assert kind_of_data(str(folder)) == "images"
    assert kind_of_data(str(tmp_path / "a.txt")) == "text"
    assert kind_of_data(str(tmp_path / "rows.csv")) == "sentences"
    with pytest.raises(UserError, match="did you mean 'digits'"):
        kind_of_data("digit")


@pytest.mark.parametrize("name", ["README.txt", "labels.csv", "labels.jsonl"])
def test_a_file_beside_folders_of_images_describes_them(
    folder: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(folder, tmp_path / "d")
    (tmp_path / "d" / name).write_text("text,label\nnoise,a\n")
    assert kind_of_data(str(tmp_path / "d")) == "images"
    assert find_images(str(tmp_path / "d")).classes == find_images(str(folder)).classes
    assert not is_text(str(tmp_path / "d"))


def test_pictures_beside_texts_leave_them_texts(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    noise(1).save(tmp_path / "figures" / "1.png")
    (tmp_path / "book.txt").write_text("once upon a time " * 99)
    assert kind_of_data(str(tmp_path)) == "text"


def test_dark_images_of_16_bits_differ(tmp_path: Path) -> None:
    for i in range(20):
        place = tmp_path / "d" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(deep_png(i, 0, 7))
    survey = survey_images(find_images(str(tmp_path / "d")))
    assert not survey.duplicates.groups
    assert survey.refused is None
