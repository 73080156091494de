"""The Once-for-All spaces against the authors' networks, torch's counter and a supernet."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs.tables import CostTables
from nas.supernet.shared_weights import Supernet
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.networks.modules import build
from search_spaces.space import SearchSpace
from search_spaces.spaces.papers.ofa import ofa_mbv3, ofa_proxyless

Make = Callable[..., SearchSpace]
WIDTHS: list[tuple[Make, float]] = [(ofa_mbv3, 1.0), (ofa_mbv3, 1.2), (ofa_proxyless, 1.3)]


@cache
def tables_of(make: Make, width: float) -> CostTables:
    return CostTables(make(width))


def counted_by_torch(space: SearchSpace, arch: Architecture) -> tuple[int, int]:
    with torch.device("meta"):
        network = build(space, arch).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *space.input_shape(arch)))
    return counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters())


def digits(text: str) -> list[int]:
    return [int(digit) for digit in text]


# Random subnets of the authors' package (`ofa` 0.1.0), one digit per block: `ks`, `e` and `d` of
# its sampler, the resolution, and MACs and parameters of the network of `get_active_subnet`.
SUBNETS: list[tuple[Make, float, str, str, str, int, tuple[int, int]]] = [
    (
        ofa_mbv3,
        1.0,
        "37353555753353557375",
        "46363433366346346363",
        "33423",
        156,
        (136_201_976, 5_036_464),
    ),
    (
        ofa_mbv3,
        1.0,
        "73553577337753757775",
        "66344646463436446346",
        "44432",
        184,
        (238_896_320, 4_524_328),
    ),
    (
        ofa_mbv3,
        1.2,
        "35537335775555555777",
        "63633464463444446436",
        "22243",
        200,
        (315_129_648, 6_582_600),
    ),
    (
        ofa_mbv3,
        1.2,
        "53777557555575773335",
        "63633346633664633436",
        "44422",
        152,
        (225_359_912, 5_535_056),
    ),
    (
        ofa_proxyless,
        1.3,
        "337337335535755573373",
        "366464644343366666466",
        "332431",
        216,
        (593_435_984, 5_969_024),
    ),
    (
        ofa_proxyless,
        1.0,
        "357555533373755557333",
        "334344334366643466634",
        "334321",
        216,
        (291_245_528, 3_350_952),
    ),
    (
        ofa_proxyless,
        1.3,
        "757777777777575357757",
        "466444363444364364466",
        "233241",
        172,
        (348_026_400, 6_298_656),
    ),
    (
        ofa_proxyless,
        1.0,
        "757355733357357753753",
        "334633446666644643643",
        "322331",
        180,
        (188_127_512, 3_278_304),
    ),
]


def encoding_of(ks: str, e: str, d: str, r: int) -> dict[str, Any]:
    return {"ks": digits(ks), "e": digits(e), "d": digits(d), "r": r}


def as_published(arch: Architecture) -> dict[str, Any]:
    """The paper's encoding of an architecture, with 3 for inactive choices."""
    stages = 1 + max(int(name[5]) for name in arch if name.startswith("stage"))
    layers = [(s, k) for s in range(stages) for k in range(4 if s < 5 else 1)]
    return {
        "ks": [arch.get(f"stage{s}_layer{k}_kernel", 3) for s, k in layers],
        "e": [arch.get(f"stage{s}_layer{k}_expand", 3) for s, k in layers],
        "d": [arch[f"stage{s}_depth"] for s in range(5)],
        "r": arch["resolution"],
    }


@pytest.mark.parametrize(("make", "width", "ks", "e", "d", "r", "expected"), SUBNETS)
def test_subnets_of_the_authors_package_have_equal_costs(
    make: Make, width: float, ks: str, e: str, d: str, r: int, expected: tuple[int, int]
) -> None:
    tables = tables_of(make, width)
    arch = tables.space.architecture(encoding_of(ks, e, d, r))
    cost = tables.cost(arch)
    assert (cost["macs"], cost["params"]) == expected == counted_by_torch(tables.space, arch)


@pytest.mark.parametrize(
    ("make", "width", "smallest", "largest"),
    [
        (ofa_mbv3, 1.0, (41_476_224, 3_410_792), (566_170_656, 7_664_760)),
        (ofa_mbv3, 1.2, (65_536_896, 4_602_456), (843_101_040, 10_701_632)),
        (ofa_proxyless, 1.3, (87_823_104, 3_718_832), (1_004_908_032, 7_942_056)),
    ],
)
def test_smallest_and_largest_are_exact_and_bounds(
    make: Make, width: float, smallest: tuple[int, int], largest: tuple[int, int]
) -> None:
    tables = tables_of(make, width)
    space = tables.space
    scored = tables.score(space.sample(20_000, seed=0))
    for arch, expected in ((space.smallest, smallest), (space.largest, largest)):
        cost = tables.cost(arch)
        assert (cost["macs"], cost["params"]) == expected == counted_by_torch(space, arch)
    assert scored["macs"].min() >= smallest[0]
    assert scored["macs"].max() <= largest[0]


def test_the_number_of_networks_is_that_of_the_paper() -> None:
    # Section 4.1: about 2 x 10^19 networks, each at 25 resolutions.
    stages = (9**2 + 9**3 + 9**4) ** 5
    assert ofa_mbv3().size == 25 * stages
    assert ofa_proxyless().size == 25 * stages * 9


@settings(max_examples=30, deadline=None)
@given(which=st.sampled_from(WIDTHS), seed=st.integers(0, 2**32 - 1))
def test_tables_equal_torch_and_the_module_for_any_architecture(
    which: tuple[Make, float], seed: int
) -> None:
    tables = tables_of(*which)
    (arch,) = tables.space.decode(tables.space.sample(1, seed))
    cost = tables.cost(arch)
    assert (cost["macs"], cost["params"]) == counted_by_torch(tables.space, arch)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "width"), WIDTHS)
