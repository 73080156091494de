"""Images by name and from files: reading, splitting, and errors."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData, Split
from evaluators.data.pixels import Depth
from search_spaces.errors import UserError

ROOT = Path(__file__).resolve().parents[4]
CIFAR10 = ROOT.parent / "shared" / "data" / "cifar10"


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def picture(value: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> bytes:
    """A PNG of one grey, which identifies its row."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(n: int, mode: str = "RGB") -> list[bytes]:
    return [picture(i, mode=mode) for i in range(n)]


def write_parquet(
    file: Path,
    images: Sequence[bytes] | None,
    labels: Sequence[object] | None,
    image: str = "img",
    label: str = "label",
) -> Path:
    """A parquet file in the column layout of the hub's image data sets; returns its folder."""
    columns: dict[str, pa.Array] = {"id": pa.array(range(len(images or labels or [])))}
    if images is not None:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns[image] = pa.array([{"bytes": b, "path": None} for b in images], type=kind)
    if labels is not None:
        columns[label] = pa.array(labels)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)
    return file.parent


def write_folders(root: Path, classes: Sequence[str], n: int) -> None:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(n):
            (root / name / f"{i}.png").write_bytes(picture(100 * number + i))


def parts(data: ImageData) -> tuple[Split, Split, Split]:
    return data.train, data.validation, data.test


def greys(split: Split) -> list[int]:
    """The grey of each image of `picture`."""
    return [int(v) for v in split.images[:, 0, 0, 0]]


# --- splitting --------------------------------------------------------------------------------


# --- digits -----------------------------------------------------------------------------------


def test_digits_are_split_60_20_20_by_class() -> None:
    data = load_data("digits")
    sizes = [len(part) for part in parts(data)]
    assert sum(sizes) == 1797
    assert [round(size / 1797, 2) for size in sizes] == [0.6, 0.2, 0.2]
    every = torch.cat([part.labels for part in parts(data)]).bincount()
    for part, share in zip(parts(data), (0.6, 0.2, 0.2), strict=True):
        assert (part.labels.bincount() - share * every).abs().max() <= 1.5


def test_digits_are_uint8_on_the_whole_scale_and_not_flipped() -> None:
    data = load_data("digits")
    assert (data.channels, data.image_size, len(data.classes)) == (1, 8, 10)
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert (int(data.train.images.min()), int(data.train.images.max())) == (0, 255)
    assert data.augmentation == ("crop",)


def test_mean_and_deviation_are_those_of_the_training_part_alone() -> None:
    data = load_data("digits")
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx([float(pixels.mean())], abs=1e-6)
    assert data.std == pytest.approx([float(pixels.std(correction=0))], abs=1e-6)


