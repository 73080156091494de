"""A custom search space: plain convolutions with elastic width and depth.

python run_search.py --space examples/own_space.py:plain --data digits --max-flops 200k
"""

from search_spaces import Block, BlockBuilder, Choice, SearchSpace

LAYERS = 4


def plain(image_size: int = 8, channels: int = 1, classes: int = 10) -> SearchSpace:
    """Return a space of one to four 3x3 convolutions and a classifier."""

    def layer(index: int):
        def ops(width: int, depth: int):
            if index >= depth:
                return ()
            build = BlockBuilder(channels if index == 0 else width, image_size, image_size)
            x = build.batch_norm("norm", build.conv("conv", build.input, width, kernel=3))
            build.activation("relu", x, "relu")
            return build.ops

        return ops

    def head(width: int):
        build = BlockBuilder(width, image_size, image_size)
        build.linear("classifier", build.global_pool("pool", build.input), classes)
        return build.ops

    layers = [Block(f"layer{i}", ("width", "depth"), layer(i)) for i in range(LAYERS)]
    choices = (Choice("width", (8, 12, 16, 24)), Choice("depth", (1, 2, 3, 4)))
    return SearchSpace("plain", choices, (*layers, Block("head", ("width",), head)))
