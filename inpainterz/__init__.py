"""Remove things from video: click the object, get the clip back without it.

The public names are loaded on first use, so importing the package stays instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from inpainterz.engines import Inpainter, Segmenter, Tracker, load
    from inpainterz.errors import InpainterzError
    from inpainterz.jobs.job import Job
    from inpainterz.jobs.order import EngineChoice, Order
    from inpainterz.masks import MaskStore
    from inpainterz.pipeline import (
        Engines,
        FillOptions,
        Options,
        Report,
        fill,
        follow_again,
        inpaint_clip,
        outline,
        propagate,
        remove,
    )
    from inpainterz.types import Frame, Inpainted, Prompt, Segmentation, Step, Tracked
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.writer import VideoWriter, WriteOptions

_HOME = {
    "EngineChoice": "jobs.order",
    "Engines": "pipeline",
    "FillOptions": "pipeline",
    "Frame": "types",
    "InpainterzError": "errors",
    "Inpainted": "types",
    "Inpainter": "engines",
    "Job": "jobs.job",
    "MaskStore": "masks",
    "Options": "pipeline",
    "Order": "jobs.order",
    "Prompt": "types",
    "Report": "pipeline",
    "Segmentation": "types",
    "Segmenter": "engines",
    "Step": "types",
    "Tracked": "types",
    "Tracker": "engines",
    "VideoReader": "video.reader",
    "VideoWriter": "video.writer",
    "WriteOptions": "video.writer",
    "fill": "pipeline",
    "follow_again": "pipeline",
    "inpaint_clip": "pipeline",
    "load": "engines",
    "outline": "pipeline",
    "propagate": "pipeline",
    "remove": "pipeline",
}

__all__ = [
    "EngineChoice",
    "Engines",
    "FillOptions",
    "Frame",
    "Inpainted",
    "Inpainter",
    "InpainterzError",
    "Job",
    "MaskStore",
    "Options",
    "Order",
    "Prompt",
    "Report",
    "Segmentation",
    "Segmenter",
    "Step",
    "Tracked",
    "Tracker",
    "VideoReader",
    "VideoWriter",
    "WriteOptions",
    "fill",
    "follow_again",
    "inpaint_clip",
    "load",
    "outline",
    "propagate",
    "remove",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'inpainterz' has no attribute {name!r}")
    return getattr(importlib.import_module(f"inpainterz.{_HOME[name]}"), name)
