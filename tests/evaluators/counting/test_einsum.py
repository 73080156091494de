"""Multiply-accumulates of Einstein summations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.counting.einsum import einsum_macs


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_einsum_of_two_operands_is_one_product_over_all_indices(data: st.DataObject) -> None:
    sizes = {i: data.draw(st.integers(1, 4)) for i in "abcde"}
    terms = ["".join(data.draw(st.permutations("abcde")))[: data.draw(st.integers(1, 4))]
             for _ in range(2)]  # fmt: skip
    out = "".join(i for i in "abcde" if i in "".join(terms) and data.draw(st.booleans()))
    shapes = [tuple(sizes[i] for i in term) for term in terms]
    expected = int(np.prod([sizes[i] for i in set("".join(terms))]))
    assert einsum_macs(f"{terms[0]},{terms[1]}->{out}", shapes) == expected


def test_einsum_with_an_ellipsis_and_three_operands() -> None:
    assert einsum_macs("...ij,jk->...ik", [(2, 3, 4, 5), (5, 6)]) == 2 * 3 * 4 * 5 * 6
    assert einsum_macs("ij,jk", [(2, 3), (3, 4)]) == 24
    assert einsum_macs("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]) == 24 + 40
    assert einsum_macs("ii->i", [(3, 3)]) == 0
    with pytest.raises(ValueError, match="does not fit"):
        einsum_macs("ij,jk->ik", [(2, 3, 4), (3, 4)])
