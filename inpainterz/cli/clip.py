"""Commands that take a clip: remove, segment, track, inpaint, info."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inpainterz.cli.arguments import (
    AlsoOutputs,
    AsJson,
    Boxes,
    Clicks,
    Clip,
    Codec,
    Crf,
    Device,
    EngineArguments,
    EngineOptions,
    EngineSet,
    FileLimits,
    Grow,
    InpainterName,
    KeepLocation,
    MaskFiles,
    Measure,
    NoHybrid,
    Nots,
    Output,
    Overwrite,
    PixFmt,
    Preset,
    SaveMasks,
    SecondPass,
    SegmenterName,
    Sheet,
    SmartCopy,
    TrackerName,
    WeightsFolder,
    also_outputs,
    file_limits,
    given_labels,
    grow_px_of,
    mask_files,
    read_prompts,
)
from inpainterz.cli.jobs import (
    HowToRun,
    JobFolder,
    MemoryLimit,
    Part,
    PlanOnly,
    Preview,
    Resume,
    frames_of,
    memory_mb,
    run_and_tell,
)
from inpainterz.cli.messages import out, print_json, progress_bars, say
from inpainterz.cli.who import (
    Choice,
    DetectorName,
    EveryoneBut,
    ListFile,
    What,
    Who,
    chosen_labels,
)
from inpainterz.errors import InputError, PromptError

if TYPE_CHECKING:
    from inpainterz.types import LabelMap
    from inpainterz.video.reader import VideoReader


def remove(
    clip: Clip,
    output: Output,
    click: Clicks = None,
    not_: Nots = None,
    box: Boxes = None,
    mask: MaskFiles = None,
    who: Who = None,
    everyone_but: EveryoneBut = None,
    list_file: ListFile = None,
    what: What = "moving",
    detector: DetectorName = None,
    save_masks: SaveMasks = None,
    sheet: Sheet = None,
    segmenter: SegmenterName = None,
    tracker: TrackerName = None,
    inpainter: InpainterName = None,
    device: Device = "auto",
    engine_set: EngineSet = "builtin",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    no_hybrid: NoHybrid = False,
    grow: Grow = "auto",
    second_pass: SecondPass = "none",
    codec: Codec = "auto",
    crf: Crf = None,
    preset: Preset = "medium",
    pix_fmt: PixFmt = None,
    smart_copy: SmartCopy = True,
    keep_location: KeepLocation = False,
    measure: Measure = False,
    also: AlsoOutputs = None,
    limit: FileLimits = None,
    overwrite: Overwrite = False,
    part: Part = None,
    preview: Preview = None,
    memory_limit: MemoryLimit = None,
    job: JobFolder = None,
    resume: Resume = False,
    plan: PlanOnly = False,
    as_json: AsJson = False,
) -> None:
    """Remove what you click from a clip: outline it, follow it, fill what was behind it."""
    prompts = read_prompts(click, not_, box)
    masks = mask_files(mask)
    by_number = who is not None or everyone_but is not None
    if not prompts and not masks and not by_number and not resume:
        raise PromptError(
            "nothing says what to remove",
            "Give --click X,Y, --box X0,Y0,X1,Y1, --mask PNG, or --who after `inpainterz list`",
        )
    grow_px = grow_px_of(grow)
    from inpainterz.jobs.order import Order
    from inpainterz.pipeline import FillOptions, Options, check_target
    from inpainterz.video.writer import WriteOptions

    check_target(sheet, overwrite=overwrite)
    limits, outputs = file_limits(limit), also_outputs(also)
    order = None
    if prompts or masks or by_number:
        engines = EngineArguments(
            segmenter, tracker, inpainter, device, engine_set, engine_option, weights_dir, no_hybrid
        ).choose()
        labels: Mapping[int, LabelMap] = given_labels(clip, masks, limits) if masks else {}
        objects = None
        if by_number:
            labels, objects = chosen_labels(
                clip,
                limits,
                Choice(who, everyone_but, list_file, what, detector),
                prompts,
                output=None if overwrite else output,
                masks=bool(masks),
                engines=engines,
                engine_option=engine_option,
            )
        order = Order(
            source=clip,
            target=output,
            prompts=prompts,
            labels=labels,
            engines=engines,
            options=Options(
                fill=FillOptions(objects=objects, grow_px=grow_px, second_pass=second_pass),
                write=WriteOptions(codec, crf, preset, pix_fmt, keep_location, smart_copy, measure),
                also=outputs,
                limits=limits,
                save_masks=save_masks,
                overwrite=overwrite,
            ),
            part=None if part is None else frames_of(part, clip, limits),
            memory_limit_mb=memory_mb(memory_limit),
        )
    how = HowToRun(resume, job, preview, plan, memory_mb(memory_limit), sheet)
    run_and_tell(order, output, how, as_json=as_json)


def segment(
    clip: Clip,
    output: Output,
    click: Clicks = None,
    not_: Nots = None,
    box: Boxes = None,
    segmenter: SegmenterName = None,
    device: Device = "auto",
    engine_set: EngineSet = "builtin",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Outline an object in one frame and write the mask as a PNG."""
    prompts = read_prompts(click, not_, box)
    if len(prompts) != 1:
        raise PromptError(
            "segment works on one frame", "Give --click X,Y[@FRAME] or --box with one FRAME"
        )
    from inpainterz import pipeline
    from inpainterz.masks import encode_labels
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.shots import find_cuts
    from inpainterz.video.targets import write_whole

    target = Path(output)
    pipeline.check_target(target, overwrite=overwrite)
    with VideoReader(clip) as video, progress_bars() as progress:
        pipeline.check_prompts(video, prompts)
        engine = (
            EngineArguments(
                segmenter, "builtin", "builtin", device, engine_set, engine_option, weights_dir
            )
            .choose()
            .load("segment")
        )
        labels = pipeline.outline(video, prompts, engine, cuts=find_cuts(video), progress=progress)
    index, found = next(iter(labels.items()))
    write_whole(target, encode_labels(found))
    facts = {"mask": str(target), "frame": index, "pixels": int((found > 0).sum())}
    say(facts, as_json, f"{target}: {facts['pixels']} pixels in frame {index}")


