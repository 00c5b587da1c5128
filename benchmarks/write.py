"""What writing costs: nearness to the source and size, codec by codec at its default quality.

    python benchmarks/write.py CLIP... [--frames 40] [--preset medium]

Each clip is written without any hole and without copying packets, so all pixels are the encoder's.
Prints a markdown table: PSNR of luma over all frames and of the worst, size over the source's, CPU
seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from inpainterz.video.reader import VideoReader
from inpainterz.video.writer import VideoWriter, WriteOptions

CODECS = ("h264", "hevc", "vp9", "av1")


def row(video: VideoReader, codec: str, frames: int, preset: str, folder: Path) -> str:
    """One line of the table."""
    target = folder / f"{codec}.mkv"
    options = WriteOptions(codec, preset=preset, measure=True, smart_copy=False)
    none = np.zeros(video.size, np.bool_)
    began = time.process_time()
    with VideoWriter(target, video, options=options, stop=frames) as writer:
        for frame in video.frames(0, frames):
            writer.write(frame, none)
    seconds = time.process_time() - began
    assert writer.written is not None and writer.written.fidelity is not None
    near = writer.written.fidelity
    share = target.stat().st_size / (video.path.stat().st_size * frames / len(video))
    name = video.path.parent.name if video.path.stem in ("video", "input") else video.path.stem
    return (
        f"| {name} | {codec} | {near.psnr_db:.1f} | {near.worst_psnr_db:.1f} | {share:.2f} | "
        f"{seconds:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--preset", default="medium")
    given = parser.parse_args()
    print("| clip | codec | PSNR dB | worst frame | size / source | CPU s |")
    print("|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for path in given.clips:
            with VideoReader(path) as video:
                frames = min(given.frames, len(video))
                for codec in CODECS:
                    print(row(video, codec, frames, given.preset, Path(folder)), flush=True)
                    (Path(folder) / f"{codec}.mkv").unlink()


if __name__ == "__main__":
    main()
