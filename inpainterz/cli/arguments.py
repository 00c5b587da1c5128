"""What the commands are given: their shared options, and how prompts and masks are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inpainterz.errors import InputError, OptionError, PromptError

if TYPE_CHECKING:
    from inpainterz.jobs.order import EngineChoice
    from inpainterz.outputs import Also
    from inpainterz.pipeline import Engines
    from inpainterz.types import LabelMap, Prompt
    from inpainterz.video.reader import Limits

Clip = Annotated[Path, typer.Argument(help="The video file.", show_default=False)]

Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        help="Where the result goes; the ending chooses the format.",
        show_default=False,
    ),
]

Clicks = Annotated[
    list[str] | None,
    typer.Option(
        "--click",
        metavar="X,Y[@FRAME][#OBJECT]",
        help="A point on the object, in source pixels; frames count from 0.",
    ),
]

Nots = Annotated[
    list[str] | None,
    typer.Option("--not", metavar="X,Y[@FRAME][#OBJECT]", help="A point that is not part of it."),
]

Boxes = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="X0,Y0,X1,Y1[@FRAME][#OBJECT]", help="A box around the object."),
]

MaskFiles = Annotated[
    list[str] | None,
    typer.Option("--mask", metavar="PNG[@FRAME]", help="A mask of the object, as a PNG."),
]

Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]

SegmenterName = Annotated[
    str | None, typer.Option("--segmenter", help="Engine that outlines; see `engines`.")
]

TrackerName = Annotated[
    str | None, typer.Option("--tracker", help="Engine that follows; see `engines`.")
]

InpainterName = Annotated[
    str | None, typer.Option("--inpainter", help="Engine that fills; see `engines`.")
]

EngineSet = Annotated[
    str,
    typer.Option(
        "--engine-set",
        help="Engines not named: builtin, auto (networks where their weights are here), "
        "neural, or commercial-ok (auto without non-commercial weights).",
    ),
]

EngineOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="STAGE.NAME=VALUE",
        help="An engine's own option, such as inpaint.hybrid=false.",
    ),
]

NoHybrid = Annotated[
    bool,
    typer.Option(
        "--no-hybrid",
        help="Let the network fill the whole hole, also what other frames truly show.",
    ),
]

WeightsFolder = Annotated[
    Path | None, typer.Option("--weights-dir", metavar="DIR", help="Look, or put them, here.")
]

Grow = Annotated[
    str, typer.Option("--grow", metavar="PX|auto", help="How far masks are grown before filling.")
]

SecondPass = Annotated[
    str,
    typer.Option(
        "--second-pass",
        metavar="none|box",
        help="box: where a ghost would remain, as more of an object moves than its mask covers, "
        "fill a box around all of it. Wants --grow auto.",
    ),
]

Codec = Annotated[
    str, typer.Option("--codec", help="auto, h264, hevc, vp9, av1, prores, ffv1 (lossless) or png.")
]

Crf = Annotated[int | None, typer.Option("--crf", help="Quality of the codec, lower is better.")]

Preset = Annotated[
    str, typer.Option("--preset", help="Speed against size: ultrafast, ... medium, ... veryslow.")
]

PixFmt = Annotated[
    str | None,
    typer.Option("--pix-fmt", metavar="NAME", help="FFmpeg's pixel format; default: the source's."),
]

KeepLocation = Annotated[
    bool, typer.Option("--keep-location", help="Keep where the clip was filmed.")
]

SmartCopy = Annotated[
    bool,
    typer.Option(
        "--smart-copy/--no-smart-copy",
        help="Copy groups of pictures without a hole as they are, and encode only the others.",
    ),
]

Measure = Annotated[
    bool, typer.Option("--measure", help="Compare with the source outside the holes (PSNR).")
]

AlsoOutputs = Annotated[
    list[str] | None,
    typer.Option(
        "--also",
        metavar="KIND=PATH",
        help="One more output: masks=A.zip, mask-video=A.mp4, coco=A.json, overlay=A.mp4, "
        "compare=A.mp4 (before and after), layer=A.mov (the object, transparent around it).",
    ),
]

FileLimits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=NUMBER",
        help="What the clip may be: pixels, frames, seconds, streams, bytes, damaged_frames.",
    ),
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one report object on stdout, all else on stderr.")
]

SaveMasks = Annotated[
    Path | None, typer.Option("--save-masks", metavar="ZIP", help="Keep the tracked masks.")
]

Sheet = Annotated[
    Path | None, typer.Option("--sheet", metavar="PNG", help="Draw a before/after sheet.")
]


def read_prompts(
    clicks: list[str] | None, nots: list[str] | None, boxes: list[str] | None
) -> dict[int, dict[int, Prompt]]:
    """Clicks and boxes as the pipeline wants them: frame -> object -> prompt."""
    on: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    off: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    box: dict[tuple[int, int], tuple[float, ...]] = {}
    for texts, store in ((clicks, on), (nots, off)):
        for text in texts or []:
            numbers, index, label = _numbers(text, 2, "X,Y")
            store.setdefault((index, label), []).append(numbers)
    for text in boxes or []:
        numbers, index, label = _numbers(text, 4, "X0,Y0,X1,Y1")
        if (index, label) in box:
            raise PromptError(
                f"object {label} has two boxes in frame {index}", "Name the second one #2"
            )
        box[index, label] = numbers
    keys = sorted({*on, *off, *box})
    if not keys:
        return {}
    from inpainterz.types import Prompt

    prompts: dict[int, dict[int, Prompt]] = {}
    for key in keys:
        prompts.setdefault(key[0], {})[key[1]] = Prompt.of(
            *on.get(key, []), off=off.get(key, ()), box=box.get(key)
        )
    return prompts


def mask_files(texts: list[str] | None) -> dict[int, Path]:
    """ "PNG[@FRAME]" by frame; an @ that is part of a file's name is left alone."""
    found: dict[int, Path] = {}
    for text in texts or []:
        name, at, index = text.rpartition("@")
        if not at or not index.isdecimal() or Path(text).is_file():
            name, index = text, "0"
        if int(index) in found:
            raise PromptError(f"frame {index} has two masks", "Give one label map a frame")
        found[int(index)] = Path(name)
    return found


