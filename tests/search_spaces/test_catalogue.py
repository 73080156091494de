"""Spaces by name, by family and from a user's file."""

from __future__ import annotations

import colorsys
import sys
from pathlib import Path

import pytest

from search_spaces.catalogue import FAMILIES, PRESETS, SPACES, load_space, preset_for
from search_spaces.errors import UserError
from search_spaces.space import SearchSpace
from search_spaces.user_files import load_object

OWN = """
from search_spaces import Block, BlockBuilder, Choice, SearchSpace

def make(image_size=8, channels=1, classes=10):
    def ops(width):
        build = BlockBuilder(channels, image_size or 8, image_size or 8)
        build.linear("out", build.global_pool("pool", build.conv("c", build.input, width)), classes)
        return build.ops
    return SearchSpace("own", (Choice("width", (4, 8)),), (Block("all", ("width",), ops),))

space = make()
number = 3

def gives_a_number(**shape):
    return 3

def small(image_size=8, channels=1, classes=10):
    return make(image_size=image_size, channels=channels, classes=classes)

def never(**shape):
    choices = (Choice("width", (4, 8)), Choice("kernel", (3, 5), "width"))
    return SearchSpace("never", choices, space.blocks)

def fails(**shape):
    raise RuntimeError("no luck")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that defines spaces, removed from `sys.modules` after the test."""
    path = tmp_path / "own_spaces_of_a_test.py"
    path.write_text(OWN)
    monkeypatch.delitem(sys.modules, path.stem, raising=False)
    return path


def classes_of(space: SearchSpace) -> int:
    return space.ops(space.smallest)[-1][1][-1].out_shape[0]


@pytest.mark.parametrize("name", sorted(SPACES))
def test_named_spaces_load_under_their_name(name: str) -> None:
    space = load_space(name)
    assert space.name == name
    small = ("tiny", "cifar", "nasbench201", "darts", "macro")
    ten = name.endswith(small) and not name.startswith("autoformer")
    assert classes_of(space) == (10 if ten else 1000)
    assert space.input_shape(space.largest)[0] == 3


def test_without_data_a_users_space_has_its_default_image_size(own: Path) -> None:
    space = load_space(f"{own}:small")
    assert space.input_shape(space.largest)[1:] == (8, 8)


def test_every_family_has_every_preset() -> None:
    assert {f"{f}-{p}" for f in FAMILIES for p in PRESETS} <= SPACES.keys()


@pytest.mark.parametrize(
    ("size", "preset"),
    [(8, "tiny"), (31, "tiny"), (32, "cifar"), (63, "cifar"), (64, "imagenet"), (500, "imagenet")],
)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_selects_the_preset_by_image_size(family: str, size: int, preset: str) -> None:
    assert preset_for(size) == preset
    assert load_space(family, image_size=size).name == f"{family}-{preset}"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_without_images_is_for_imagenet(family: str) -> None:
    assert load_space(family).name == f"{family}-imagenet"


@pytest.mark.parametrize("name", sorted(SPACES))
def test_channels_and_classes_reach_the_network(name: str) -> None:
    space = load_space(name, channels=1, classes=7)
    for arch in (space.smallest, space.largest):
        assert space.input_shape(arch)[0] == 1
    assert classes_of(space) == 7


def test_resolutions_of_tiny_follow_the_image_size() -> None:
    def resolutions(name: str, image_size: int) -> tuple[object, ...]:
        space = load_space(name, image_size=image_size)
        return space.choices[space.column["resolution"]].options

    assert resolutions("mobilenet-tiny", 8) == (8, 12, 16)
    assert resolutions("mobilenet-tiny", 28) == (16, 20, 24, 28)
    assert resolutions("vit-tiny", 8) == (8, 12, 16)
    assert resolutions("vit-tiny", 28) == (16, 24, 32)


def test_tiny_accepts_large_images() -> None:
    space = load_space("mobilenet-tiny", image_size=66)
    assert space.input_shape(space.largest)[-1] == 32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilnet", r"unknown space 'mobilnet': did you mean 'mobilenet'\? \(known: "),
        ("vit-imagnet", r"unknown space 'vit-imagnet': did you mean 'vit-imagenet'\?"),
        ("", r"unknown space '': \(known: attentivenas, autoformer-base, "),
    ],
)
def test_an_unknown_name_suggests_the_nearest_one(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_space(name)
    assert all(known in str(caught.value) for known in (*SPACES, *FAMILIES))
    assert "\n" not in str(caught.value)


def test_a_file_defines_a_space_or_a_function_that_returns_one(own: Path) -> None:
    assert load_space(f"{own}:space").name == "own"
    made = load_space(f"{own}:make", image_size=12, channels=2, classes=5)
    assert made.input_shape(made.largest) == (2, 12, 12)
    assert classes_of(made) == 5
    assert classes_of(load_space(f"{own}:make")) == 10


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spcae", r"unknown name in .*own_spaces_of_a_test.py 'spcae': did you mean 'space'\?"),
        ("", r"unknown name in .* '': \(known: .*space"),
        ("number", r"fails: TypeError: 'int' object is not callable"),
        ("gives_a_number", r"returns a int, expected a SearchSpace"),
        ("fails", r"fails: RuntimeError: no luck"),
        ("never", r"choice 'kernel' is never active: .* options of its parent 'width'"),
    ],
)
def test_a_file_without_a_space_raises(own: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_space(f"{own}:{name}")


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing.py"
    with pytest.raises(UserError, match=rf"no file '{missing}' .*expected file.py:NAME"):
        load_space(f"{missing}:space")
    with pytest.raises(UserError, match="no file"):
        load_space(f"{tmp_path}:space")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 / 0", "fails to run: ZeroDivisionError: division by zero"),
        ("def (", "fails to run: SyntaxError"),
        ("import no_such_module_at_all", "fails to run: ModuleNotFoundError"),
    ],
)
def test_the_error_of_a_failing_file_has_its_reason(
    own: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    own.write_text(content)
    with pytest.raises(UserError, match=message):
        load_space(f"{own}:space")


def test_a_file_that_is_not_python_raises(tmp_path: Path) -> None:
    path = tmp_path / "space.txt"
    path.write_text(OWN)
    with pytest.raises(UserError, match="not a Python file"):
        load_space(f"{path}:space")


def test_an_object_of_any_kind_loads(own: Path) -> None:
    assert load_object(f"{own}:number") == 3


def test_a_file_named_like_a_module_does_not_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "colorsys", colorsys)
    path = tmp_path / "colorsys.py"
    path.write_text(OWN)
    load_space(f"{path}:space")
    assert sys.modules["colorsys"] is colorsys
