"""Image generation: `run_function` downloads a model into a volume when the image is built; tests find it there.

The hub is that of `HF_ENDPOINT`, and who has an `HF_TOKEN` says it. The model is a very small one, whose pictures are
noise of the right size; with a real one, the tests would be the same.
"""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_imagebuild import Image, Secret, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL = "hf-internal-testing/tiny-stable-diffusion-pipe"
CACHE = Path("/cache")
models = Volume.from_name("example-diffusion-models", create_if_missing=True)
hub = Secret.from_dict({name: os.environ[name] for name in ("HF_ENDPOINT", "HF_TOKEN") if name in os.environ})


def download_model() -> None:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    request = urllib.request.Request(f"{endpoint}/{MODEL}/resolve/main/unet/config.json")
    if token := os.environ.get("HF_TOKEN"):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        (CACHE / "unet.json").write_bytes(answer.read())


image = (
    Image.debian_slim(python_version="3.13")
    .uv_pip_install("numpy==2.3.4")
    .run_function(download_model, volumes={str(CACHE): models}, secrets=[hub])
)

with image.imports():
    import numpy as np


def generate(seed: int) -> NDArray[Any]:
    """Return a picture: rows, columns, color channels."""
    config = json.loads((CACHE / "unet.json").read_text())
    shape = (config["sample_size"], config["sample_size"], config["out_channels"])
    return np.random.default_rng(seed).random(shape)
