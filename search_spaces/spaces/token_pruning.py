"""Token pruning as choices of a space: in which blocks, at which rates, and how many tokens stay.

A block drops tokens between its attention and its MLP (as Goyal et al., "PoWER-BERT", 2020, and
Liang et al., "EViT", 2022), so its MLP and all blocks after it run on fewer. The rate of each such
block is a choice like any other: a search learns it; with a single option it is given. Dropping at
a few places through the depth follows Rao et al., "DynamicViT", 2021, and EViT. Does not know how
tokens are scored (`token_ops.KeepTokens`), nor a threshold that keeps another number of each input
(Kim et al., "LTP", 2022): shapes, counts and batches would depend on the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from math import ceil, prod

from search_spaces.architecture import Value
from search_spaces.errors import UserError
from search_spaces.space import Choice, layer_choices

KEEP_RATES = (0.5, 0.7, 1.0)
"""The rates to choose from where none are given; EViT's and DynamicViT's are 0.7 and near it."""

COMBINATIONS = 81
"""Of all rates together, at most: the last block has a form for each."""

Rates = Sequence[float] | Mapping[int, Sequence[float]]
"""Rates to choose from in every block that drops tokens, or those of each, by its index."""


def keep_places(depth: int, rates: Rates | None) -> dict[int, tuple[float, ...]]:
    """The rates of each block that may drop tokens, in order; lowest first.

    Args:
        depth: blocks of the deepest network.
        rates: by block; or for those at a quarter, a half and three quarters of the depth; None
            for a network that drops none.

    Raises:
        UserError: for rates that are none, blocks that there are not, and more combinations of
            rates than can be tabulated.
    """
    if rates is None:
        return {}
    if not isinstance(rates, Mapping):
        rates = dict.fromkeys(sorted({depth * quarter // 4 for quarter in (1, 2, 3)}), rates)
    places = {block: tuple(sorted(set(rates[block]))) for block in sorted(rates)}
    for block, options in places.items():
        if not 0 <= block < depth:
            raise UserError(f"tokens dropped in block {block}: expected one of 0 to {depth - 1}")
        wrong = [rate for rate in options if not 0 < rate <= 1]
        if wrong or not options:
            shown = f"keep rate {wrong[0]:g}" if wrong else "no keep rate"
            raise UserError(f"{shown} in block {block}: expected rates above 0, at most 1")
    combinations = prod(map(len, places.values()))
    if combinations > COMBINATIONS:
        raise UserError(
            f"{combinations} combinations of keep rates: expected at most {COMBINATIONS}, "
            f"as with {len(KEEP_RATES)} rates in 4 blocks"
        )
    return places


def keep_choice(
    places: Mapping[int, tuple[float, ...]], depth: Choice, layer: int, prefix: str
) -> tuple[Choice, ...]:
    """The choice `PREFIX_keep` of a block that may drop tokens, where `depth` reaches it."""
    return layer_choices(depth, layer, {"keep": places[layer]}, prefix) if layer in places else ()


@cache
def kept_tokens(tokens: int, rate: Value) -> int:
    """How many of `tokens` stay, the first one beside its share of the others, rounded up.

    The rate is taken as it is written: 0.07 of 100 is 7, in whole numbers.
    """
    return 1 + ceil(Fraction(str(rate)) * (tokens - 1))


def length_after(tokens: int, rates: Sequence[Value]) -> int:
    """How many stay after several droppings, each of what the one before it left."""
    for rate in rates:
        tokens = kept_tokens(tokens, rate)
    return tokens


def pruned_name(name: str, rates: Rates | None) -> str:
    """What a space with these rates is called: `vit-pruned-cifar`, `vit-pruned-cifar@0.7`."""
    if rates is None:
        return name
    family, dash, preset = name.partition("-")
    name = f"{family}-pruned{dash}{preset}"
    if isinstance(rates, Mapping):
        return f"{name}@{','.join(f'{b}={_written(rates[b])}' for b in sorted(rates))}"
    return name if tuple(rates) == KEEP_RATES else f"{name}@{_written(rates)}"


def parse_rates(text: str) -> Rates:
    """What follows the `@` of a space's name.

    `0.7` is given, `0.5/0.7` are to choose from, at the usual places; `2=0.7,4=0.5/0.7` says the
    blocks.

    Raises:
        UserError: for anything else.
    """
    try:
        if "=" not in text:
            return _read(text)
        pairs = [part.split("=") for part in text.split(",")]
        return {int(block): _read(rates) for block, rates in pairs}
    except ValueError:
        raise UserError(
            f"keep rates '{text}': expected such as 0.7, 0.5/0.7/1.0 or 2=0.7,4=0.5/0.7"
        ) from None


def _written(rates: Sequence[float]) -> str:
    return "/".join(map(str, rates))


def _read(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split("/")))
