"""`nas.load`: a trained network as a torch module that takes files and texts too.

Knows exports and runs. Does not know how a prediction is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nas.exports import saved
from nas.inference.opening import export_folder, torch_function
from nas.inference.predictor import Predictor
from nas.inference.sampling import Sampling
from search_spaces.networks.modules import Network


def load(folder: Path | str) -> Network:
    """Load a trained network, in evaluation mode, with its description as `network.config`.

        nas.load("runs/first").predict("photos/*.jpg")[0].label

    Args:
        folder: an export with `config.json` and `model.safetensors`, or a run, whose winner is
            loaded.

    Returns:
        A module that takes `(batch, *config["input_shape"])` and returns logits. Images are float32
        as `evaluators.data.preprocessing.Preprocessing.of(config)` prepares them; text is int64
        token ids: indices into `config["characters"]`, or ids of the `tokenizer.json` in the
        folder. Its `predict` takes image files, folders and patterns, or sentences, and returns
        for each a `nas.Prediction` with `label`, `probability` and `probabilities`. `generate` of
        a language model takes a text and the fields of `Sampling`, and returns what follows.

    Raises:
        UserError: if the folder is not an export or a run with a winner, or its files do not belong
            together.
    """
    place = export_folder(folder)
    network = saved.load(place)
    network.predict = Predict(network, str(folder), place)
    network.generate = Generate(network, str(folder), place)
    return network


@dataclass(frozen=True)
class _Loaded:
    """A network, and where it was loaded from."""

    network: Any
    place: str
    folder: Path

    @property
    def predictor(self) -> Predictor:
        """The network with what leads to its inputs."""
        function = torch_function(self.network)
        return Predictor(self.place, self.network.config, function, self.folder)


class Predict(_Loaded):
    """Classifies files or sentences by a loaded network; see `nas.load`."""

    def __call__(self, inputs: str | Path | Sequence[str | Path] | Tensor) -> Any:
        """A list of `Prediction`; for a tensor, what the network's own `predict` returns."""
        if isinstance(inputs, Tensor):  # of a network with early exits, which asks it itself
            return type(self.network).predict(self.network, inputs)
        return self.predictor.predict(inputs)


class Generate(_Loaded):
    """Goes on with a text by a loaded language model; see `nas.load`."""

    def __call__(self, text: str, **sampling: Any) -> str:
        """What follows the text; `sampling` are fields of `nas.inference.sampling.Sampling`."""
        return self.predictor.generate(text, Sampling(**sampling))
