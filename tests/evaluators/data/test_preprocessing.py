"""A file becomes what training made of it: the same pixels, the same inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluators.data.augmentation import Normalisation, prepare
from evaluators.data.files.images import load_data
from evaluators.data.pixels import Depth
from evaluators.data.preprocessing import Preprocessing
from pictures import SHAPES, deep_png, write_pictures
from search_spaces.errors import UserError


def of(data_name: Path, size: int, input_size: int) -> tuple[Preprocessing, object]:
    data = load_data(str(data_name), image_size=size)
    shape = [data.channels, input_size, input_size]
    return Preprocessing.of({**data.description, "input_shape": shape}), data


def test_files_of_the_test_part_become_the_images_of_the_test_part(tmp_path: Path) -> None:
    write_pictures(tmp_path / "all", 10, seed=0, largest=90)
    data = load_data(str(tmp_path / "all"), image_size=24)
    preprocessing, _ = of(tmp_path / "all", 24, 24)
    assert data.classes == SHAPES
    names = data.names("test")
    assert names is not None
    assert len(names) == len(data.test) > 0
    for name, image, label in zip(names, data.test.images, data.test.labels, strict=True):
        assert Path(name).parent.name == SHAPES[label]
        decoded = preprocessing.decode(tmp_path / "all" / name)
        assert np.array_equal(decoded, image.permute(1, 2, 0).numpy()), name
    assert data.names("train") is None


@pytest.mark.parametrize("sizes", [(32, 32), (32, 24), (24, 32), (48, 17)])
@pytest.mark.parametrize("channels", [1, 3])
def test_inputs_are_those_of_training(sizes: tuple[int, int], channels: int) -> None:
    before, after = sizes
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.25)[:channels]
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (3, before, before, channels), dtype=np.uint8)
    given = Preprocessing(before, after, mean, std).inputs(pixels)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    expected = prepare(images, Normalisation(mean, std), after).numpy()
    assert given.shape == expected.shape
    assert np.abs(given - expected).max() < 1e-4


def test_what_a_description_says_is_read_back() -> None:
    made = Preprocessing(40, 24, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), Depth(12, 1.0))
    assert Preprocessing.of({**made.to_config(), "input_shape": [3, 24, 24]}) == made


def test_exports_of_earlier_versions_resize_to_the_input() -> None:
    made = Preprocessing.of({"input_shape": [1, 8, 8], "mean": [0.3], "std": [0.4]})
    assert (made.image_size, made.input_size, made.channels) == (8, 8, 1)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"input_shape": [1, 8, 8], "mean": [0.3]},
        {"input_shape": [1, 8, 8], "mean": [0.3], "std": [1, 1]},
        {"input_shape": [2, 8, 8], "mean": [0.3, 0.2], "std": [1, 1]},
        {"input_shape": "x", "mean": [0.3], "std": [1]},
    ],
)
def test_a_malformed_description_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(UserError, match="malformed preprocessing"):
        Preprocessing.of(config)


def test_a_network_of_grey_images_reads_the_luma_of_colours(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    given = Preprocessing(8, 8, (0.5,), (0.5,)).decode(tmp_path / "a.png")
    assert np.array_equal(given[:, :, 0], np.asarray(Image.fromarray(colours).convert("L")))


@pytest.mark.parametrize(("bits", "expected"), [(None, 4000 >> 4), (16, 4000 >> 8), (10, 255)])
def test_wide_pixels_have_the_scale_of_the_training_images(
    bits: int | None, expected: int, tmp_path: Path
) -> None:
    Image.fromarray(np.full((8, 8), 4000, dtype=np.uint16)).save(tmp_path / "a.png")
    given = Preprocessing(8, 8, (0.5,), (0.5,), Depth(bits)).decode(tmp_path / "a.png")
    assert (given == expected).all()


def test_the_depth_of_a_data_set_is_in_its_description(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(4):
            pixels = draw.integers(0, 1 << 12, (8, 8), dtype=np.uint16)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    assert load_data(str(tmp_path)).description["bits"] == 12


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(UserError, match=r"a\.png is not an image that can be read"):
        Preprocessing(8, 8, (0.5,), (0.5,)).decode(tmp_path / "a.png")


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [float("nan")] * 3},
        {"std": [0.0, 1.0, 1.0]},
        {"std": [-0.2, 1.0, 1.0]},
        {"std": [float("inf"), 1.0, 1.0]},
        {"bits": -3},
        {"bits": "8"},
        {"white": 0.0},
        {"image_size": 10**9},
        {"input_shape": [3, 10**9, 10**9]},
    ],
)
def test_descriptions_that_no_image_survives_are_refused(change: dict[str, object]) -> None:
    whole = Preprocessing(8, 8, (0.5,) * 3, (0.2,) * 3, Depth(12, 1.0)).to_config()
    described = {**whole, "input_shape": [3, 8, 8]}
    assert Preprocessing.of(described).depth == Depth(12, 1.0)
    with pytest.raises(UserError, match="malformed preprocessing"):
        Preprocessing.of({**described, **change})


def test_dark_colours_of_16_bits_stay_dark_for_a_network_of_greys(tmp_path: Path) -> None:
    colours, greys = tmp_path / "colours.png", tmp_path / "greys.png"
    colours.write_bytes(deep_png(2048, 1024, 512))
    Image.fromarray(np.full((8, 8), 2048, np.uint16)).save(greys)
    made = Preprocessing(8, 8, (0.5,), (0.5,))
    luma = (2048 * 299 + 1024 * 587 + 512 * 114) // 1000
    assert np.unique(made.decode(colours)).tolist() == [luma >> 8] == [4]
    assert np.unique(made.decode(greys)).tolist() == [2048 >> 4]  # of 12 bits, as sensors have
