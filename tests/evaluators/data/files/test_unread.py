"""Nothing of a folder is left out in silence."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evaluators.data.files.images import load_data
from evaluators.data.files.sentences import load_sentences
from evaluators.data.files.text import load_text
from search_spaces.errors import UserError


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def picture(value: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def images(root: Path, *classes: str, n: int = 10) -> Path:
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(n):
            (root / name / f"{i}.png").write_bytes(picture(i))
    return root


def extent(root: Path) -> int:
    data = load_data(str(root))
    return sum(data.extent(part) for part in ("train", "validation", "test"))


def refusal(load: Callable[[str], object], path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_and_files_may_be_links(tmp_path: Path) -> None:
    images(tmp_path / "d", "cat")
    images(tmp_path / "elsewhere", "dog", "eel")
    (tmp_path / "d" / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (tmp_path / "d" / "eel").mkdir()
    for i in range(10):
        (tmp_path / "d" / "eel" / f"{i}.png").symlink_to(tmp_path / "elsewhere/eel" / f"{i}.png")
    assert load_data(str(tmp_path / "d")).classes == ("cat", "dog", "eel")
    assert extent(tmp_path / "d") == 30


def test_links_to_nothing_and_in_circles_are_refused(tmp_path: Path) -> None:
    root = images(tmp_path / "d", "cat", "dog")
    (root / "dog" / "x.png").symlink_to(root / "gone.png")
    assert "x.png is a link to a file that does not exist" in refusal(load_data, root)
    (root / "dog" / "x.png").unlink()
    (root / "dog" / "again").symlink_to(root)
    assert "again is a link to a folder that holds it" in refusal(load_data, root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    root = images(tmp_path / "d", "cat", "dog", "eel")
    (root / "eel").chmod(0)
    try:
        assert "cannot read" in refusal(load_data, root)
    finally:
        (root / "eel").chmod(0o755)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [("jfif", "JPEG"), ("pgm", "PPM"), ("JPE", "JPEG"), ("dib", "DIB"), ("tga", "TGA")],
)
def test_images_by_their_less_common_endings_are_read(
    tmp_path: Path, ending: str, kind: str
) -> None:
    root = images(tmp_path / "d", "cat", "dog")
    (root / "dog" / f"more.{ending}").write_bytes(picture(3, kind))
    assert extent(root) == 21


@pytest.mark.parametrize("name", ["dog/7.heic", "dog/7.npy", "dog/7"])
def test_images_of_kinds_that_are_not_read_are_refused(tmp_path: Path, name: str) -> None:
    root = images(tmp_path / "d", "cat", "dog")
    (root / name).write_bytes(picture(3))
    assert f"{name} is no image of a kind that is read" in refusal(load_data, root)


def test_files_that_describe_images_lie_beside_them(tmp_path: Path) -> None:
    root = images(tmp_path / "d", "cat", "dog")
    for name in ("labels.csv", "README", "cat/notes.txt", "cat/Thumbs.db", "dog/desktop.ini",
                 "dog/.DS_Store", "LICENSE", "images.zip"):  # fmt: skip
        (root / name).write_bytes(b"words")
    assert extent(root) == 20


def test_a_class_without_images_is_refused(tmp_path: Path) -> None:
    root = images(tmp_path / "d", "cat", "dog")
    (root / "eel").mkdir()
    (root / "eel" / ".DS_Store").touch()
    assert "eel is empty" in refusal(load_data, root)


@pytest.mark.parametrize(
    ("name", "part"), [("test/cat/1.heic", "test"), ("val.zip", "validation"), ("test/", "test")]
)
def test_a_part_that_is_not_read_is_refused(tmp_path: Path, name: str, part: str) -> None:
    root = images(tmp_path / "d", "train/cat", "train/dog")
    path = root / name
    if name.endswith("/"):
        path.mkdir()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert f"names the {part} part, but no file that is read" in refusal(load_data, root)


@pytest.mark.parametrize("name", ["test.xlsx", "test.csv.gz", "dev/rows.xlsx", "d/test/rows.txt"])
def test_a_part_of_another_kind_of_table_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "d"
    root.mkdir()
    (root / "train.csv").write_text("text,label\n" + "a letter,x\na parcel,y\n" * 20)
    assert load_sentences(str(root)).classes == ("x", "y")
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"x")
    assert "part, but no file that is read is of it" in refusal(load_sentences, root)


def test_a_part_of_another_kind_of_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("some words\n" * 100)
    (tmp_path / "README.md").write_text("words")
    assert load_text(str(tmp_path)).extent("train") == 880
    (tmp_path / "test.md").write_text("words")
    assert "test.md names the test part" in refusal(load_text, tmp_path)


@pytest.mark.parametrize("name", ["eval.csv", "evaluation/a.csv", "my_holdout.csv"])
def test_a_word_for_testing_that_says_no_part_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "d"
    (root / name).parent.mkdir(parents=True)
    for file in ("train.csv", name):
        (root / file).write_text("text,label\n" + "a letter,x\na parcel,y\n" * 20)
    assert "expected train, validation or test in its name" in refusal(load_sentences, root)


def test_images_beside_parquet_files_are_not_left_out(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": picture(i), "path": None}, "label": i % 2} for i in range(20)]
    images(tmp_path / "d", "cat", "dog")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d" / "train.parquet")
    message = refusal(load_data, tmp_path / "d")
    assert "holds Parquet files and images such as cat/0.png" in message


def test_a_picture_at_the_top_may_describe_parquet_files(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": picture(i), "path": None}, "label": i % 2} for i in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    (tmp_path / "preview.png").write_bytes(picture(9))
    assert extent(tmp_path) == 20
