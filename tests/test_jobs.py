"""Jobs: killed anywhere and resumed they write the same bytes; parts, previews, memory."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import clips
import numpy as np
import pytest

import inpainterz
from inpainterz import pipeline
from inpainterz.errors import (
    InpainterzError,
    InputError,
    OptionError,
    OutOfMemory,
    OutputExists,
    PromptError,
)
from inpainterz.jobs import plan as planning
from inpainterz.jobs import write
from inpainterz.jobs.folder import folder_for
from inpainterz.jobs.job import Job
from inpainterz.jobs.order import EngineChoice, Order, options_of
from inpainterz.jobs.pieces import Piece, PieceReader, PieceWriter, divide, patch_of
from inpainterz.jobs.scope import Sizes
from inpainterz.masks import MaskStore
from inpainterz.outputs import Also
from inpainterz.pipeline import Engines, FillOptions, Options
from inpainterz.types import Frame, Inpainted, LabelMap, Mask, Origin, Prompt, Step, Tracked
from inpainterz.ui.lane import Check, Lanes
from inpainterz.video.reader import VideoReader
from inpainterz.video.writer import WriteOptions

SIZES = Sizes(stretch_frames=7, piece_frames=9, blend_frames=3)
SCENE = clips.Scene(width=64, height=48, frames=40, cuts=(26,))


@dataclass(frozen=True)
class Wandering:
    """A tracker whose answer depends on every frame since its beginning: a wrong restart shows.

    It forgets everything at a cut, as a tracker may.
    """

    def track(self, frames: Iterable[Frame], labels: Mapping[int, LabelMap]) -> Iterator[Tracked]:
        held: LabelMap | None = None
        age, shot, known = 0, None, set[int]()
        for frame in frames:
            if held is None and frame.index not in labels:
                raise PromptError("the first frame has no label map")
            if held is None or frame.shot != shot:
                held, age = np.zeros(frame.image.shape[:2], np.uint8), 0
            shot = frame.shot
            age += 1
            held = np.roll(held, 1 + age % 2 + int(frame.image.sum()) % 2, axis=1)
            given = labels.get(frame.index)
            if given is not None:
                known |= {int(k) for k in np.unique(given) if k}
                held = np.where(given > 0, given, held)
            yield Tracked(frame, held.copy(), {k: (held == k).any() / (1 + age) for k in known})


@dataclass(frozen=True)
class Carrying:
    """An inpainter that carries its last fill on, and looks a few frames ahead."""

    lookahead: int = 4
    budget: int = 10**9
    """It runs out of memory where a stream is longer, in frames."""

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        waiting: list[tuple[Frame, Mask]] = []
        carried: np.ndarray | None = None
        shot = None
        for count, item in enumerate(frames):
            if count >= self.budget:
                raise OutOfMemory("memory ran out", "Lower it")
            if waiting and waiting[-1][0].shot != item[0].shot:
                while waiting:
                    carried = self._fill(waiting, carried)
                    yield self._out(waiting.pop(0), carried)
            if item[0].shot != shot:
                carried, shot = None, item[0].shot
            waiting.append(item)
            if len(waiting) > self.lookahead:
                carried = self._fill(waiting, carried)
                yield self._out(waiting.pop(0), carried)
        while waiting:
            carried = self._fill(waiting, carried)
            yield self._out(waiting.pop(0), carried)

    def _fill(self, waiting: list[tuple[Frame, Mask]], carried: np.ndarray | None) -> np.ndarray:
        ahead = np.mean([f.image.mean((0, 1)) for f, _ in waiting], 0)
        return ahead if carried is None else 0.7 * carried + 0.3 * ahead

    def _out(self, item: tuple[Frame, Mask], colour: np.ndarray) -> Inpainted:
        frame, hole = item
        if not hole.any():
            return Inpainted(frame)
        image = frame.image.copy()
        image[hole] = colour.astype(np.uint8)
        origin = np.where(hole, np.uint8(Origin.SEEN), np.uint8(0))
        origin[hole.argmax(0).max(), :] = np.where(hole[hole.argmax(0).max(), :], 2, 0)
        return Inpainted(replace(frame, image=image), origin)


def engines(inpainter: object = Carrying()) -> Engines:
    names = {"segment": "given", "track": "given", "inpaint": "given"}
    return Engines(None, Wandering(), inpainter, names)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> clips.Clip:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip with space.mp4", SCENE)


def labels_at(*frames: int) -> dict[int, LabelMap]:
    return {i: SCENE.mask(i).astype(np.uint8) for i in frames}


def order(clip: clips.Clip, target: Path | str, **more: object) -> Order:
    fields: dict[str, object] = {"labels": labels_at(12, 30)}
    fields |= {"options": Options(fill=FillOptions(grow_px=2)), **more}
    return Order(clip.path, str(target), **fields)  # type: ignore[arg-type]


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def unbroken(clip: clips.Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target of a run that nothing interrupted."""
    root = tmp_path_factory.mktemp("unbroken")
    Job.create(root / "job", order(clip, root / "clean.mp4"), sizes=SIZES).run(engines=engines())
    return root / "clean.mp4"


