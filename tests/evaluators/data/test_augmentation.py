"""Augmentation, normalisation and mixing of batches of images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from evaluators.data.augmentation import Augmentation, Normalisation, augment, mix, prepare, resize
from search_spaces.errors import UserError

CROP, FLIP = Augmentation(crop=True), Augmentation(flip=True)
BOTH = Augmentation(crop=True, flip=True)
# Deadlines are off, since durations on shared machines vary.
LAW = settings(deadline=None)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def batches(draw: st.DrawFn) -> Tensor:
    n, channels = draw(st.integers(1, 9)), draw(st.sampled_from([1, 3]))
    height, width = draw(st.integers(4, 20)), draw(st.integers(4, 20))
    # From 1, so that a 0 can only be padding.
    shape = (n, channels, height, width)
    return torch.randint(1, 256, shape, generator=seeded(draw(st.integers(0, 99)))).byte()


@LAW
@given(batches(), st.integers(0, 2**32))
def test_the_same_seed_augments_alike_and_leaves_its_input_alone(images: Tensor, seed: int) -> None:
    before = images.clone()
    first, again = (augment(images, BOTH, seeded(seed)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(images, before)


def test_another_seed_augments_differently() -> None:
    images = torch.randint(1, 256, (16, 3, 8, 8), generator=seeded(0)).byte()
    assert not torch.equal(augment(images, BOTH, seeded(0)), augment(images, BOTH, seeded(1)))


@LAW
@given(batches(), st.integers(0, 99))
def test_augmenting_keeps_shape_and_type(images: Tensor, seed: int) -> None:
    out = augment(images, BOTH, seeded(seed))
    assert (out.shape, out.dtype) == (images.shape, images.dtype)


@LAW
@given(batches(), st.integers(0, 99))
def test_nothing_chosen_changes_nothing(images: Tensor, seed: int) -> None:
    assert torch.equal(augment(images, Augmentation(), seeded(seed)), images)


@LAW
@given(batches(), st.integers(0, 99))
def test_flipping_twice_by_the_same_seed_gives_the_image_back(images: Tensor, seed: int) -> None:
    once = augment(images, FLIP, seeded(seed))
    assert torch.equal(augment(once, FLIP, seeded(seed)), images)


def test_each_image_is_flipped_or_not_and_about_half_are() -> None:
    images = torch.arange(8).byte().expand(2000, 1, 4, 8)
    flipped = augment(images, FLIP, seeded(0))
    mirrored = (flipped == images.flip(3)).all((1, 2, 3))
    assert bool((mirrored | (flipped == images).all((1, 2, 3))).all())
    assert 0.45 < float(mirrored.float().mean()) < 0.55


def windows(image: Tensor, pad: int) -> list[Tensor]:
    """All shifts of an image `(channels, height, width)`, one at a time."""
    _, height, width = image.shape
    padded = torch.nn.functional.pad(image, (pad, pad, pad, pad))
    shifts = range(2 * pad + 1)
    return [padded[:, y : y + height, x : x + width] for y in shifts for x in shifts]


@LAW
@given(batches(), st.integers(0, 99))
def test_each_crop_is_its_own_image_shifted(images: Tensor, seed: int) -> None:
    pad = max(1, images.shape[2] // 8)
    for image, cropped in zip(images, augment(images, CROP, seeded(seed)), strict=True):
        assert any(torch.equal(cropped, window) for window in windows(image, pad))


def test_every_shift_occurs_and_images_shift_apart() -> None:
    image = torch.arange(1, 65).view(1, 8, 8).byte()
    cropped = augment(image.expand(600, 1, 8, 8), CROP, seeded(0))
    counts = [int((cropped == window).all((1, 2, 3)).sum()) for window in windows(image, 1)]
    assert sum(counts) == 600
    assert min(counts) > 600 / 9 / 2


@LAW
@given(batches(), st.sampled_from([4, 8, 13, 24]))
def test_prepared_images_have_the_size_and_are_floats(images: Tensor, size: int) -> None:
    channels = images.shape[1]
    out = prepare(images, Normalisation((0.5,) * channels, (0.25,) * channels), size)
    assert out.shape == (len(images), channels, size, size)
    assert out.dtype == torch.float32


@LAW
@given(batches())
def test_prepared_images_are_normalised_by_channel_and_the_input_is_kept(images: Tensor) -> None:
    square = images[:, :, :4, :4].contiguous(memory_format=torch.channels_last)
    before = square.clone()
    channels = images.shape[1]
    mean, std = (0.1, 0.2, 0.3)[:channels], (0.5, 1.0, 2.0)[:channels]
    out = prepare(square, Normalisation(mean, std), 4)
    for channel in range(channels):
        expected = (square[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(out[:, channel].double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(square, before)


def test_resizing_to_the_same_size_is_no_work() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert resize(images, 8) is images


@LAW
@given(st.floats(-3, 3), st.sampled_from([3, 5, 8, 20]))
def test_a_plain_image_stays_plain_at_any_size(value: float, size: int) -> None:
    torch.testing.assert_close(
        resize(torch.full((1, 1, 8, 8), value), size), torch.full((1, 1, size, size), value)
    )


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = torch.tensor([0.0, 0.0, 1.0, 0.0]).repeat(8).expand(1, 1, 32, 32)
    small = resize(stripes, 8)
    torch.testing.assert_close(small.mean(), stripes.mean(), atol=0.02, rtol=0)


@LAW
@given(st.integers(2, 12), st.integers(2, 5), st.floats(0.05, 2), st.integers(0, 99))
def test_mixing_keeps_shapes_and_targets_are_probabilities(
    n: int, classes: int, alpha: float, seed: int
) -> None:
    images, labels = torch.rand(n, 3, 4, 4), torch.arange(n) % classes
    mixed, targets = mix(images, labels, classes, Augmentation(mixup=alpha), seeded(seed))
    assert mixed.shape == images.shape
    assert targets.shape == (n, classes)
    assert float(targets.min()) >= 0
    torch.testing.assert_close(targets.sum(1), torch.ones(n))


@LAW
@given(st.integers(2, 12), st.integers(0, 99))
def test_images_and_targets_are_mixed_by_the_same_weight_and_partner(n: int, seed: int) -> None:
    # Images that are their own one-hot labels must stay equal to their targets.
    labels = torch.arange(n)
    images = torch.eye(n).view(n, 1, 1, n)
    mixed, targets = mix(images, labels, n, Augmentation(mixup=1.0), seeded(seed))
    torch.testing.assert_close(mixed.view(n, n), targets)


def test_mixing_is_the_same_for_the_same_seed() -> None:
    images, labels = torch.rand(6, 1, 4, 4), torch.arange(6)
    first, again = (mix(images, labels, 6, Augmentation(mixup=0.2), seeded(3)) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


@LAW
@given(st.integers(2, 9), st.integers(1, 9), st.integers(0, 999))
def test_a_pasted_rectangle_weighs_in_the_targets_by_its_area(n: int, size: int, seed: int) -> None:
    """Each image has one colour, its label, so that its pixels count what was pasted."""
    labels = torch.arange(n)
    images = labels.float().view(n, 1, 1, 1).expand(n, 1, size, size)
    mixed, targets = mix(images, labels, n, Augmentation(cutmix=1.0), seeded(seed))
    shares = F.one_hot(mixed.long().flatten(1), n).float().mean(1)
    torch.testing.assert_close(shares, targets)


def test_with_both_ways_of_mixing_each_batch_is_mixed_in_one() -> None:
    images, labels = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8), torch.arange(4)
    both = Augmentation(mixup=0.5, cutmix=1.0)
    pasted = [bool((mix(images, labels, 4, both, seeded(s))[0] % 1 == 0).all()) for s in range(40)]
    assert 8 < sum(pasted) < 32


def test_cutmix_is_added_to_what_does_not_mix() -> None:
    assert BOTH.with_cutmix(0.3) == Augmentation(True, True, cutmix=1.0, share=0.3)
    mixing = Augmentation(flip=True, mixup=0.2)
    assert mixing.with_cutmix(0.3) == mixing


def test_augmentations_are_chosen_by_name() -> None:
    assert Augmentation.from_names(("crop", "flip")) == BOTH
    assert Augmentation.from_names(()) == Augmentation()
    assert Augmentation.from_names(["mixup"]).mixup > 0
    assert Augmentation.from_names(["cutmix"]).cutmix > 0


def test_an_unknown_augmentation_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown augmentation 'flp': did you mean 'flip'"):
        Augmentation.from_names(("crop", "flp"))
