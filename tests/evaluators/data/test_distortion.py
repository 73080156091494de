"""Training images are distorted, each in its own way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from evaluators.data import distortion
from evaluators.data.distortion import DISTORTIONS, distort


def images(n: int = 6, channels: int = 3, size: int = 12) -> Tensor:
    return torch.rand((n, channels, size, size), generator=seeded(9))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def largest(limit: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.full(shape, limit)


@pytest.mark.parametrize("kind", DISTORTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_changed_in_its_own_way(kind: str, channels: int) -> None:
    alike = images(1, channels).expand(6, -1, -1, -1)
    before = alike.clone()
    changed = distort(alike, [kind], seeded(0))
    assert changed.shape == alike.shape
    assert torch.equal(alike, before)
    assert len({tuple(image.flatten().tolist()) for image in changed}) == 6


def test_an_image_is_turned_about_its_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distortion, "_between", largest)
    for name, value in (("DEGREES", 90.0), ("SCALE", 0.0), ("SHEAR", 0.0)):
        monkeypatch.setattr(distortion, name, value)
    turned = distort(images(), ["affine"], seeded(0))
    torch.testing.assert_close(turned, images().rot90(1, (2, 3)), atol=1e-4, rtol=0)


def test_colours_change_as_a_whole() -> None:
    """Each channel of an image by one factor, that of the image, and one summand."""
    before, after = images(), distort(images(), ["colour"], seeded(0))
    for one, other in zip(before, after, strict=True):
        lines = [(b.flatten().diff(), a.flatten().diff()) for b, a in zip(one, other, strict=True)]
        factors = torch.stack([(b * a).sum() / (b * b).sum() for b, a in lines])
        torch.testing.assert_close(factors, factors[:1].expand(3), atol=1e-3, rtol=0)
        assert 0.69 < float(factors[0]) < 1.31
        shifts = (other - factors[0] * one).flatten(1)
        torch.testing.assert_close(shifts, shifts[:, :1].expand_as(shifts), atol=1e-3, rtol=0)


def test_a_square_is_erased_and_the_rest_is_kept() -> None:
    before = 1 + images(200, size=16)
    after = distort(before, ["erase"], seeded(0))
    erased = after == 0
    assert torch.equal(after[~erased], before[~erased])
    assert torch.equal(erased[:, 0], erased[:, 1])
    whole = erased[:, 0].flatten(1).sum(1)
    assert int(whole.max()) == 16  # a quarter of the side: four by four
    assert int(whole.median()) == 16


def test_several_kinds_follow_each_other_and_none_changes_nothing() -> None:
    assert torch.equal(distort(images(), (), seeded(0)), images())
    generator = seeded(0)
    expected = images()
    for kind in ("affine", "colour", "erase"):
        expected = distort(expected, [kind], generator)
    assert torch.equal(distort(images(), ("erase", "colour", "affine"), seeded(0)), expected)
