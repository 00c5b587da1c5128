"""The page's desk and actions: long work in lanes, whoever looks; what the browser is told."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from typing import Any, get_args

import clips
import numpy as np
import pytest

from inpainterz.errors import InputError, JobNotFound, OptionError, QueueFull
from inpainterz.pipeline import Engines
from inpainterz.types import Tracked
from inpainterz.ui import pictures, render, words
from inpainterz.ui.actions import Actions
from inpainterz.ui.desk import PUBLIC, Desk, Limits
from inpainterz.ui.folder import clean_up
from inpainterz.ui.handlers import follow, footage, marks
from inpainterz.ui.session import Session, Work
from inpainterz.ui.shelf import Shelf

SCENE = clips.Scene(width=64, height=48, frames=9, seed=3)
ANN, BOB, CID = "ann", "bob", "cid"
ASSETS = Path(render.__file__).parent / "assets"


class Slow:
    """A tracker that answers with the first mask, a frame whenever it may."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def track(self, frames: Any, labels: Any) -> Iterator[Tracked]:
        first = labels[min(labels)]
        for frame in frames:
            while not self.go.wait(0.01):
                pass
            yield Tracked(frame, first, {1: 0.9})


@pytest.fixture(scope="module")
def built_in() -> Engines:
    return Engines.load()


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def desk(tmp_path: Path, built_in: Engines, slow: Slow) -> Iterator[Desk]:
    engines = replace(built_in, tracker=slow)
    root = tmp_path / "desk"
    root.mkdir()
    made = Desk(root, Shelf(engines), Limits(waiting_per_owner=1, waiting=2))
    yield made
    slow.go.set()
    made.close()
    assert not list(root.glob("tab-*"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "square.mp4", SCENE).path


def marked(desk: Desk, owner: str, clip: Path) -> Session:
    """A session with a clip in which the square is painted."""
    session = desk.open(owner)
    landed = desk.uploads / "0123abcd" / clip.name
    landed.parent.mkdir(exist_ok=True)
    landed.unlink(missing_ok=True)  # a session may have it as a link: each upload is a new file
    landed.write_bytes(clip.read_bytes())
    footage.open_upload(session, desk.uploads, str(landed), "<img src=x>.mp4")
    ys, xs = np.nonzero(SCENE.mask(0))
    told = {"do": "mark", "tab": session.id, "kind": "brush", "radius_px": 5}
    answer = Actions(desk)({**told, "at": [float(xs.mean()), float(ys.mean())]}, owner)
    assert answer["model"]["marked"] and not answer["model"]["notice"]
    return session


def until(ready: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_work_goes_on_whoever_looks(desk: Desk, clip: Path, slow: Slow) -> None:
    actions = Actions(desk)
    session = marked(desk, ANN, clip)
    tab = session.id
    told = actions({"do": "track", "tab": tab}, ANN)["model"]
    assert told["job"]["work"] in ("queue", "cuts") and not told["tracked"]
    again = actions({"do": "track", "tab": tab}, ANN)["model"]
    assert "still running" in again["notice"]
    # a page that comes later, or comes again, finds it by its id
    until(lambda: actions({"do": "hello", "tab": tab}, ANN)["model"]["job"]["work"] == "follow")
    assert actions({"do": "seek", "tab": tab, "frame": 4}, ANN)["model"]["stage"]["index"] == 4
    slow.go.set()
    until(lambda: actions({"do": "look", "tab": tab}, ANN)["model"]["job"] is None)
    told = actions({"do": "look", "tab": tab}, ANN)["model"]
    assert told["tracked"] and not told["stale"] and told["trust"] == [90] * SCENE.frames
    assert len(told["strip"]) > 1
    assert pictures.thumbnail(session, 3)[:2] == b"\xff\xd8"


def test_who_waits_is_told_the_place_and_may_leave(desk: Desk, clip: Path) -> None:
    actions = Actions(desk)
    sessions = {who: marked(desk, who, clip) for who in (ANN, BOB, CID, "dan")}
    actions({"do": "track", "tab": sessions[ANN].id}, ANN)
    job = sessions[ANN].job
    until(lambda: job is not None and job.work == "follow")
    for place, who in enumerate((BOB, CID), 1):
        told = actions({"do": "track", "tab": sessions[who].id}, who)["model"]
        assert told["job"]["work"] == "queue" and told["job"]["place"] == place
    full = actions({"do": "track", "tab": sessions["dan"].id}, "dan")["model"]
    assert "queue is full" in full["notice"] and full["job"] is None
    assert sessions["dan"].job is None
    left = actions({"do": "cancel", "tab": sessions[BOB].id}, BOB)["model"]
    assert left["job"] is None
    told = actions({"do": "look", "tab": sessions[CID].id}, CID)["model"]
    assert told["job"]["place"] == 1
    second = marked(desk, CID, clip)
    with pytest.raises(QueueFull, match="as many jobs"):
        desk.start(second, lambda job: follow.track(second, desk.shelf.get({}), job))
    assert second.job is None


def test_cancel_ends_within_two_seconds_and_frees_all(desk: Desk, clip: Path) -> None:
    """Also where the engine never comes back from a frame; `-rP` tells how long it took."""
    actions = Actions(desk)
    session = marked(desk, ANN, clip)
    actions({"do": "track", "tab": session.id}, ANN)
    until(lambda: session.job is not None and session.job.work == "follow")
    began = time.monotonic()
    told = actions({"do": "cancel", "tab": session.id}, ANN)["model"]
    assert told["job"] is None or told["job"]["stopping"]
    until(lambda: session.job is None, 10)
    print(f"Cancel took {time.monotonic() - began:.2f} s")
    desk.wait(session, 2)
    assert not (session.folder / "masks.new").exists()
    assert session.notice == "" and not session.tracked
    actions({"do": "track", "tab": session.id}, ANN)  # the lane is free again
    until(lambda: session.job is not None and session.job.work == "follow")


def test_starting_over_in_mid_job_leaves_nothing(desk: Desk, clip: Path) -> None:
    actions = Actions(desk)
    session = marked(desk, ANN, clip)
    actions({"do": "track", "tab": session.id}, ANN)
    until(lambda: session.job is not None and session.job.work == "follow")
    assert actions({"do": "again", "tab": session.id}, ANN) == {"model": None}
    until(lambda: not session.folder.exists() and session.job is None)
    assert actions({"do": "look", "tab": session.id}, ANN)["gone"]
    for late in (lambda: pictures.thumbnail(session, 3), lambda: render.model(session)):
        with pytest.raises((InputError, OSError)):  # a picture that was asked for before
            late()
    assert not session.folder.exists()
    with pytest.raises(JobNotFound):
        desk.find(session.id, ANN)


def test_a_failure_becomes_a_sentence(desk: Desk, clip: Path) -> None:
    actions = Actions(desk)
    session = marked(desk, ANN, clip)
    assert session.clip is not None
    session.clip.path.write_bytes(b"damaged meanwhile")
    actions({"do": "track", "tab": session.id}, ANN)
    until(lambda: session.job is None)
    told = actions({"do": "look", "tab": session.id}, ANN)["model"]
    assert told["notice"] and str(desk.root) not in told["notice"]
    assert "source.mp4" not in told["notice"]


@pytest.mark.logs_errors
@pytest.mark.parametrize(
    ("error", "said"), [(ZeroDivisionError, "our side"), (MemoryError, "Memory ran out")]
)
def test_what_nobody_expected_is_logged_and_told_plainly(
    desk: Desk,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
    said: str,
) -> None:
    def broken(*_: object) -> Session:
        raise error("secret detail")

    actions = Actions(desk)
    session = marked(desk, ANN, clip)
    monkeypatch.setattr(marks, "undo", broken)
    told = actions({"do": "undo", "tab": session.id}, ANN)
    assert said in told["model"]["notice"] and "secret" not in json.dumps(told)
    assert "secret detail" in caplog.text


def test_an_older_answer_can_be_told_from_a_newer_one(desk: Desk, clip: Path) -> None:
    session = marked(desk, ANN, clip)
    serials = [render.model(session)["serial"] for _ in range(3)]
    assert serials == sorted(set(serials))


def test_of_each_doubtful_run_its_worst_frame_is_worth_a_look(desk: Desk, clip: Path) -> None:
    session = marked(desk, ANN, clip)
    session.followed = dict(session.answers)
    session.trust = [90] * session.need_clip().frames
    session.doubtful = (1, 2, 3, 6)
    session.trust[1:4], session.trust[6] = [40, 20, 30], 45
    told = render.model(session)
    assert told["doubtful"] == [2, 6]
    assert [item["frame"] for item in told["strip"] if item["doubtful"]] == [2, 6]


def test_what_is_not_here_is_told_with_where_to_fetch_it(desk: Desk, clip: Path) -> None:
    actions = Actions(desk)
    session = marked(desk, ANN, clip)
    actions({"do": "things", "tab": session.id, "what": "red car"}, ANN)
    until(lambda: session.job is None)
    assert session.notice.startswith("The weights of") and "settings" in session.notice
    told = actions({"do": "hello"}, ANN)["engines"]
    assert {e["stage"] for e in told} == {"segment", "track", "inpaint", "detect"}
    for engine in told:
        assert engine["licence"] and (engine["here"] or engine["size"]), engine
    assert [e["name"] for e in told if e["own"]] == ["builtin"] * 3


def test_settings_are_checked_and_kept(desk: Desk, clip: Path) -> None:
    actions = Actions(desk)
    tab = marked(desk, ANN, clip).id

    def ask(**told: object) -> dict[str, Any]:
        return dict(actions({"do": "settings", "tab": tab, **told}, ANN)["model"])

    wanted: dict[str, Any] = {"grow_px": 7, "feather_px": 0, "crf": 12, "part": [2, 5]}
    wanted |= {"memory_limit_mb": 900, "engines": {"inpaint": "builtin"}, "second_pass": "none"}
    boxed = wanted | {"grow_px": None, "second_pass": "box"}
    assert ask(**boxed)["settings"] == boxed
    kept = ask(**wanted)
    assert kept["settings"] == wanted and not kept["notice"]
    for wrong in (
        {"grow_px": "x"},
        {"grow_px": 1e9},
        {"grow_px": True},
        {"feather_px": -1},
        {"second_pass": "blob"},
        {"second_pass": ["box"]},
        {"second_pass": "box", "grow_px": 4},
        {"crf": 50},
        {"engines": {"track": "other"}},
        {"engines": {"track": 7}},
        {"engines": ["builtin"]},
        {"part": [3, 2]},
        {"part": [0, 9]},
        {"part": [-1, 3]},
        {"part": [0]},
        {"part": "02"},
        {"memory_limit_mb": 10},
        {"memory_limit_mb": "900"},
        {"memory_limit_mb": 10**9},
    ):
        refused = ask(**wrong)
        assert refused["notice"] and refused["settings"] == wanted, wrong


def test_engines_are_loaded_once_and_never_swapped(built_in: Engines) -> None:
    shelf = Shelf(None)
    first = shelf.get({})
    assert shelf.get({"track": "builtin"}) is first
    with pytest.raises(OptionError, match="no track engine called 'other'"):
        shelf.get({"track": "other"})
    other = Shelf(replace(built_in, names={**built_in.names, "inpaint": "mine"}))
    picked = other.get({"inpaint": "builtin"})
    assert picked.names["inpaint"] == "builtin" and picked.inpainter is not built_in.inpainter
    assert picked.tracker is built_in.tracker
    assert other.get({"inpaint": "builtin"}).inpainter is picked.inpainter
    stages = {choice.stage for choice in shelf.choices()}
    assert stages == {"segment", "track", "inpaint"}


def test_a_memory_limit_reaches_the_engines(built_in: Engines, tmp_path: Path) -> None:
    scene = clips.Scene(width=1280, height=720, frames=2)
    clip = clips.make(tmp_path / "large.mp4", scene).path
    shelf = Shelf(built_in)
    usual: Any = built_in.inpainter
    assert shelf.fitted({}, clip, None, ("track", "inpaint")) is built_in
    assert shelf.fitted({}, clip, 8000, ("inpaint",)).inpainter is usual
    small: Any = shelf.fitted({}, clip, 700, ("inpaint",)).inpainter
    assert small.options.memory_mb < usual.options.memory_mb
    assert shelf.get({}).inpainter is usual  # others are not lowered
    with pytest.raises(OptionError, match="300 MiB are too little for this clip"):
        shelf.fitted({}, clip, 300, ("inpaint",))


def test_a_removal_beyond_the_memory_limit_is_refused_before_it_begins(
    desk: Desk, tmp_path: Path
) -> None:
    scene = clips.Scene(width=1920, height=1080, frames=2)
    session = marked(desk, ANN, clips.make(tmp_path / "hd.mp4", scene).path)
    actions, tab = Actions(desk), session.id
    actions({"do": "settings", "tab": tab, "memory_limit_mb": 300}, ANN)
    session.followed = dict(session.answers)
    told = actions({"do": "remove", "tab": tab}, ANN)["model"]
    assert "too little for this clip" in told["notice"] and told["job"] is None


def test_strangers_get_less() -> None:
    ours = Limits()
    assert PUBLIC.upload_mb < ours.upload_mb and PUBLIC.keep_seconds < ours.keep_seconds
    assert PUBLIC.sessions_per_owner < ours.sessions_per_owner and not PUBLIC.fetch_weights
    for wrong in ({"upload_mb": 0}, {"waiting": -1}, {"keep_seconds": 0}):
        with pytest.raises(OptionError):
            Limits(**wrong)


def test_the_start_cleans_up_after_pages_that_were_killed(tmp_path: Path) -> None:
    """A page in another process lives until it is killed; one of this process is alive too."""
    dead, living, young, other = (
        tmp_path / f"inpainterz-page-{n}" for n in ("dead", "living", "young", "other")
    )
    for folder in (dead, living, young, other):
        folder.mkdir()
    (dead / "tab-1").mkdir()
    (dead / "tab-1" / "source.mp4").write_bytes(b"somebody's clip")
    (tmp_path / "inpainterz-page-link").symlink_to(living)
    code = (
        "import sys; from pathlib import Path; from inpainterz.ui.desk import Desk\n"
        "from inpainterz.ui.shelf import Shelf; desk = Desk(Path(sys.argv[1]), Shelf())\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(other)]
    desk = Desk(living, Shelf())
    try:
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as child:
            assert child.stdout is not None and child.stdout.readline() == "up\n"
            for folder in (dead, living, other):
                os.utime(folder, (1, 1))
            assert clean_up(tmp_path) == 1
            assert not dead.exists() and living.is_dir() and young.is_dir() and other.is_dir()
            child.kill()
        os.utime(other, (1, 1))
        assert clean_up(tmp_path) == 1
        assert not other.exists()
        assert desk.open(ANN).folder.is_dir()
    finally:
        desk.close()


def test_every_word_of_the_page_is_there_in_all_languages() -> None:
    """What the page says stands in words.json with its translations, and nothing else does."""
    table = json.loads((ASSETS / "words.json").read_text("utf-8"))
    known = set(table["words"])
    asked = set(
        re.findall(r'data-t(?:-label|-title|-hint)?="(\w+)"', (ASSETS / "page.html").read_text())
    )
    code = "".join(
        path.read_text("utf-8") for path in (*ASSETS.glob("*.js"), ASSETS.parent / "plain.py")
    )
    asked |= set(re.findall(r'say\(\s*"(\w+)"', code))
    asked |= {f"job_{w}" for w in get_args(Work)}
    built = {"job_", "step_", "next_", "engine_", "download_"}
    assert not asked - known - built
    spare = {w for w in known if not w.startswith(tuple(built)) and f'"{w}"' not in code}
    assert not spare - asked
    for key, told in [*table["words"].items(), *table["notices"].items()]:
        most = len(table["languages"]) - (key in table["notices"])
        assert len(told) == most and all(told), key
        gaps = [sorted(set(re.findall(r"{\d}", one))) for one in told]
        assert all(gap == gaps[0] for gap in gaps), key


def test_translated_sentences_are_still_said() -> None:
    table = json.loads((ASSETS / "words.json").read_text("utf-8"))["notices"]
    package = ASSETS.parent.parent
    said = " ".join(
        path.read_text("utf-8").lower()
        for room in ("ui", "jobs")
        for path in (package / room).rglob("*.py")
    )
    for begin in table:
        assert begin.rstrip(".").lower() in said, begin


@pytest.mark.parametrize(
    ("accept", "language"),
    [("", "en"), ("ko-KR,ko;q=0.9", "ko"), ("fr, ja;q=0.5", "ja"), ("zh", "zh"), (";;,", "en")],
)
def test_the_language_is_the_browsers(accept: str, language: str) -> None:
    assert words.wished(accept) == language
    assert words.say(language, "frame_of", 3, 9).count("9") == 1
    told = words.translate(language, "Nothing was found there. Click the middle")
    assert (told == "Nothing was found there. Click the middle") == (language == "en")


def test_users_text_never_becomes_html() -> None:
    for name in ("stage.js", "result.js", "page.js", "words.js"):
        code = (ASSETS / name).read_text("utf-8")
        assert "insertAdjacentHTML" not in code and "outerHTML" not in code
        for line in code.splitlines():
            if "innerHTML" in line:  # a drawing of ours, of which only the path is filled in
                assert line.strip().startswith("button.innerHTML = '<svg") and "+ path +" in line
    for name in ("page.html", "page.css", "page.js", "stage.js", "result.js", "words.js"):
        assert not re.search(r"https?://", (ASSETS / name).read_text("utf-8")), name


@pytest.mark.parametrize("auth", ["ann", "ann:", ":secret"])
def test_a_login_has_a_name_and_a_password(
    auth: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from inpainterz.cli import main

    monkeypatch.setattr("sys.argv", ["inpainterz", "serve", "--auth", auth])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "USER:PASSWORD" in told and "secret" not in told


def test_a_taken_port_is_told() -> None:
    pytest.importorskip("gradio")
    from inpainterz.ui.serve import check_port

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OptionError, match="cannot listen on"):
            check_port("127.0.0.1", taken.getsockname()[1])