# ---------------------------------------------------------------- resuming


SERVER = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
import cv2
cv2.setNumThreads(1)
import test_jobs
from inpainterz.jobs.job import Job
import scenedetect.detectors
print("up", flush=True)
for line in sys.stdin:
    seconds, folder = line.rstrip().split(" ", 1)
    pid = os.fork()
    if pid == 0:
        Job.open(folder).run(engines=test_jobs.engines())
        os._exit(0)
    time.sleep(float(seconds))
    if float(seconds):
        os.kill(pid, signal.SIGKILL)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def test_twenty_kills_and_the_same_bytes(clip: clips.Clip, unbroken: Path, tmp_path: Path) -> None:
    """A process that has imported everything forks one for each run: only those are killed."""
    pace = random.Random(20)
    code = SERVER.format(tests=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        assert server.stdout.readline() == "up\n"
        kills, finished, number = 0, 0, 0
        while kills < 20 or not finished:
            target, folder = tmp_path / f"{number}.mp4", tmp_path / f"{number}.job"
            if not folder.exists():
                Job.create(folder, order(clip, target), sizes=SIZES)
            seconds = pace.uniform(0.01, 0.6) if kills < 20 else 0
            server.stdin.write(f"{seconds} {folder}\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
            if status == signal.SIGKILL:
                kills += 1
                assert not target.exists() or sha(target) == sha(unbroken)
                continue
            assert status == 0
            assert sha(target) == sha(unbroken)
            finished, number = finished + 1, number + 1
        server.stdin.close()
    beside = {p.suffix for p in tmp_path.iterdir()}
    assert beside <= {".mp4", ".job"}  # nothing half done lies about


@pytest.mark.parametrize("stage", ["cuts", "track", "inpaint", "write"])
@pytest.mark.parametrize("nth", [1, 17])
def test_interrupted_in_any_stage_it_goes_on_to_the_same_file(
    clip: clips.Clip, unbroken: Path, tmp_path: Path, stage: str, nth: int
) -> None:
    target = tmp_path / "clean.mp4"
    job = Job.create(tmp_path / "job", order(clip, target), sizes=SIZES)
    count = 0

    def stop(step: Step) -> None:
        nonlocal count
        count += step.stage == stage
        if count == nth:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(engines=engines(), progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["job"]
    report = Job.open(tmp_path / "job").run(engines=engines())
    assert sha(target) == sha(unbroken)
    assert report.frames == 40


def test_a_job_of_the_package_itself(clip: clips.Clip, tmp_path: Path) -> None:
    """The names that the package offers are enough to begin, stop and go on."""
    made = inpainterz.Order(clip.path, str(tmp_path / "clean.mp4"), labels=labels_at(12))
    inpainterz.Job.create(tmp_path / "job", made)
    report = inpainterz.Job.open(tmp_path / "job").run(engines=engines())
    assert report.frames == 40 and (tmp_path / "clean.mp4").is_file()
    assert inpainterz.EngineChoice().names["inpaint"] == "builtin"


def test_what_is_done_is_not_done_again(clip: clips.Clip, tmp_path: Path) -> None:
    class Counting(Carrying):
        taken = 0

        def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
            def counted() -> Iterator[tuple[Frame, Mask]]:
                for item in frames:
                    Counting.taken += 1
                    yield item

            return super().inpaint(counted())

    job = Job.create(tmp_path / "job", order(clip, tmp_path / "clean.mp4"), sizes=SIZES)

    def stop(step: Step) -> None:
        if step.stage == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(engines=engines(Counting()), progress=stop)
    assert Counting.taken > 40
    Counting.taken = 0
    Job.open(tmp_path / "job").run(engines=engines(Counting()))
    assert Counting.taken == 0


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_killed_between_two_outputs_it_puts_the_rest_in_place(
    clip: clips.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    options = Options(
        fill=FillOptions(grow_px=2),
        save_masks=tmp_path / "masks.zip",
        also=(Also("mask-video", str(tmp_path / "masks.mp4")),),
    )
    made = order(clip, tmp_path / "clean.mp4", options=options)
    job = Job.create(tmp_path / "job", made, sizes=SIZES)
    real = write._publish
    left = [moved]

    def killed(part: Path, place: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(part, place)

    monkeypatch.setattr(write, "_publish", killed)
    with pytest.raises(KeyboardInterrupt):
        job.run(engines=engines())
    assert len(list(tmp_path.iterdir())) == 1 + moved
    monkeypatch.setattr(write, "_publish", real)
    Job.open(tmp_path / "job").run(engines=engines())
    names = {"job", "clean.mp4", "masks.zip", "masks.mp4"}
    assert {p.name for p in tmp_path.iterdir()} == names


def test_killed_when_only_the_folder_was_left_it_ends_well(
    clip: clips.Clip, tmp_path: Path
) -> None:
    job = Job.create(tmp_path / "job", order(clip, tmp_path / "clean.mp4"), sizes=SIZES)
    first = job.run(engines=engines())
    again = Job.open(tmp_path / "job").run(engines=engines())
    assert json.loads(json.dumps(again.as_json())) == json.loads(json.dumps(first.as_json()))
    (tmp_path / "clean.mp4").unlink()
    assert Job.open(tmp_path / "job").run(engines=engines()).target == first.target
    assert (tmp_path / "clean.mp4").is_file()


@pytest.mark.parametrize(
    "ending, codec",
    [
        *((ending, "auto") for ending in (".mkv", ".webm", ".mov")),
        (".mp4", "hevc"),
        (".mkv", "hevc"),
        (".mp4", "av1"),
        (".mp4", "vp9"),
        (".mov", "prores"),
        (".mkv", "ffv1"),
    ],
)
def test_stopped_while_writing_it_is_equal_in_every_codec_and_container(
    tmp_path: Path, ending: str, codec: str
) -> None:
    scene = replace(SCENE, width=90, height=66, frames=24, cuts=())
    clip = clips.make(tmp_path / "clip.mp4", scene)
    options = Options(
        fill=FillOptions(grow_px=2), write=WriteOptions(codec=codec, preset="ultrafast")
    )
    labels: dict[int, LabelMap] = {3: scene.mask(3).astype(np.uint8)}
    found = []
    for name in ("whole", "stopped"):
        target = tmp_path / f"{name}{ending}"
        asked = order(clip, target, part=(0, 12), options=options, labels=labels)
        job = Job.create(tmp_path / name, asked, sizes=SIZES)

        def stop(step: Step) -> None:
            if step.stage == "write" and step.done == 17:
                raise KeyboardInterrupt

        if name == "stopped":
            with pytest.raises(KeyboardInterrupt):
                job.run(engines=engines(), progress=stop)
            assert not target.exists()
        Job.open(tmp_path / name).run(engines=engines())
        found.append(sha(target))
    assert found[0] == found[1]


@pytest.mark.skipif(sys.platform == "win32", reason="files cannot be limited there")
@pytest.mark.parametrize("most_bytes", [300, 1_000, 5_000, 12_000])
def test_a_full_disk_is_one_sentence_and_the_job_goes_on_after_it(
    clip: clips.Clip, unbroken: Path, tmp_path: Path, most_bytes: int
) -> None:
    """No file may become larger than so much: wherever it happens, the folder is kept."""
    import resource

    target = tmp_path / "clean.mp4"
    job = Job.create(tmp_path / "job", order(clip, target), sizes=SIZES)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        with pytest.raises(InpainterzError) as told:
            job.run(engines=engines())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert any(w in str(told.value) for w in ("cannot be written", "cannot be kept")), told.value
    assert [p.name for p in tmp_path.iterdir()] == ["job"]
    Job.open(tmp_path / "job").run(engines=engines())
    assert sha(target) == sha(unbroken)


def test_a_job_is_not_resumed_with_another_clip_or_twice_at_once(
    clip: clips.Clip, tmp_path: Path
) -> None:
    job = Job.create(tmp_path / "job", order(clip, tmp_path / "clean.mp4"), sizes=SIZES)
    other = clips.make(tmp_path / "other.mp4", replace(SCENE, seed=3))
    with pytest.raises(InputError, match="not the clip"):
        Job.open(tmp_path / "job", source=other.path).run(engines=engines())

    def meanwhile(step: Step) -> None:
        Job.open(tmp_path / "job").run(engines=engines())

    with pytest.raises(InputError, match="being worked on"):
        job.run(engines=engines(), progress=meanwhile)
    with pytest.raises(InputError, match="no job"):
        Job.open(tmp_path)
    with pytest.raises(OutputExists, match="not empty"):
        Job.create(tmp_path / "job", order(clip, tmp_path / "clean.mp4"))
    assert (tmp_path / "job").stat().st_mode & 0o777 == 0o700


def test_an_order_is_checked_before_any_work(clip: clips.Clip, tmp_path: Path) -> None:
    target = tmp_path / "clean.mp4"
    wrong = [
        order(clip, target, labels={}),
        order(clip, target, labels=labels_at(0) | {99: labels_at(0)[0]}),
        order(clip, target, part=(30, 41)),
        order(clip, target, prompts={0: {1: Prompt.of((900, 3))}}),
        order(clip, tmp_path / "clean.xyz"),
        order(clip, tmp_path / "nowhere" / "clean.mp4"),
        order(clip, clip.path),
    ]
    for each in wrong:
        with pytest.raises((InputError, OSError)) as caught:
            Job.create(tmp_path / "job", each)
        assert "." in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    target.write_bytes(b"somebody's")
    with pytest.raises(OutputExists):
        Job.create(tmp_path / "job", order(clip, target))
    assert target.read_bytes() == b"somebody's"


def test_pictures_are_put_in_place_as_a_whole(clip: clips.Clip, tmp_path: Path) -> None:
    for _ in range(2):
        options = Options(fill=FillOptions(grow_px=2), overwrite=True)
        made = order(clip, f"{tmp_path / 'out'}/", options=options, part=(0, 8))
        job = Job.create(tmp_path / "job", made, sizes=SIZES)
        job.run(engines=engines())
        job.delete()
    assert len(list((tmp_path / "out").glob("*.png"))) == 40
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_folder_is_found_whatever_the_name() -> None:
    assert folder_for("x/clean.mp4") == Path("x/clean.mp4.job")
    assert len(os.fsencode(folder_for("é" * 120 + ".mp4").name)) <= 255


# ---------------------------------------------------------------- parts and previews


def lossless(clip: clips.Clip, target: Path, **more: object) -> Order:
    options = Options(fill=FillOptions(grow_px=2), write=WriteOptions(codec="ffv1"))
    return order(clip, target, options=options, **more)


def test_a_part_changes_and_the_rest_does_not(clip: clips.Clip, tmp_path: Path) -> None:
    target = tmp_path / "clean.mkv"
    report = Job.create(tmp_path / "job", lossless(clip, target, part=(14, 20)), sizes=SIZES).run(
        engines=engines()
    )
    assert report.part == (14, 20)
    assert report.frames_with_hole == 6
    with VideoReader(clip.path) as before, VideoReader(target) as after:
        assert len(after) == len(before)
        for a, b in zip(before.frames(), after.frames(), strict=True):
            assert (a.image == b.image).all() == (a.index not in range(14, 20)), a.index


def test_a_part_looks_at_no_frame_whose_masks_are_unknown(tmp_path: Path) -> None:
    """The object would be taken for background there."""
    clip = clips.make(tmp_path / "long.mp4", replace(SCENE, frames=60))
    job = Job.create(
        tmp_path / "job",
        lossless(clip, tmp_path / "clean.mkv", labels=labels_at(2), part=(2, 4)),
        sizes=SIZES,
    )
    job.run(engines=engines(Carrying(lookahead=2)))
    with MaskStore(tmp_path / "job" / "full" / "masks") as store:
        known = store.indices()
    assert known[0] == 0
    assert known[-1] < 59
    (piece,) = (tmp_path / "job" / "fill").glob("*.zip")
    assert piece.name.startswith("000002-000004")


def test_a_preview_comes_first_and_the_full_run_takes_it_over(
    clip: clips.Clip, tmp_path: Path
) -> None:
    target = tmp_path / "clean.mkv"
    job = Job.create(tmp_path / "job", lossless(clip, target, labels=labels_at(12)), sizes=SIZES)
    report = job.run(engines=engines(), preview=(14, 20))
    preview = tmp_path / "clean-preview.mkv"
    assert report.target == str(preview)
    assert not target.exists()
    (made,) = (tmp_path / "job" / "fill").iterdir()
    assert made.name.startswith("000014-000020-")
    Job.open(tmp_path / "job").run(engines=engines())
    same = list((tmp_path / "job" / "fill").glob("000014-000020-*"))
    assert same == [made]  # it is the full run's piece too
    assert (
        "filled frames 14 to 19" not in (tmp_path / "job" / "log.txt").read_text().split("all")[1]
    )
    with VideoReader(preview) as shown, VideoReader(target) as full:
        assert len(shown) == 6
        for i in range(3, 6):  # after the piece before has faded out
            assert np.array_equal(shown.frame(i).image, full.frame(14 + i).image)


def test_a_preview_with_other_masks_is_not_taken_over(clip: clips.Clip, tmp_path: Path) -> None:
    """A later prompt changes masks of the previewed frames in the backward pass."""
    target = tmp_path / "clean.mkv"
    job = Job.create(tmp_path / "job", lossless(clip, target), sizes=SIZES)
    job.run(engines=engines(), preview=(14, 20))
    (made,) = (p.name for p in (tmp_path / "job" / "fill").iterdir())
    masks = tmp_path / "job" / "preview-000014-000020" / "masks"
    Job.open(tmp_path / "job").run(engines=engines())
    again = [p.name for p in (tmp_path / "job" / "fill").glob("000014-000020-*")]
    with (
        MaskStore(tmp_path / "job" / "full" / "masks") as full,
        MaskStore(masks) as shown,
    ):
        same = all(np.array_equal(full.get(i), shown.get(i)) for i in shown.indices())
    assert (again == [made]) == same


# ---------------------------------------------------------------- given masks, memory


def test_given_masks_are_filled_without_following(clip: clips.Clip, tmp_path: Path) -> None:
    with MaskStore(tmp_path / "store") as store:
        for i in range(5, 9):
            store.put(i, SCENE.mask(i).astype(np.uint8))
        store.export_zip(tmp_path / "masks.zip")
    target = tmp_path / "clean.mkv"
    report = Job.create(
        tmp_path / "job",
        lossless(clip, target, labels={}, masks=tmp_path / "masks.zip"),
        sizes=SIZES,
    ).run(engines=engines())
    assert report.frames_with_hole == 4
    with MaskStore(tmp_path / "store") as store:
        for i in range(4):
            store.put(5 + i, np.zeros((48, 64), np.uint8))
        store.export_zip(tmp_path / "none.zip")
    with pytest.raises(PromptError, match="mark nothing"):
        Job.create(
            tmp_path / "job2",
            lossless(clip, tmp_path / "b.mkv", labels={}, masks=tmp_path / "none.zip"),
        ).run(engines=engines())


def test_out_of_memory_steps_down_and_keeps_what_is_done(
    clip: clips.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inpainterz.inpaint import builtin

    tried: list[int] = []

    class Greedy(Carrying):
        def __init__(self, options: builtin.Options) -> None:
            super().__init__()
            object.__setattr__(self, "options", options)

        def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
            options: builtin.Options = self.options  # type: ignore[attr-defined]
            for item in super().inpaint(frames):
                if item.frame.index == 20 and options.memory_mb > 200:
                    tried.append(options.memory_mb)
                    raise OutOfMemory("a window does not fit", "Lower memory_mb")
                yield item

    monkeypatch.setattr(builtin, "create", lambda options, device: Greedy(options))
    choice = EngineChoice()
    made = order(clip, tmp_path / "clean.mp4", engines=choice, part=(12, 26))
    job = Job.create(tmp_path / "job", made, sizes=SIZES)
    monkeypatch.setattr(EngineChoice, "load", _load_with(EngineChoice.load))
    report = job.run()
    assert tried == [800, 400]
    assert len(report.notes) == 2
    assert "memory_mb 200 instead of 400" in report.notes[1]
    assert (tmp_path / "clean.mp4").is_file()
    log = (tmp_path / "job" / "log.txt").read_text()
    assert "memory_mb 400 instead of 800" in log
    # resumed, it knows what it had stepped down to, and does nothing again
    (tmp_path / "clean.mp4").unlink()
    assert Job.open(tmp_path / "job").run().notes == report.notes
    assert tried == [800, 400]


def _load_with(load):  # type: ignore[no-untyped-def]
    def loaded(self: EngineChoice, stage: str) -> object:
        return Wandering() if stage == "track" else load(self, stage)

    return loaded


def test_a_limit_given_on_resuming_holds_for_what_is_left(
    clip: clips.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the system killed it for its memory: what is done stays, the rest takes less."""
    made = order(clip, tmp_path / "clean.mp4", part=(12, 26))
    job = Job.create(tmp_path / "job", made, sizes=SIZES)
    used: list[int] = []

    def load(self: EngineChoice, stage: str) -> object:
        if stage == "inpaint":
            used.append(options_of(self, stage).memory_mb)  # type: ignore[arg-type]
        return Wandering() if stage == "track" else Carrying()

    monkeypatch.setattr(EngineChoice, "load", load)

    def killed(step: Step) -> None:
        if step.stage == "inpaint" and any((tmp_path / "job" / "fill").glob("*.zip")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(progress=killed)
    (done,) = (tmp_path / "job" / "fill").glob("*.zip")
    again = Job.open(tmp_path / "job")
    facts = {("inpaint", "builtin"): lambda options, mp, hole: options.memory_mb}
    monkeypatch.setattr(planning, "MEMORY", facts)
    monkeypatch.setattr("inpainterz.jobs.run_engines.resident_mb", lambda: 200)
    again.limit_memory(350)
    report = again.run()
    assert used == [800, 200]
    assert done in (tmp_path / "job" / "fill").glob("*.zip")
    assert report.notes == ("to fit 350 MiB: inpaint with memory_mb 200",)


def test_a_limit_is_watched_while_it_runs(
    clip: clips.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing takes less memory, the run goes on and the report says so."""
    monkeypatch.setattr("inpainterz.jobs.run_engines.resident_mb", lambda: 5000)
    made = order(clip, tmp_path / "clean.mp4", part=(12, 20), memory_limit_mb=1000)
    report = Job.create(tmp_path / "job", made, sizes=SIZES).run(engines=engines())
    assert any("more than the limit of 1000 MiB" in note for note in report.notes)


def test_memory_that_no_step_saves_is_an_error(clip: clips.Clip, tmp_path: Path) -> None:
    made = order(clip, tmp_path / "clean.mp4")
    job = Job.create(tmp_path / "job", made, sizes=SIZES)
    with pytest.raises(OutOfMemory):
        job.run(engines=engines(Carrying(budget=3)))
    assert job.run(engines=engines()).frames == 40  # what was done is there


# ---------------------------------------------------------------- abandoned, cancelled, cut


@pytest.mark.parametrize("taken", [0, 1, 9])
def test_a_stage_that_is_closed_early_leaves_no_thread_and_no_open_file(
    clip: clips.Clip, tmp_path: Path, taken: int
) -> None:
    before = set(threading.enumerate())
    handles = len(os.listdir("/proc/self/fd"))
    with VideoReader(clip.path) as video, MaskStore(tmp_path / "masks") as masks:
        follow = pipeline.propagate(video, labels_at(12), Wandering(), masks)
        for _ in range(taken):
            next(follow)
        follow.close()
        masks.put(3, labels_at(3)[3])
        filled = pipeline.fill(video, masks, Carrying())
        for _ in range(taken):
            next(filled)
        filled.close()
    assert set(threading.enumerate()) == before
    assert len(os.listdir("/proc/self/fd")) == handles


@pytest.mark.parametrize("stage", ["track", "inpaint"])
def test_a_cancelled_job_of_real_engines_ends_and_frees_everything(
    clip: clips.Clip, tmp_path: Path, stage: str
) -> None:
    begun = threading.Event()

    def work(check: Check) -> None:
        def step(step: Step) -> None:
            check()
            if step.stage == stage:
                begun.set()

        made = order(clip, tmp_path / "clean.mp4")
        Job.create(tmp_path / "job", made).run(progress=step)

    with Lanes() as lanes:
        handles = len(os.listdir("/proc/self/fd"))
        job = lanes.submit("ann", work)
        assert begun.wait(60)
        lanes.cancel(job, "ann")
        assert lanes.wait(job, "ann", 10).state == "cancelled"
        assert not list(tmp_path.glob("clean*"))  # what is done of it lies in the job's folder
        assert not [t for t in threading.enumerate() if t.name in ("prefetch", "behind")]
        assert len(os.listdir("/proc/self/fd")) == handles


def test_the_built_in_tracker_stops_at_a_cut_and_nothing_is_filled_after_it(
    tmp_path: Path,
) -> None:
    scene = replace(SCENE, frames=16, cuts=(8,))
    short = clips.make(tmp_path / "cut.mp4", scene)
    made = Order(
        short.path,
        str(tmp_path / "clean.mkv"),
        labels={0: scene.mask(0).astype(np.uint8)},
        options=Options(fill=FillOptions(grow_px=1), write=WriteOptions(codec="ffv1")),
    )
    report = Job.create(tmp_path / "job", made, sizes=SIZES).run()
    assert report.shots == 2
    with VideoReader(short.path) as before, VideoReader(tmp_path / "clean.mkv") as after:
        for a, b in zip(before.frames(), after.frames(), strict=True):
            assert (a.image == b.image).all() == (a.index >= 8)


# ---------------------------------------------------------------- pieces


def test_pieces_hold_what_is_marked_and_cross_no_cut() -> None:
    pieces = divide(
        [(0, 5), (90, 700), (950, 951)], (100, 400), (0, 1000), (0, 1000), 20, length=120, blend=6
    )
    marked = [*range(0, 5), *range(90, 700), 950]
    assert sorted(i for p in pieces for i in range(p.start, p.stop)) == marked
    for piece in pieces:
        assert piece.low <= piece.start < piece.stop <= piece.stop + piece.tail <= piece.high
        assert piece.stop - piece.start <= 120
        for cut in (100, 400):
            assert not piece.low < cut < piece.high
    assert Piece(0, 5, 0, 0, 25) in pieces
    assert [p.tail for p in pieces if p.stop in (5, 100, 400, 700)] == [0, 0, 0, 0]
    assert all(p.tail == 6 for p in pieces if p.stop not in (5, 100, 400, 700, 951))


def test_pieces_stay_in_what_may_change_and_what_is_known() -> None:
    pieces = divide([(0, 1000)], (), (300, 400), (250, 470), 90)
    assert pieces == [Piece(300, 400, 0, 250, 470)]
    pieces = divide([(0, 1000)], (), (0, 1000), (0, 1000), 30, given=[(480, 520)], length=600)
    assert [(p.start, p.stop) for p in pieces] == [(0, 480), (480, 520), (520, 1000)]


def test_short_gaps_are_bridged_and_long_ones_left_out() -> None:
    pieces = divide([(0, 10), (30, 40), (300, 310)], (), (0, 400), (0, 400), 20)
    assert [(p.start, p.stop) for p in pieces] == [(0, 40), (300, 310)]


def test_a_piece_keeps_every_bit(tmp_path: Path) -> None:
    random_ = np.random.default_rng(1)
    image = random_.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    origin = np.zeros((30, 40), np.uint8)
    origin[4:11, 7:30] = random_.integers(0, 3, (7, 23))
    frame = Frame(image, 12, 0, clips.Fraction(1, 25))
    patch = patch_of(Inpainted(frame, origin))
    assert patch is not None
    assert patch_of(Inpainted(frame)) is None
    path = tmp_path / "piece.zip"
    with pytest.raises(ZeroDivisionError), PieceWriter(path) as writer:
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with PieceWriter(path) as writer:
        writer.add(12, patch)
        assert not path.exists()
    with PieceReader(path) as reader:
        assert reader.get(11) is None
        back = reader.get(12)
    assert back is not None
    blank = np.zeros_like(image)
    back.paste(blank)
    assert np.array_equal(blank[origin > 0], image[origin > 0])
    assert not blank[origin == 0].any()
    path.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="damaged"):
        PieceReader(path)


def test_sizes_are_checked() -> None:
    with pytest.raises(OptionError):
        Sizes(stretch_frames=1)
    with pytest.raises(OptionError):
        Order(Path("a"), "b", memory_limit_mb=3)
