"""Token pruning as choices of a space: which blocks drop tokens, and the keep rate of each.

A block drops tokens between its attention and its MLP (as Goyal et al., "PoWER-BERT", 2020, and
Liang et al., "EViT", 2022), so that its MLP and all later blocks run on fewer tokens. The keep rate
of each such block is a choice: it is searched, or fixed by a single option. Dropping tokens in a
few blocks spread over the depth follows Rao et al., "DynamicViT", 2021, and EViT. Does not know how
tokens are scored (`token_ops.KeepTokens`), nor thresholds that keep a number of tokens that depends
on the input (Kim et al., "LTP", 2022): shapes, counts and batches would depend on the data.
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
"""Default options of a keep rate; EViT and DynamicViT use rates of about 0.7."""

MAX_COMBINATIONS = 81
"""Maximum number of combinations of all rates: the last block has ops for each of them."""

Rates = Sequence[float] | Mapping[int, Sequence[float]]
"""Options of the keep rate, for all blocks that drop tokens or by index of the block."""


def rates_by_block(depth: int, rates: Rates | None) -> dict[int, tuple[float, ...]]:
    """Return the options of each block that may drop tokens, in order; lowest rates first.

    Args:
        depth: number of blocks of the deepest network.
        rates: options by index of the block; or for the blocks at a quarter, a half and three
            quarters of the depth; None if no block drops tokens.

    Raises:
        UserError: for rates outside of (0, 1], a block without rates or that does not exist, or too
            many combinations of rates to tabulate.
    """
    if rates is None:
        return {}
    if not isinstance(rates, Mapping):
        rates = dict.fromkeys(sorted({depth * quarter // 4 for quarter in (1, 2, 3)}), rates)
    by_block = {block: tuple(sorted(set(rates[block]))) for block in sorted(rates)}
    for block, options in by_block.items():
        if not 0 <= block < depth:
            raise UserError(f"keep rates of block {block}: expected a block of 0 to {depth - 1}")
        wrong = [rate for rate in options if not 0 < rate <= 1]
        if wrong or not options:
            given = f"keep rate {wrong[0]:g}" if wrong else "no keep rate"
            raise UserError(f"{given} in block {block}: expected rates above 0, at most 1")
    combinations = prod(map(len, by_block.values()))
    if combinations > MAX_COMBINATIONS:
        raise UserError(
            f"{combinations} combinations of keep rates: expected at most {MAX_COMBINATIONS}, "
            f"as with {len(KEEP_RATES)} rates in 4 blocks"
        )
    return by_block


def keep_choice(
    rates: Mapping[int, tuple[float, ...]], depth: Choice, layer: int, prefix: str
) -> tuple[Choice, ...]:
    """Return the choice `PREFIX_keep` of a layer, or none if it drops no tokens.

    Args:
        rates: options by index of the block, as `rates_by_block` returns them.
        depth: the choice of the number of layers.
        layer: index of the layer, from 0.
        prefix: of the choice's name.
    """
    return layer_choices(depth, layer, {"keep": rates[layer]}, prefix) if layer in rates else ()


@cache
def kept_tokens(tokens: int, rate: Value) -> int:
    """Return how many of `tokens` are kept: the first, and a fraction of the others, rounded up.

    The rate is read as a decimal fraction, so that 0.07 of 100 is exactly 7.
    """
    return 1 + ceil(Fraction(str(rate)) * (tokens - 1))


def length_after(tokens: int, rates: Sequence[Value]) -> int:
    """Return the number of tokens after pruning at several rates in sequence."""
    for rate in rates:
        tokens = kept_tokens(tokens, rate)
    return tokens


def pruned_name(name: str, rates: Rates | None) -> str:
    """Return the name of a space with these rates: `vit-pruned-cifar`, `vit-pruned-cifar@0.7`."""
    if rates is None:
        return name
    family, dash, preset = name.partition("-")
    name = f"{family}-pruned{dash}{preset}"
    if isinstance(rates, Mapping):
        return f"{name}@{','.join(f'{b}={_written(rates[b])}' for b in sorted(rates))}"
    return name if tuple(rates) == KEEP_RATES else f"{name}@{_written(rates)}"


def parse_rates(text: str) -> Rates:
    """Parse the keep rates that follow the `@` in a space's name.

    `0.7` is a fixed rate and `0.5/0.7` are options, for the default blocks; `2=0.7,4=0.5/0.7` also
    specifies the blocks.

    Raises:
        UserError: for text of another form.
    """
    try:
        if "=" not in text:
            return _read(text)
        pairs = [part.split("=") for part in text.split(",")]
        return {int(block): _read(rates) for block, rates in pairs}
    except ValueError:
        raise UserError(
            f"keep rates '{text}': expected a form like 0.7, 0.5/0.7/1.0 or 2=0.7,4=0.5/0.7"
        ) from None


def _written(rates: Sequence[float]) -> str:
    return "/".join(map(str, rates))


def _read(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split("/")))