def track(
    clip: Clip,
    output: Output,
    mask: MaskFiles = None,
    tracker: TrackerName = None,
    device: Device = "auto",
    engine_set: EngineSet = "builtin",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Follow masks through the clip and write one label map a frame into a zip."""
    masks = mask_files(mask)
    if not masks:
        raise PromptError("nothing says what to follow", "Give --mask PNG[@FRAME]")
    from inpainterz import pipeline
    from inpainterz.masks import MaskStore
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.shots import find_cuts

    target = Path(output)
    pipeline.check_target(target, overwrite=overwrite)
    labels = given_labels(clip, masks)
    engine = (
        EngineArguments(
            "builtin", tracker, "builtin", device, engine_set, engine_option, weights_dir
        )
        .choose()
        .load("track")
    )
    with VideoReader(clip) as video, MaskStore.temporary() as store:
        cuts = find_cuts(video)
        with progress_bars() as progress:
            for _ in pipeline.propagate(video, labels, engine, store, cuts=cuts, progress=progress):
                pass
        store.export_zip(target)
        confidence = {i: store.confidence(i) for i in store.indices()}
        doubtful = store.doubtful()
    facts = {"masks": str(target), "frames": len(confidence), "doubtful_frames": doubtful}
    facts["confidence"] = confidence
    say(facts, as_json, f"{target}: masks of {len(confidence)} frames, {len(doubtful)} doubtful")


def inpaint(
    clip: Clip,
    output: Output,
    masks: Annotated[Path, typer.Option("--masks", metavar="ZIP|FOLDER|PNG", help="What to fill.")],
    inpainter: InpainterName = None,
    device: Device = "auto",
    engine_set: EngineSet = "builtin",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    no_hybrid: NoHybrid = False,
    grow: Grow = "0",
    second_pass: SecondPass = "none",
    codec: Codec = "auto",
    crf: Crf = None,
    preset: Preset = "medium",
    pix_fmt: PixFmt = None,
    smart_copy: SmartCopy = True,
    keep_location: KeepLocation = False,
    measure: Measure = False,
    also: AlsoOutputs = None,
    limit: FileLimits = None,
    sheet: Sheet = None,
    overwrite: Overwrite = False,
    part: Part = None,
    preview: Preview = None,
    memory_limit: MemoryLimit = None,
    job: JobFolder = None,
    resume: Resume = False,
    plan: PlanOnly = False,
    as_json: AsJson = False,
) -> None:
    """Fill given masks of a clip."""
    grow_px = grow_px_of(grow)
    from inpainterz.jobs.order import Order
    from inpainterz.pipeline import FillOptions, Options, check_target
    from inpainterz.video.writer import WriteOptions

    check_target(sheet, overwrite=overwrite)
    limits, outputs = file_limits(limit), also_outputs(also)
    if not masks.exists():
        raise InputError(f"there is no {masks}", "Name a zip, a folder or a PNG")
    order = Order(
        source=clip,
        target=output,
        masks=masks,
        engines=EngineArguments(
            "builtin",
            "builtin",
            inpainter,
            device,
            engine_set,
            engine_option,
            weights_dir,
            no_hybrid,
        ).choose(),
        options=Options(
            fill=FillOptions(grow_px=grow_px, feather_px=0, second_pass=second_pass),
            write=WriteOptions(codec, crf, preset, pix_fmt, keep_location, smart_copy, measure),
            also=outputs,
            limits=limits,
            overwrite=overwrite,
        ),
        part=None if part is None else frames_of(part, clip, limits),
        memory_limit_mb=memory_mb(memory_limit),
    )
    how = HowToRun(resume, job, preview, plan, memory_mb(memory_limit), sheet)
    run_and_tell(order, output, how, as_json=as_json)


def info(clip: Clip, as_json: AsJson = False) -> None:
    """Say what a clip is: size, rate, frames, duration, streams, shots."""
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.shots import find_cuts

    with VideoReader(clip) as video:
        facts = _clip_facts(video, find_cuts(video))
    if as_json:
        print_json(facts)
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in ("file", "size", "fps", "frames", "duration", "codec", "rotation", "shots"):
        table.add_row(name, str(facts[name]))
    for stream in facts["streams"]:
        table.add_row(f"stream {stream['index']}", f"{stream['kind']} {stream['codec']}")
    out().print(table)


def _clip_facts(video: VideoReader, cuts: tuple[int, ...]) -> dict[str, Any]:
    about = video.info
    return {
        "file": str(about.path),
        "size": f"{about.width}x{about.height}",
        "width": about.width,
        "height": about.height,
        "fps": None if about.fps is None else round(float(about.fps), 4),
        "variable_rate": about.variable_rate,
        "frames": about.frames,
        "duration": round(float(about.duration), 4),
        "codec": about.codec,
        "pix_fmt": about.pix_fmt,
        "rotation": about.rotation,
        "shots": len(cuts) + 1,
        "cuts": list(cuts),
        "streams": [{"index": s.index, "kind": s.kind, "codec": s.codec} for s in about.streams],
    }
