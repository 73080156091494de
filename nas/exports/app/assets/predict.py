"""Classifies pictures: python predict.py PICTURE...  Needs what requirements.txt lists."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent
LABELS = json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
SESSION = onnxruntime.InferenceSession(str(HERE / "model.with-preprocessing.onnx"))
BITS = None  # of pixels beyond 8 bits


def pixels(path):
    """Upright RGB pixels `(height, width, 3)` uint8, transparent ones on white."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):
        values = np.asarray(image)
        bits = BITS or next(b for b in (8, 10, 12, 14, 16) if values.max() < 1 << b)
        image = Image.fromarray(np.minimum(values >> (bits - 8), 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def predict(path):
    """Labels with probabilities, the most probable first."""
    (probabilities,) = SESSION.run(None, {"pixels": pixels(path)[None]})
    return sorted(zip(LABELS, probabilities[0].tolist()), key=lambda pair: -pair[1])


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(name, *(f"{label} {p:.1%}" for label, p in predict(name)[:3]), sep="\t")