def test_tables_are_exact_for_two_hundred_random_architectures(make: Make, width: float) -> None:
    tables = tables_of(make, width)
    rows = tables.space.sample(200, seed=7)
    scored = tables.score(rows)
    for index, arch in enumerate(tables.space.decode(rows)):
        counted = scored["macs"][index], scored["params"][index]
        ops = [op for _, block in tables.space.ops(arch) for op in block]
        assert counted == (sum(op.macs for op in ops), sum(op.params for op in ops))
        # Torch's counter takes 0.2 s per network.
        if index < 25:
            assert counted == counted_by_torch(tables.space, arch)


@settings(max_examples=30, deadline=None)
@given(which=st.sampled_from(WIDTHS), seed=st.integers(0, 2**32 - 1))
def test_published_encodings_round_trip(which: tuple[Make, float], seed: int) -> None:
    space = tables_of(*which).space
    assert space.published is not None
    rows = space.sample(20, seed)
    archs = space.decode(rows)
    encodings = [as_published(arch) for arch in archs]
    assert (space.canonical(space.published.rows(encodings)) == rows).all()
    assert [space.architecture(encoding) for encoding in encodings] == archs


def test_values_of_inactive_layers_are_ignored() -> None:
    space = tables_of(ofa_mbv3, 1.0).space
    encoding = encoding_of("3" * 20, "6" * 20, "2" * 5, 192)
    other = {**encoding, "ks": [3, 3, 7, 5] * 5, "e": [6, 6, 3, 4] * 5}
    assert space.architecture(encoding) == space.architecture(other)


def test_variants_of_the_encoding_that_the_authors_code_writes_are_read() -> None:
    space = tables_of(ofa_proxyless, 1.3).space
    encoding = encoding_of("5" * 21, "4" * 21, "23432", 160)
    arch = space.architecture(encoding)
    assert space.architecture({**encoding, "d": [2, 3, 4, 3, 2, 1]}) == arch
    assert space.architecture({**encoding, "r": [160]}) == arch
    assert space.architecture({**encoding, "wid": None}) == arch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": [3] * 19}, r"'ks' is \[3, 3, .*\], expected 20 values"),
        ({"ks": [3] * 19 + [4]}, r"'ks' cannot be 4: expected one of 3, 5, 7"),
        ({"e": [3] * 19 + [5]}, r"'e' cannot be 5: expected one of 3, 4, 6"),
        ({"d": [2, 2, 2, 2, 5]}, r"'d' cannot be 5: expected one of 2, 3, 4"),
        ({"d": [2, 2, 2, 2]}, r"'d' is \[2, 2, 2, 2\], expected 5 values"),
        ({"r": 226}, r"'r' cannot be 226: expected one of 128, .*, 224"),
        ({"r": [224, 224]}, r"'r' is \[224, 224\], expected a single value"),
        ({"e": None}, r"'e' is null, expected 20 values"),
        ({"d": 4}, r"'d' is 4, expected 5 values"),
        ({"d": None}, r"'d' is null, expected 5 values"),
        ({"wid": 1.2}, r"'wid' is 1.2, expected null"),
    ],
)
def test_errors_of_encodings_are_one_line(change: dict[str, Any], message: str) -> None:
    space = tables_of(ofa_mbv3, 1.0).space
    encoding = encoding_of("3" * 20, "3" * 20, "2" * 5, 224)
    with pytest.raises(UserError, match=message) as caught:
        space.architecture({**encoding, **change})
    assert "\n" not in str(caught.value)


def test_the_error_names_a_missing_key() -> None:
    encoding = encoding_of("3" * 20, "3" * 20, "2" * 5, 224)
    for key in encoding:
        rest = {name: value for name, value in encoding.items() if name != key}
        with pytest.raises(UserError, match=f"lacks '{key}'"):
            tables_of(ofa_mbv3, 1.0).space.architecture(rest)


def test_a_batch_of_encodings_is_read_as_single_ones() -> None:
    space = tables_of(ofa_mbv3, 1.0).space
    assert space.published is not None
    archs = space.decode(space.sample(500, seed=3))
    together = space.published.rows([as_published(arch) for arch in archs])
    assert (together.dtype, together.shape) == (np.uint8, (500, len(space.choices)))
    one_by_one = [space.published.rows([as_published(arch)])[0] for arch in archs]
    assert (together == np.stack(one_by_one)).all()


@cache
def supernet_of(make: Make) -> Supernet:
    """A narrow supernet for small images with perturbed weights."""
    torch.manual_seed(0)
    supernet = Supernet(make(0.25, image_size=32, channels=1, classes=7))
    for tensor in (*supernet.parameters(), *supernet.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.1 * torch.rand_like(tensor)
    return supernet


@settings(max_examples=12, deadline=None)
@given(
    make=st.sampled_from([ofa_mbv3, ofa_proxyless]),
    seed=st.integers(0, 2**32 - 1),
    training=st.booleans(),
)
def test_extracted_networks_compute_the_same_as_subnets(
    make: Make, seed: int, training: bool
) -> None:
    supernet = supernet_of(make).train(training)
    space = supernet.space
    (drawn,) = space.decode(space.sample(1, seed))
    arch = space.architecture({**drawn, "resolution": 32})
    x = torch.randn(3, *space.input_shape(arch), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        inside = supernet(x, arch)
        outside = supernet.extract(arch)(x)
    assert inside.shape == (3, 7)
    assert inside.isfinite().all()
    torch.testing.assert_close(outside, inside, rtol=1e-4, atol=1e-4)
