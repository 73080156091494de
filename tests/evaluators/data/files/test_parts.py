"""Which file belongs to which part, and which folder is a class."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evaluators.data.files.parts import by_class, by_part, named_parts, origin, visible_files
from search_spaces.errors import UserError


def made(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return [root / name for name in names]


def refusal(root: Path, *names: str) -> str:
    files = made(root, *names)
    with pytest.raises(UserError) as caught:
        by_class(files, root) if names[0].endswith(".png") else by_part(files, root, "rows")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("train1", "train"),
        ("Training", "train"),
        ("train-00000-of-00002", "train"),
        ("val", "validation"),
        ("valid_0", "validation"),
        ("ptb.valid", "validation"),
        ("validation_matched", "validation"),
        ("my dev set", "validation"),
        ("cifar_test", "test"),
        ("data-test", "test"),
        ("TESTING", "test"),
        ("imageTest", "test"),
    ],
)
def test_whole_words_name_parts(name: str, part: str) -> None:
    assert named_parts(name) == {part}


@pytest.mark.parametrize(
    "name", ["latest", "contest", "restrained", "trainer", "evaluate", "testament", "device", "0"]
)
def test_words_that_contain_a_name_do_not_name_a_part(name: str) -> None:
    assert named_parts(name) == set()


def test_the_topmost_folder_that_names_a_part_decides_and_then_the_file(tmp_path: Path) -> None:
    names = ("test/train-0.csv", "Training/test.csv", "data/dev/0.csv", "a/valid.csv", "more.csv")
    files = made(tmp_path, *names)
    found = by_part(files, tmp_path, "rows")
    shown = {part: [f.relative_to(tmp_path).as_posix() for f in fs] for part, fs in found.items()}
    assert shown == {
        "train": ["Training/test.csv", "more.csv"],
        "validation": ["data/dev/0.csv", "a/valid.csv"],
        "test": ["test/train-0.csv"],
    }


def test_a_file_of_two_parts_is_refused_unless_it_is_all_there_is(tmp_path: Path) -> None:
    message = refusal(tmp_path, "train_test.csv", "more.csv")
    assert "train_test.csv names two parts, test and train" in message
    (file,) = made(tmp_path, "train_test.csv")
    assert by_part([file], file, "rows") == {"train": [file]}


def test_folders_of_classes_are_classes_whatever_their_names(tmp_path: Path) -> None:
    files = made(tmp_path, "train/a.png", "car/test.png", "test/old train station.png")
    assert by_class(files, tmp_path) == {
        "train": [(files[0], "train"), (files[1], "car"), (files[2], "test")]
    }


def test_a_class_below_a_part_may_be_named_like_a_part(tmp_path: Path) -> None:
    files = made(tmp_path, "Train/test/a.png", "Train/car/b.png", "Testing/test/c.png")
    assert by_class(files, tmp_path) == {
        "train": [(files[0], "test"), (files[1], "car")],
        "test": [(files[2], "test")],
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a.png", "b.png"), "has images but no folders of classes"),
        (("cat/a.png", "b.png"), "b.png belongs to no class"),
        (("train/cat/a.png", "test/b.png"), "b.png belongs to no class"),
        (("train/a.png", "test/b.png"), "a.png belongs to no class"),
        (("cat/2020/a.png", "dog/b.png"), "lies in a folder of its own below cat/"),
        (("train/cat/old/a.png",), "lies in a folder of its own below train/cat/"),
        (("images/cat/a.png", "images/dog/b.png"), "give that folder instead"),
        (("train/cat/a.png", "extra/cat/b.png"), "extra names no part"),
        (("test/cat/a.png",), "no training images"),
    ],
)
def test_images_outside_the_rule_are_refused(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    assert said in refusal(tmp_path, *names)


def test_a_class_is_one_word_however_its_letters_are_composed(tmp_path: Path) -> None:
    files = made(tmp_path, "train/Caf\u00e9/1.png", "test/Cafe\u0301/1.png")
    found = by_class(files, tmp_path)
    assert {name for images in found.values() for _, name in images} == {"Caf\u00e9"}


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"caf\xe9/1.png"])
def test_names_that_no_table_holds_are_refused(tmp_path: Path, name: bytes) -> None:
    file = tmp_path / "cat" / os.fsdecode(name)
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(UserError, match=r"has the name 'caf\\udce9.* not in UTF-8") as caught:
        visible_files(tmp_path, [".png"])
    str(caught.value).encode()


def test_hidden_files_are_not_data(tmp_path: Path) -> None:
    kept = made(tmp_path, "cat/a.PNG", "cat/b.png")
    made(tmp_path, ".ipynb_checkpoints/a.png", "cat/._a.png", "__MACOSX/cat/a.png", "cat/notes")
    assert visible_files(tmp_path, [".png"]) == kept


def test_an_origin_is_a_file_or_a_folder_or_a_number_of_files(tmp_path: Path) -> None:
    files = made(tmp_path, "test.csv", "val/a.csv", "val/b.csv")
    assert origin(files[:1], tmp_path) == "test.csv"
    assert origin(files[1:], tmp_path) == "val/"
    assert origin(files, tmp_path) == "3 files"
    assert origin(files[:1], files[0]) == "test.csv"