def given_labels(
    clip: Path, files: dict[int, Path], limits: Limits | None = None
) -> dict[int, LabelMap]:
    from inpainterz.masks import checked, decode_labels
    from inpainterz.pipeline import check_frame
    from inpainterz.video.reader import Limits, VideoReader

    labels = {}
    with VideoReader(clip, limits=limits or Limits()) as video:
        for index, path in files.items():
            check_frame(video, index)
            try:
                data = path.read_bytes()
            except OSError as error:
                raise InputError(
                    f"the mask {path} cannot be read: {error.strerror}", "Name a PNG"
                ) from error
            labels[index] = checked(decode_labels(data, path.name), video.size, path.name)
            if not labels[index].any():
                raise PromptError(f"the mask {path.name} is empty", "Mark at least one pixel")
    return labels


def grow_px_of(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal():
        raise OptionError(f"--grow {text!r} cannot be read", "Write a number of pixels, or auto")
    return int(text)


@dataclass(frozen=True, slots=True)
class EngineArguments:
    """What a command was told of engines; "builtin" for a stage that it does not use."""

    segmenter: str | None
    tracker: str | None
    inpainter: str | None
    device: str
    engine_set: str
    options: list[str] | None
    weights_dir: Path | None
    no_hybrid: bool = False

    def choose(self) -> EngineChoice:
        """The engines, to be loaded by a job when it needs them."""
        options = read_options(self.options)
        if self.no_hybrid:
            _require_network(self.inpainter, self.engine_set, self.weights_dir)
            options.setdefault("inpaint", {})["hybrid"] = False
        from inpainterz.jobs.order import EngineChoice

        return EngineChoice.choose(
            segmenter=self.segmenter,
            tracker=self.tracker,
            inpainter=self.inpainter,
            engine_set=self.engine_set,
            device=self.device,
            options=options,
            weights_dir=self.weights_dir,
        )

    def load(self) -> Engines:
        """The engines, loaded."""
        return self.choose().load_all()


def _require_network(inpainter: str | None, engine_set: str, weights_dir: Path | None) -> None:
    """Raises OptionError unless a network is going to fill."""
    from inpainterz.engines import choose, find

    name = choose(engine_set, {"inpaint": inpainter}, weights_dir=weights_dir)["inpaint"]
    if find("inpaint", name).weights is None:
        raise OptionError(
            f"--no-hybrid is for networks, and the engine that fills is {name}",
            "Name a network with --inpainter e2fgvi-hq, or leave --no-hybrid out",
        )


def read_options(texts: list[str] | None) -> dict[Any, dict[str, object]]:
    """ "STAGE.NAME=VALUE" by stage; values are read as JSON where they are, else as words."""
    found: dict[Any, dict[str, object]] = {}
    for text in texts or []:
        left, equals, value = text.partition("=")
        stage, dot, name = left.partition(".")
        if not (equals and dot) or stage not in ("segment", "track", "inpaint", "detect"):
            raise OptionError(
                f"--option {text!r} cannot be read", "Write one like inpaint.hybrid=false"
            )
        try:
            found.setdefault(stage, {})[name] = json.loads(value)
        except ValueError:
            found.setdefault(stage, {})[name] = value
    return found


def also_outputs(texts: list[str] | None) -> tuple[Also, ...]:
    """The outputs that "KIND=PATH" name."""
    if not texts:
        return ()
    from inpainterz.outputs import Also, check_also

    found = tuple(Also.of(text) for text in texts)
    check_also(found)
    return found


def file_limits(texts: list[str] | None) -> Limits:
    """The limits that "NAME=NUMBER" change."""
    from dataclasses import fields

    from inpainterz.video.reader import Limits

    names = [limit.name for limit in fields(Limits)]
    found: dict[str, Any] = {}
    for text in texts or []:
        name, _, value = text.partition("=")
        name = name.replace("-", "_")
        try:
            number = float(value) if name == "seconds" else int(value)
        except ValueError:
            number = None
        if name not in names or number is None:
            raise OptionError(
                f"--limit {text!r} cannot be read", f"Write NAME=NUMBER; names: {', '.join(names)}"
            )
        found[name] = number
    return Limits(**found)


def _at(text: str) -> tuple[str, int, int]:
    """Split "REST[@FRAME][#OBJECT]" into the rest, the frame (0) and the object (1)."""
    rest, _, label = text.partition("#")
    rest, _, index = rest.partition("@")
    try:
        return rest, int(index or 0), int(label or 1)
    except ValueError:
        raise PromptError(f"{text!r} cannot be read", "Write X,Y or X,Y@FRAME") from None


def _numbers(text: str, count: int, form: str) -> tuple[tuple[float, ...], int, int]:
    rest, index, label = _at(text)
    try:
        numbers = tuple(float(n) for n in rest.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise PromptError(f"{text!r} cannot be read", f"Write {form} or {form}@FRAME")
    if not 1 <= label <= 255:
        raise PromptError(f"object {label} is outside 1..255")
    return numbers, index, label
