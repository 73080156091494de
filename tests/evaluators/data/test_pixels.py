"""Images of every mode are read right, or refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evaluators.data.files.images import load_data
from evaluators.data.pixels import Depth, decode, decode_all, to_bytes
from pictures import deep_png
from search_spaces.errors import UserError


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(*values: Any, size: int = 8) -> list[int]:
    """The first pixel of each of some images."""
    images = to_bytes({"train": decode_all(values, "data: train", size)}, "data")["train"]
    assert all(image.dtype == np.uint8 for image in images)
    return [int(image[0, 0, 0]) for image in images]


def refusal(*values: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(*values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of(value: Any, kind: Any) -> Image.Image:
    return Image.fromarray(np.full((8, 8), value, kind))


def test_fractions_are_of_1_or_of_255() -> None:
    images = [encoded(of(v, np.float32), "TIFF") for v in (0.3, 0.6, 1.0)]
    assert read(*images) == [round(0.3 * 255), round(0.6 * 255), 255]
    assert read(*(encoded(of(v, np.float32), "TIFF") for v in (0.3, 200.4))) == [0, 200]


@pytest.mark.parametrize("value", [-0.5, 300.0, float("nan")])
def test_other_fractions_are_refused(value: float) -> None:
    assert "nan" not in refusal(encoded(of(value, np.float32), "TIFF"))


@pytest.mark.parametrize(
    ("largest", "shift"), [(255, 0), (1023, 2), (4095, 4), (16_383, 6), (65_535, 8)]
)
def test_whole_numbers_keep_the_upper_8_of_their_bits(largest: int, shift: int) -> None:
    values = [largest, largest // 3, 7]
    images = [encoded(of(v, np.uint16)) for v in values]
    assert read(*images) == [v >> shift for v in values]
    assert read(*(np.full((8, 8), v).tolist() for v in values)) == [v >> shift for v in values]


@pytest.mark.parametrize("value", [-1, 65_536, 2**32 + 5, -(2**32), 2**63 + 5])
def test_other_whole_numbers_are_refused(value: int) -> None:
    assert "expected 0 to 65535" in refusal(np.full((8, 8), value).tolist())


def deep_tiff(value: int, order: str, compression: str) -> bytes:
    """A TIFF file of three times 16 bits, which Pillow does not write: one of bytes, relabelled."""
    pixels = np.full((8, 8, 3), value, f"{order}u2").tobytes()
    content = zlib.compress(pixels) if compression == "deflate" else pixels
    tags = [(256, 3, 8), (257, 3, 8), (259, 3, 8 if compression == "deflate" else 1), (262, 3, 2)]
    begin = 8 + 2 + 12 * 8 + 4
    tags += [(273, 4, begin + 6), (277, 3, 3), (278, 3, 8), (279, 4, len(content))]
    entries = {tag: (kind, 1, number) for tag, kind, number in tags}
    entries[258] = (3, 3, begin + 12)
    begin += 12  # one more entry
    entries[273] = (4, 1, begin + 6)
    packed = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    for tag, (kind, count, number) in sorted(entries.items()):
        form = "HHIHH" if (kind, count) == (3, 1) else "HHII"
        numbers = (number, 0) if form == "HHIHH" else (number,)
        packed += struct.pack(f"{order}{form}", tag, kind, count, *numbers)
    return packed + struct.pack(f"{order}IHHH", 0, 16, 16, 16) + content


@pytest.mark.parametrize(
    ("largest", "shift"), [(255, 0), (1023, 2), (4095, 4), (16_383, 6), (65_535, 8)]
)
def test_colours_of_16_bits_keep_the_upper_8_of_those_in_use(largest: int, shift: int) -> None:
    values = [largest, largest // 3, 7]
    right = [v >> shift for v in values]
    assert read(*(deep_png(v, 0, 1) for v in values)) == right
    assert read(*(deep_png(v, 65_535) for v in values)) == right
    assert read(*(deep_png(v, 0, 1, 65_535) for v in values)) == right
    for order in "<>":
        for compression in ("none", "deflate"):
            assert read(*(deep_tiff(v, order, compression) for v in values)) == right


def test_transparent_pixels_of_16_bits_are_white() -> None:
    seen = [deep_png(9, 0), deep_png(9, 9, 9, 0), deep_png(9, 8, 7, transparent=(9, 8, 7))]
    assert read(*seen) == [255, 255, 255]
    assert decode(deep_png(9, 0), "data", 0, 8).shape == (8, 8, 1)


def test_one_image_of_16_bits_has_them_from_black_to_white() -> None:
    image = decode(deep_png(1000, 2000, 3000), "data", 0, 8)
    assert Depth().narrow(image, "data")[0, 0].tolist() == [1000 >> 8, 2000 >> 8, 3000 >> 8]
    assert Depth(12).narrow(image, "data")[0, 0].tolist() == [1000 >> 4, 2000 >> 4, 3000 >> 4]
    grey = decode(deep_png(1000, 2000, 3000), "data", 0, 8, grey=True)
    assert grey[0, 0].tolist() == [(1000 * 299 + 2000 * 587 + 3000 * 114) // 1000]


def test_8_bits_beside_16_keep_their_scale() -> None:
    assert read(encoded(of(200, np.uint8)), encoded(of(40_000, np.uint16))) == [200, 40_000 >> 8]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_images_are_turned_as_their_orientation_says(kind: str) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4] = 200  # bright at the top: at the right when turned by 90 degrees
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x112] = 6
    turned = decode(encoded(image, kind, exif=exif), "data", 0, 8)
    assert turned[:, :4].mean() < 5
    assert turned[:, 4:].mean() > 195


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_white(mode: str) -> None:
    colours = {"RGBA": (9, 9, 9, 0), "LA": (9, 0)}
    assert read(encoded(Image.new(mode, (8, 8), colours[mode]))) == [255]
    opaque = {"RGBA": (9, 9, 9, 255), "LA": (9, 255)}
    assert read(encoded(Image.new(mode, (8, 8), opaque[mode]))) == [9]


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)]
)
def test_grey_modes_have_one_channel(mode: str, channels: int) -> None:
    image = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    assert decode(encoded(image), "data", 0, 8).shape == (8, 8, channels)


def test_lists_of_pixels_have_their_channels_first_or_last() -> None:
    pixels = np.arange(8 * 8 * 3).reshape(8, 8, 3)
    for value in (pixels, pixels.transpose(2, 0, 1)):
        assert (decode(value.tolist(), "data", 0, 8) == pixels).all()


@pytest.mark.parametrize(
    "value", [[1, 2], [["a"]], [[[1, 2], [1, 2]], [[1, 2], [1, 2]]], None, b"", "word"]
)
def test_what_is_no_image_is_named_by_its_row(value: Any) -> None:
    assert "data: train: row 1 is not an image" in refusal(encoded(of(1, np.uint8)), value)


def test_a_corrupt_file_is_named_by_its_path(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            (tmp_path / name / f"{i}.png").write_bytes(encoded(of(i, np.uint8)))
    (tmp_path / "dog" / "7.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"dog/7\.png is not an image"):
        load_data(str(tmp_path))


def test_a_column_of_bytes_is_one_of_images(tmp_path: Path) -> None:
    rows = [encoded(of(i, np.uint8)) for i in range(20)]
    table = pa.table({"image": pa.array(rows, pa.binary()), "label": [i % 2 for i in range(20)]})
    pq.write_table(table, tmp_path / "d.parquet")
    assert len(load_data(str(tmp_path / "d.parquet")).train) == 16


def test_a_file_of_several_pages_is_refused_and_of_an_animation_the_first_picture_is_read() -> None:
    pages = [of(9, np.uint8), of(200, np.uint8)]
    said = refusal(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert "row 0 is not an image that can be read: it has 2 pages, expected one" in said
    assert read(encoded(pages[0], "GIF", save_all=True, append_images=pages[1:])) == [9]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_of_a_thin_image_the_centre_is_as_of_all_of_it(kind: Any) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 500), dtype=np.uint8).astype(kind)
    found = decode_all([encoded(Image.fromarray(values))], "data: train", 16)[0][:, :, 0]
    whole = Image.fromarray(values.astype(np.float32)).resize(
        (round(500 * 16 / 6), 16), Image.Resampling.BILINEAR
    )
    left = (whole.width - 16) // 2
    expected = np.asarray(whole)[:, left : left + 16]
    assert np.abs(found - expected).max() <= 1


def test_an_extremely_thin_image_takes_little_memory() -> None:
    """All of it would have 60,000 times 224 columns of 224 pixels: 3 GB."""
    thin = encoded(Image.fromarray(np.full((1, 60_000), 7, np.uint8)))
    (found,) = decode_all([thin], "data: train", 224)
    assert found.shape == (224, 224, 1)
    assert (found == 7).all()