def test_the_split_seed_decides_the_parts() -> None:
    first, again, other = (load_data("digits", split_seed=s).test.images for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# --- parquet ----------------------------------------------------------------------------------


def test_parquet_without_parts_is_split_80_10_10(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", pictures(200), [0, 1] * 100)
    data = load_data(str(folder))
    assert [len(part) for part in parts(data)] == [160, 20, 20]
    assert sorted(grey for part in parts(data) for grey in greys(part)) == list(range(200))
    assert all(part.labels.bincount().tolist() == [len(part) // 2] * 2 for part in parts(data))
    assert data.classes == ("0", "1")
    assert data.augmentation == ("crop", "flip")


def test_images_keep_their_labels(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "a.parquet", pictures(60), [i % 3 for i in range(60)])
    for part in parts(load_data(str(folder))):
        assert [grey % 3 for grey in greys(part)] == part.labels.tolist()


def test_one_parquet_file_reads_like_its_folder(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", pictures(20), [0, 1] * 10)
    whole, one = load_data(str(folder)), load_data(str(folder / "train.parquet"))
    assert torch.equal(whole.train.images, one.train.images)


@pytest.mark.parametrize("validation", ["val.parquet", "valid-0.parquet", "validation-0.parquet"])
def test_file_names_determine_the_part(tmp_path: Path, validation: str) -> None:
    folder = write_parquet(tmp_path / "d" / "train-0.parquet", pictures(12), [0, 1] * 6)
    write_parquet(folder / "train-1.parquet", pictures(12), [0, 1] * 6)
    write_parquet(folder / validation, [picture(100)] * 4, [0, 1] * 2)
    write_parquet(folder / "test-0.parquet", [picture(200)] * 6, [0, 1] * 3)
    data = load_data(str(folder))
    assert [len(part) for part in parts(data)] == [24, 4, 6]
    assert (set(greys(data.validation)), set(greys(data.test))) == ({100}, {200})


def test_a_test_file_is_kept_whole_and_validation_comes_out_of_train(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", pictures(20), [0, 1] * 10)
    write_parquet(folder / "test.parquet", [picture(200)] * 6, [0, 1] * 3)
    data = load_data(str(folder))
    assert [len(part) for part in parts(data)] == [18, 2, 6]
    assert set(greys(data.test)) == {200}


def test_labels_may_be_words(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", pictures(20), ["dog", "cat"] * 10)
    data = load_data(str(folder))
    assert data.classes == ("cat", "dog")
    assert all(
        [data.classes[label] for label in part.labels]
        == [("dog", "cat")[g % 2] for g in greys(part)]
        for part in parts(data)
    )


@pytest.mark.parametrize(
    ("image", "label"), [("img", "fine_label"), ("image", "labels"), ("scan", "label")]
)
def test_columns_are_found_by_name_and_by_kind(tmp_path: Path, image: str, label: str) -> None:
    file = tmp_path / "d" / "train.parquet"
    data = load_data(str(write_parquet(file, pictures(20), [0, 1] * 10, image, label)))
    assert data.classes == ("0", "1")


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)])
def test_grey_images_have_one_channel_and_others_three(
    tmp_path: Path, mode: str, channels: int
) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", pictures(20, mode), [0, 1] * 10)
    data = load_data(str(folder))
    assert data.channels == channels == len(data.mean) == len(data.std)


def test_a_rewritten_file_is_read_again(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", pictures(20), [0, 1] * 10)
    assert len(load_data(str(folder)).classes) == 2
    write_parquet(folder / "train.parquet", pictures(30), [0, 1, 2] * 10)
    assert len(load_data(str(folder)).classes) == 3


def test_a_table_with_brackets_in_its_path_is_read_and_no_other(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d1" / "train.parquet", [picture(50)] * 20, [0, 1] * 10)
    own = write_parquet(tmp_path / "d[1]" / "train.parquet", [picture(200)] * 20, [0, 1] * 10)
    for path in (own, own / "train.parquet"):
        data = load_data(str(path))
        assert {grey for part in parts(data) for grey in greys(part)} == {200}
        assert sum(len(part) for part in parts(data)) == 20


def test_one_coloured_image_among_grey_ones_makes_all_of_them_colour(tmp_path: Path) -> None:
    images = [picture(9, mode="L")] * 1100 + [picture(9)] * 2
    folder = write_parquet(tmp_path / "d" / "train.parquet", images, [0, 1] * 551)
    assert load_data(str(folder)).channels == 3


def test_images_of_16_bits_keep_their_upper_8(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 0x4321, dtype=np.uint16)).save(buffer, "PNG")
    folder = write_parquet(tmp_path / "d" / "train.parquet", [buffer.getvalue()] * 6, [0, 1] * 3)
    data = load_data(str(folder))
    assert data.channels == 1
    assert set(greys(data.train)) == {0x43}


def test_images_have_the_depth_of_those_that_a_network_was_trained_on(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 4000, dtype=np.uint16)).save(buffer, "PNG")
    folder = write_parquet(tmp_path / "d" / "train.parquet", [buffer.getvalue()] * 6, [0, 1] * 3)
    assert set(greys(load_data(str(folder)).train)) == {4000 >> 4}  # 12 bits hold them
    assert set(greys(load_data(str(folder), depth=Depth(16)).train)) == {4000 >> 8}


def test_folder_names_determine_the_part(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d" / "train" / "0.parquet", pictures(20), [0, 1] * 10)
    write_parquet(tmp_path / "d" / "test" / "0.parquet", [picture(200)] * 6, [0, 1] * 3)
    data = load_data(str(tmp_path / "d"))
    assert set(greys(data.test)) == {200}
    assert 200 not in greys(data.train) + greys(data.validation)


# --- sizes ------------------------------------------------------------------------------------


def test_images_of_two_sizes_get_that_of_the_majority(tmp_path: Path) -> None:
    images = [picture(i, (12, 12)) for i in range(12)] + [picture(i, (9, 20)) for i in range(8)]
    folder = write_parquet(tmp_path / "d" / "train.parquet", images, [0, 1] * 10)
    assert load_data(str(folder)).image_size == 12


def test_the_default_size_is_224_at_most(tmp_path: Path) -> None:
    images = [picture(i, (300, 260)) for i in range(6)]
    folder = write_parquet(tmp_path / "d" / "train.parquet", images, [0, 1] * 3)
    assert load_data(str(folder)).image_size == 224


@pytest.mark.parametrize("shape", [(30, 10), (10, 30)])
def test_the_centre_is_kept(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = Image.new("L", shape, 0)
    left, top = (shape[0] - 10) // 2, (shape[1] - 10) // 2
    image.paste(255, (left, top, left + 10, top + 10))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    folder = write_parquet(tmp_path / "d" / "train.parquet", [buffer.getvalue()] * 6, [0, 1] * 3)
    images = load_data(str(folder), image_size=10).train.images
    assert images.shape[1:] == (1, 10, 10)
    assert int(images.min()) == 255


# --- image folders ----------------------------------------------------------------------------


def test_each_subfolder_of_an_image_folder_is_a_class(tmp_path: Path) -> None:
    write_folders(tmp_path / "d", ["cat", "dog"], 20)
    data = load_data(str(tmp_path / "d"))
    assert data.classes == ("cat", "dog")
    assert [len(part) for part in parts(data)] == [32, 4, 4]
    for part in parts(data):
        assert [grey // 100 for grey in greys(part)] == part.labels.tolist()


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_an_image_folder_may_have_parts(tmp_path: Path, validation: str) -> None:
    for part, n in (("train", 6), (validation, 2), ("test", 3)):
        write_folders(tmp_path / "d" / part, ["cat", "dog"], n)
    data = load_data(str(tmp_path / "d"))
    assert [len(part) for part in parts(data)] == [12, 4, 6]
    assert data.classes == ("cat", "dog")


# --- errors ----------------------------------------------------------------------------------


def refusal(name: str | Path) -> str:
    """Message of the error that `load_data` raises."""
    with pytest.raises(UserError) as caught:
        load_data(str(name))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_unknown_name_suggests_the_nearest() -> None:
    assert "unknown data 'cifr10': did you mean 'cifar10'?" in refusal("cifr10")


def test_a_missing_path_is_not_taken_for_a_hub_name(tmp_path: Path) -> None:
    assert "no data at" in refusal(tmp_path / "nowhere")
    assert "no data at" in refusal("./nowhere")
    assert "no data at" in refusal("photos/train.parquet")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none here")
    assert "neither Parquet files nor images" in refusal(tmp_path)


def test_parquet_without_images_is_refused_with_its_columns(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", None, [0, 1] * 10)
    message = refusal(folder)
    assert "no image column" in message
    assert "id, label" in message


def test_parquet_without_labels_is_refused_with_its_columns(tmp_path: Path) -> None:
    message = refusal(write_parquet(tmp_path / "d" / "train.parquet", pictures(20), None))
    assert "no label column" in message
    assert "id, img" in message


def test_images_without_class_folders_are_refused(tmp_path: Path) -> None:
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(picture(i))
    message = refusal(tmp_path)
    assert "no folders of classes" in message
    assert str(tmp_path / "cat" / "0.png") in message


@pytest.mark.parametrize("kept", [0, 300])
def test_a_broken_parquet_file_is_refused(tmp_path: Path, kept: int) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", pictures(20), [0, 1] * 10)
    file = folder / "train.parquet"
    file.write_bytes(file.read_bytes()[:kept])
    assert f"cannot read {folder}" in refusal(folder)


def test_parquet_without_rows_is_refused(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", pictures(20), [0, 1] * 10)
    table = pq.read_table(folder / "train.parquet")
    pq.write_table(table.slice(0, 0), folder / "train.parquet")
    assert "train.parquet has no rows" in refusal(folder)


@pytest.mark.parametrize("bad", [b"no image", picture(7, (64, 64))[:60]])
def test_a_corrupt_image_is_named_by_its_row(tmp_path: Path, bad: bytes) -> None:
    images = pictures(20)
    images[7] = bad
    folder = write_parquet(tmp_path / "d" / "train.parquet", images, [0, 1] * 10)
    assert "row 7 is not an image" in refusal(folder)


def test_rows_without_a_label_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "d" / "train.parquet"
    folder = write_parquet(file, pictures(20), [0, None] * 10)
    assert "row 1 of train has no label in column 'label'" in refusal(folder)


def test_labels_that_are_lists_are_refused(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", pictures(20), [[0], [1]] * 10)
    assert "expected a number or a word" in refusal(folder)


def test_a_class_with_too_few_images_is_named(tmp_path: Path) -> None:
    labels = ["cat"] * 10 + ["dog"] * 2
    message = refusal(write_parquet(tmp_path / "d" / "train.parquet", pictures(12), labels))
    assert "class 'dog' has too few images" in message
    assert "at least 3" in message


def test_three_images_of_a_class_are_enough(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "train.parquet", pictures(6), [0, 1] * 3)
    assert [part.labels.tolist() for part in parts(load_data(str(folder)))] == [[0, 1]] * 3


def test_a_test_part_alone_is_refused(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "d" / "test.parquet", pictures(20), [0, 1] * 10)
    assert "no training images" in refusal(folder)


def test_the_hub_out_of_reach_is_one_line_that_names_the_alternative(tmp_path: Path) -> None:
    # In a new process, since the client of the hub reads its offline switch on import.
    program = (
        "from evaluators.data.files.images import load_data\n"
        "from search_spaces.errors import UserError\n"
        "try:\n    load_data('cifar10')\nexcept UserError as error:\n    print(error)\n"
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(ended.stdout.splitlines()) == 1
    assert "uoft-cs/cifar10" in ended.stdout
    assert "folder of Parquet files" in ended.stdout


# --- a real data set --------------------------------------------------------------------------


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="needs ../shared/data/cifar10 beside the checkout")
def test_cifar10_is_read_and_split(tmp_path: Path) -> None:
    # A fifth of the rows, which are shuffled: all of them take too long.
    table = pq.ParquetFile(CIFAR10 / "train.parquet").read_row_groups(list(range(10)))
    pq.write_table(table, tmp_path / "train.parquet")
    data = load_data(str(tmp_path))
    assert (data.channels, data.image_size, len(data.classes)) == (3, 32, 10)
    every = torch.cat([part.labels for part in parts(data)]).bincount()
    assert int(every.sum()) == 10_000
    for part, share in zip(parts(data), (0.8, 0.1, 0.1), strict=True):
        assert (part.labels.bincount() - share * every).abs().max() <= 1.5
    # The published means of CIFAR-10's training images, which this lossy copy nearly has.
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=6e-3)
