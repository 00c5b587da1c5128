"""Peak memory of a whole job at 1920x1080 over the clip's length.

    python benchmarks/long.py 300 3000 30000 [--size 1920x1080] [--hole-frames 20]

For each length: a clip with sound is made (a moving pattern, cheap to encode), and `inpainterz
inpaint` runs as a process of its own with a hole in the clip's middle: cuts are looked for in all
frames, the hole is filled by the built-in engine, everything else is copied.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

RATE = 25
PATTERNS = 50


def make_clip(path: Path, frames: int, width: int, height: int) -> None:
    """A smooth pattern that moves back and forth over a still plate, with a tone."""
    rng = np.random.default_rng(0)
    coarse = rng.random((height // 40, width // 40, 3), np.float32) * 160 + 40
    plate = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    pictures = []
    for i in range(PATTERNS):
        image = plate.copy()
        x = width // 4 + 4 * min(i, PATTERNS - i)
        cv2.circle(image, (x, height // 2), height // 12, (220, 60, 40), -1)
        pictures.append(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p"))
    tone = (8000 * np.sin(np.arange(44100 // RATE) / 8)).astype(np.int16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast", "g": "100", "threads": "1"}
        sound = out.add_stream("aac", 44100)
        sound.layout = "mono"
        for i in range(frames):
            picture = pictures[i % PATTERNS]
            picture.pts, picture.time_base = i, Fraction(1, RATE)
            picture.pict_type = av.video.frame.PictureType.NONE
            out.mux(stream.encode(picture))
            samples = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
            samples.sample_rate, samples.pts = 44100, i * len(tone)
            out.mux(sound.encode(samples))
        out.mux(stream.encode(None))
        out.mux(sound.encode(None))


def make_masks(folder: Path, frames: int, hole: int, width: int, height: int) -> None:
    """Masks of the circle for `hole` frames in the middle."""
    folder.mkdir()
    for i in range(frames // 2, min(frames, frames // 2 + hole)):
        mask = np.zeros((height, width), np.uint8)
        x = width // 4 + 4 * min(i % PATTERNS, PATTERNS - i % PATTERNS)
        cv2.circle(mask, (x, height // 2), height // 12 + 6, 1, -1)
        cv2.imwrite(str(folder / f"{i:06d}.png"), mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=int, nargs="+")
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--hole-frames", type=int, default=20)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    print("| frames | peak MiB | minutes |\n|---:|---:|---:|", flush=True)
    for frames in options.frames:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            make_clip(folder / "clip.mp4", frames, width, height)
            make_masks(folder / "masks", frames, options.hole_frames, width, height)
            command = [sys.executable, "-m", "inpainterz", "inpaint", str(folder / "clip.mp4")]
            command += ["--masks", str(folder / "masks"), "-o", str(folder / "clean.mp4"), "--json"]
            began = time.perf_counter()
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                sys.exit(f"inpainterz ended with {child.returncode}")
            minutes = (time.perf_counter() - began) / 60
            peak = used.ru_maxrss / 1024
            print(f"| {frames:,} | {peak:.0f} | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
