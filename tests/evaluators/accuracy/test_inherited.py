"""Scores with inherited weights, against the recalibrated subnet."""

from __future__ import annotations

import pytest
import torch

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.augmentation import Normalisation, prepare
from evaluators.data.images import ImageData, Split
from nas.supernet.shared_weights import Supernet
from search_spaces.catalogue import load_space

PLAIN = Normalisation((0.0,), (1.0,))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["mobilenet-tiny", "vit-tiny"])
def test_inherited_accuracy_is_that_of_the_recalibrated_subnet(name: str) -> None:
    torch.manual_seed(0)
    supernet = Supernet(load_space(name, channels=1)).train()
    space = supernet.space
    images = torch.randint(0, 256, (100, 1, 8, 8), generator=seeded(0)).byte()
    split = Split(images[:60], torch.arange(60) % 10)
    classes = tuple("0123456789")
    data = ImageData("noise", split, split, split, classes, PLAIN.mean, PLAIN.std, ())
    score = InheritedAccuracy(supernet, data, images[60:])
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    for arch in space.decode(space.sample(2, 0)):
        network = supernet.extract(arch)
        size = space.input_shape(arch)[-1]
        recalibrate(network, [prepare(images[60:], PLAIN, size)])
        network.eval()
        with torch.no_grad():
            expected = network(prepare(split.images, PLAIN, size))
            recalibrated = score.recalibrated(arch)
            assert not any(m.training for m in recalibrated.modules())
            inside = recalibrated(prepare(split.images, PLAIN, size))
        torch.testing.assert_close(inside, expected, rtol=1e-4, atol=1e-5)
        share = int((expected.argmax(1) == split.labels).sum()) / 60
        assert score(arch) == score(arch) == {"accuracy": pytest.approx(share, abs=1.5 / 60)}
    assert supernet.training
    assert all(torch.equal(before[key], v) for key, v in supernet.state_dict().items())
