"""Memory does not grow with the length of a clip: the same job, 300 and 30,000 frames.

The engines are simple ones, as memory within an engine is held by its own tests: here are the
reader, cuts, masks, pieces, composition and writer, each in a process of its own. 3,000 frames are
in every run; INPAINTERZ_LONG=1 adds the 30,000, which take minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

WIDTH, HEIGHT = 64, 48

CODE = """
import json, resource, sys, time
from pathlib import Path
import cv2, numpy as np
cv2.setNumThreads(1)
sys.path.insert(0, {tests!r})
import test_jobs
from inpainterz.jobs.job import Job
from inpainterz.jobs.order import Order
from inpainterz.pipeline import FillOptions, Options

clip, target = sys.argv[1:3]
labels = np.zeros(({height}, {width}), np.uint8)
labels[10:30, 5:25] = 1
order = Order(Path(clip), target, labels={{0: labels}}, options=Options(FillOptions(grow_px=2)))
report = Job.create(Path(target + ".job"), order).run(engines=test_jobs.engines())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([report.frames, report.frames_with_hole, peak]))
"""


def long_clip(path: Path, frames: int) -> Path:
    """A clip of bars that wander, with a cut every 1,000 frames; quick to make and to read."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", 25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.options = {"threads": "1"}
        for i in range(frames):
            turn = (x + i) if i // 1000 % 2 else (y + i)
            luma = (128 + 60 * np.sin(turn / 6)).astype(np.uint8)
            picture = np.full((HEIGHT * 3 // 2, WIDTH), 90 + 50 * (i // 1000 % 2), np.uint8)
            picture[:HEIGHT] = luma
            frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return path


def peak_mib(folder: Path, frames: int) -> float:
    clip = long_clip(folder / f"{frames}.mp4", frames)
    code = CODE.format(tests=str(Path(__file__).parent), width=WIDTH, height=HEIGHT)
    done = subprocess.run(
        [sys.executable, "-c", code, str(clip), str(folder / f"{frames}-clean.mp4")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    count, _, peak = json.loads(done.stdout)
    assert count == frames
    return float(peak)


@pytest.mark.parametrize(
    "frames",
    [
        3_000,
        pytest.param(
            30_000,
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif("INPAINTERZ_LONG" not in os.environ, reason="on demand"),
            ],
        ),
    ],
)
def test_peak_memory_of_a_long_clip_is_that_of_a_short_one(tmp_path: Path, frames: int) -> None:
    short, long = peak_mib(tmp_path, 300), peak_mib(tmp_path, frames)
    assert long < 1.1 * short, (short, long)
