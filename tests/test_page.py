"""The page in headless Chromium, as a user drives it: upload, click, track, remove, download."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest

from inpainterz.example import WALKER
from inpainterz.video.reader import VideoReader
from inpainterz.video.writer import VideoWriter

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 600_000 if os.environ.get("INPAINTERZ_TOUR") else 120_000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("gradio", reason="gradio is not installed")

PUBLIC = (
    "plan",
    "segment",
    "list_objects",
    "start_removal",
    "job_status",
    "get_result",
    "cancel",
)
"""Every endpoint that may be public; another one is a leak."""

SCENE = clips.Scene(width=160, height=120, frames=20, seed=3)
OTHER = clips.Scene(width=96, height=128, frames=12, seed=8)


@dataclass(frozen=True)
class Server:
    address: str
    temp: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page in a process of its own; when it is told to end it leaves no file behind."""
    temp = tmp_path_factory.mktemp("served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    log = temp.parent / "page.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from inpainterz.ui.serve import serve; "
                f"serve(port={port}, ready=lambda address: print('at', address, flush=True))",
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(temp)},
        )
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    with urllib.request.urlopen(address, timeout=5):
                        break
                except (urllib.error.URLError, OSError):
                    assert process.poll() is None, log.read_text("utf-8")
                    assert time.monotonic() < deadline, log.read_text("utf-8")
                    time.sleep(0.2)
            yield Server(address, temp)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
    told = log.read_text("utf-8")
    assert told.startswith(f"at {address}") and "Traceback" not in told, told
    assert not list(temp.glob("inpainterz-page-*"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


TOUR = Path(__file__).resolve().parent.parent / "docs" / "tour"
SERIOUS = ("serious", "critical")


class Tab:
    """A user's tab. Requests to anywhere else are refused and remembered."""

    def __init__(self, browser: Any, server: Server, *, script: str = "", **context: Any) -> None:
        self.foreign: list[str] = []
        self.errors: list[str] = []
        self.context = browser.new_context(accept_downloads=True, **context)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.route("**/*", self._route)
        if script:
            self.context.add_init_script(script)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._home = server.address
        self.page.goto(server.address)
        self.page.wait_for_selector(".iz[data-ready]")

    def _route(self, route: Any) -> None:
        if route.request.url.startswith((self._home, "data:", "blob:")):
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()

    def check(self, picture: str = "") -> None:
        """No serious finding of axe on what is shown now; and a picture for the tour."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        found = axe.Axe().run(self.page).response["violations"]
        told = [
            (v["id"], [n["html"][:120] for n in v["nodes"]])
            for v in found
            if v["impact"] in SERIOUS
        ]
        assert not told
        if picture and os.environ.get("INPAINTERZ_TOUR"):
            self.page.mouse.move(0, 0)
            TOUR.mkdir(exist_ok=True)
            path = TOUR / f"{picture}.jpg"
            self.page.screenshot(path=path, type="jpeg", quality=85, full_page=True)

    def upload(self, path: Path) -> None:
        self.page.set_input_files("#clip-file", str(path))
        self.page.wait_for_selector('.iz-stage[data-frame="0"]')

    def click(self, x: float, y: float, *, touch: bool = False) -> None:
        """Click the frame at fractions of its width and height, and wait for the answer."""
        before = self.marks()
        box = self.page.locator(".iz-view canvas").bounding_box()
        at = box["x"] + x * box["width"], box["y"] + y * box["height"]
        (self.page.touchscreen.tap if touch else self.page.mouse.click)(*at)
        self.page.wait_for_function(
            "n => Number(document.querySelector('.iz-stage').dataset.marks) > n", arg=before
        )

    def marks(self) -> int:
        """How many clicks the frame in view shows as answered."""
        return int(self.page.get_attribute(".iz-stage", "data-marks") or 0)

    def tinted(self) -> int:
        """How many pixels of the canvas are red: the colour of the first object."""
        return int(
            self.page.evaluate(
                """() => {
                const canvas = document.querySelector('.iz-view canvas');
                const data = canvas.getContext('2d')
                    .getImageData(0, 0, canvas.width, canvas.height).data;
                let count = 0;
                for (let i = 0; i < data.length; i += 4) {
                    if (data[i] > 215 && data[i + 1] < 90 && data[i + 2] < 110) count += 1;
                }
                return count;
            }"""
            )
        )

    def track(self) -> None:
        self.page.click("#track")
        self.page.wait_for_selector("#remove:not([disabled])")

    def remove(self) -> None:
        self.page.click("#remove")
        self.page.wait_for_selector("#download-clean")

    def download(self, what: str, target: Path) -> str:
        with self.page.expect_download() as waiting:
            self.page.click(f"#download-{what}")
        waiting.value.save_as(target)
        return str(waiting.value.suggested_filename)

    def close(self) -> None:
        self.context.close()
        assert self.foreign == []
        assert self.errors == []


def centre(scene: clips.Scene, index: int) -> tuple[float, float]:
    ys, xs = np.nonzero(scene.mask(index))
    return (float(xs.mean()) + 0.5) / scene.width, (float(ys.mean()) + 0.5) / scene.height


def check_clean(path: Path, scene: clips.Scene) -> None:
    """Frames, size, sound, and the plate where the square was."""
    with VideoReader(path) as clean:
        assert len(clean) == scene.frames
        assert clean.size == (scene.height, scene.width)
        assert [s.kind for s in clean.info.streams] == ["video", "audio"]
        for frame in clean.frames():
            hole = scene.mask(frame.index)
            error = frame.image[hole].astype(float) - scene.plate(frame.index)[hole]
            psnr = 10 * np.log10(255**2 / np.mean(error**2))
            assert psnr > 24, (frame.index, psnr)


def test_from_the_upload_to_the_clean_clip(browser: Any, server: Server, tmp_path: Path) -> None:
    source = clips.make(tmp_path / "square.mp4", SCENE)
    tab = Tab(browser, server, viewport={"width": 1280, "height": 900})
    page = tab.page
    tab.upload(source.path)
    facts = page.inner_text("#facts")
    for fact in ("square.mp4", "160 × 120", "25 fps", "20 frames", "0.8 s", "with sound"):
        assert fact in facts
    assert page.is_disabled("#track") and page.is_disabled("#remove")
    assert tab.tinted() < 20

    page.click("#play-clip")  # the clip is seen at once, as it is
    page.wait_for_function("() => document.querySelector('.iz-clip-film').currentTime > 0.1")
    page.click("#play-clip")
    page.wait_for_selector(".iz-clip-film", state="hidden")
    page.wait_for_selector('.iz-stage:not([data-frame="0"])')  # where the player stood
    page.focus(".iz-view")
    page.keyboard.press("Home")
    page.wait_for_selector('.iz-stage[data-frame="0"]')

    tab.click(*centre(SCENE, 0))
    assert tab.tinted() > 100  # the outline
    page.click('[data-edit="undo"]')
    page.wait_for_selector("#track[disabled]")
    assert tab.tinted() < 20
    page.click('[data-edit="redo"]')
    page.wait_for_selector("#track:not([disabled])")

    tab.track()
    page.locator(".iz-rail input").focus()
    page.keyboard.press("End")
    page.wait_for_selector(f'.iz-stage[data-frame="{SCENE.frames - 1}"]')
    assert tab.tinted() > 100  # the overlay has moved along
    assert page.inner_text(".iz-time output") == f"Frame {SCENE.frames} of {SCENE.frames}"

    page.click("#tab-brush")  # a frame is fixed, and only what it touches is followed again
    tab.click(*centre(SCENE, SCENE.frames - 1))
    page.wait_for_selector("#remove[disabled]")
    tab.track()
    page.click("#preview")
    page.wait_for_selector(".iz-trials video")
    assert tab.tinted() > 100
    page.click('.iz-strip button[data-frame="0"]')  # the filmstrip
    page.wait_for_selector('.iz-stage[data-frame="0"]')

    tab.remove()
    assert tab.download("clean", tmp_path / "clean.mp4") == "square-clean.mp4"
    check_clean(tmp_path / "clean.mp4", SCENE)
    assert tab.download("masks", tmp_path / "masks.zip") == "square-masks.zip"
    assert tab.download("report", tmp_path / "report.json") == "square-report.json"
    films = "[...document.querySelectorAll('.iz-films video')]"
    for mode in ("wipe", "map"):
        page.click(f'button[data-mode="{mode}"]')
        page.wait_for_function(f"() => {films}.every(v => v.readyState >= 2)")
        assert page.evaluate(f"() => {films}.map(v => [v.videoWidth, v.videoHeight])") == [
            [160, 120],
            [160, 120],
        ]
    page.evaluate(
        "() => { const bar = document.querySelector('.iz-seek'); bar.value = 500;"
        " bar.dispatchEvent(new Event('input')); }"
    )
    page.wait_for_function(f"() => {films}.every(v => Math.abs(v.currentTime - 0.4) < 0.05)")

    page.reload()  # the address brings it back
    page.wait_for_selector("#download-clean")
    page.click("#another")
    page.wait_for_selector(".iz-drop")
    assert "job=" not in page.url
    assert not list(server.temp.glob("inpainterz-page-*/tab-*"))
    tab.close()


def test_the_tour(browser: Any, server: Server, street: Path, tmp_path: Path) -> None:
    """Every screen on real footage, without a serious finding of axe.

    With INPAINTERZ_TOUR=1 the pictures of docs/tour.md are made anew, of the whole clip.
    """
    stop = 55 if os.environ.get("INPAINTERZ_TOUR") else 12
    source = tmp_path / "walker.mp4"
    with (
        VideoReader(street) as video,
        VideoWriter(source, like=video, start=0, stop=stop) as writer,
    ):
        for frame in video.frames(0, stop):
            writer.write(frame, np.zeros(video.size, np.bool_))
        height, width = video.size
    tab = Tab(browser, server, viewport={"width": 1200, "height": 760})
    page = tab.page
    tab.check("1-clip")
    tab.upload(source)
    page.focus(".iz-view")
    for index, prompt in WALKER.items():
        if index >= stop:
            continue
        for _ in range(index - int(page.get_attribute(".iz-stage", "data-frame"))):
            page.keyboard.press("ArrowRight")
        page.wait_for_selector(f'.iz-stage[data-frame="{index}"]')
        for point in prompt[1].points:
            tab.click(float(point[0]) / width, float(point[1]) / height)
            page.focus(".iz-view")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('.iz-stage[data-frame="1"]')
    tab.check("2-select")
    page.click("#settings summary")
    for way in ("brush", "things", "import"):
        page.click(f"#tab-{way}")
        tab.check()
    page.click("#tab-click")
    page.click("#settings summary")
    page.click("#track")
    page.wait_for_selector(".iz-progress")
    if stop > 20:  # for the picture, where there is time
        page.wait_for_selector('.iz-stage[data-frame=""]')  # the newest picture is on show
        page.wait_for_function(
            "() => document.querySelector('.iz-progress').getAttribute('aria-valuenow') > 20"
        )
    tab.check("3-follow")
    page.wait_for_selector("#remove:not([disabled])")
    page.wait_for_selector(".iz-strip img")
    page.wait_for_load_state("networkidle")
    tab.check("4-followed")
    tab.remove()
    page.evaluate(
        "() => { const bar = document.querySelector('.iz-seek'); bar.value = 400;"
        " bar.dispatchEvent(new Event('input')); }"
    )
    page.wait_for_function("() => document.querySelector('.before video').readyState >= 2")
    page.wait_for_timeout(300)
    tab.check("5-result")
    page.click('button[data-mode="map"]')
    page.wait_for_function("() => document.querySelector('.before video').readyState >= 2")
    page.wait_for_timeout(300)
    tab.check("6-map")
    tab.close()


def test_two_tabs_do_not_mix(browser: Any, server: Server, tmp_path: Path) -> None:
    scenes = {"one.mp4": SCENE, "two.mp4": OTHER}
    tabs = {name: Tab(browser, server) for name in scenes}
    for name, tab in tabs.items():
        tab.upload(clips.make(tmp_path / name, scenes[name]).path)
    for name, tab in tabs.items():
        tab.click(*centre(scenes[name], 0))
    for tab in tabs.values():  # both jobs wait for the same engine
        tab.page.click("#track")
    for tab in tabs.values():
        tab.page.wait_for_selector("#remove:not([disabled])")
        tab.page.click("#remove")
    for name, tab in tabs.items():
        tab.page.wait_for_selector("#download-clean")
        target = tmp_path / f"clean-{name}"
        assert tab.download("clean", target) == name.replace(".mp4", "-clean.mp4")
        check_clean(target, scenes[name])
        tab.close()


def test_on_a_phone_a_bad_file_and_a_cancelled_job(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    """How long Cancel takes is told (`-rP`), not held against a busy machine."""
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video" * 100)
    phone = {"width": 390, "height": 844}
    tab = Tab(browser, server, viewport=phone, has_touch=True, is_mobile=True)
    page = tab.page
    page.set_input_files("#clip-file", str(bad))
    page.wait_for_selector("#clip-status .wrong")
    told = page.inner_text("#clip-status .wrong")
    assert "bad.mp4" in told and "is not a video" in told
    assert "Traceback" not in page.content() and str(server.temp) not in page.content()

    name = "a clip whose name is longer than a phone is wide.mp4"
    tab.upload(clips.make(tmp_path / name, clips.Scene(160, 120, 70, 3)).path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    right = "[...document.querySelectorAll('.iz-side *')].map(e => e.getBoundingClientRect().right)"
    assert page.evaluate(f"Math.max(...{right})") <= 390
    tab.check()
    tab.click(*centre(SCENE, 0), touch=True)
    page.click("#track")
    page.wait_for_selector(".iz-progress")
    page.wait_for_function("() => document.querySelector('.iz-progress small').textContent.trim()")
    began = time.monotonic()
    page.click("#cancel")
    page.wait_for_selector("#cancel", state="hidden")
    print(f"Cancel took {time.monotonic() - began:.2f} s")
    page.wait_for_selector("#track:not([disabled])")
    assert page.is_disabled("#remove")
    assert page.locator(".iz-progress").count() == 0
    assert not running(server)

    page.click("#track")  # and again, now that the cuts are known
    page.wait_for_selector(".iz-progress")
    page.wait_for_selector("#remove:not([disabled])")
    tab.close()


def running(server: Server) -> list[Path]:
    """What is being followed."""
    return list(server.temp.glob("inpainterz-page-*/tab-*/masks.new"))


def test_a_job_survives_a_reload_and_belongs_to_one(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    tab = Tab(browser, server)
    tab.upload(clips.make(tmp_path / "long.mp4", clips.Scene(160, 120, 70, 3)).path)
    tab.click(*centre(SCENE, 0))
    tab.page.click("#track")
    tab.page.wait_for_selector(".iz-progress")
    address = tab.page.url
    assert "?job=" in address
    tab.page.goto("about:blank")  # nobody looks
    stranger = Tab(browser, server)
    stranger.page.goto(address)
    stranger.page.wait_for_selector("#clip-status .wrong")
    assert "no such job" in stranger.page.inner_text("#clip-status")
    stranger.close()
    tab.page.goto(address)
    tab.page.wait_for_selector(".iz-progress, #remove:not([disabled])")
    tab.page.wait_for_selector("#remove:not([disabled])")
    tab.page.click("#again")
    tab.page.wait_for_selector(".iz-drop")
    tab.close()


def test_the_plain_page_where_there_is_no_canvas(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    """From the page that cannot draw to Gradio's own image, by a link, and to the clean clip."""
    tab = Tab(
        browser,
        server,
        locale="ja-JP",
        script="HTMLCanvasElement.prototype.getContext = () => null;",
    )
    page = tab.page
    tab.upload(clips.make(tmp_path / "square.mp4", SCENE).path)
    page.click(".iz-nocanvas a")
    still = page.locator("#iz-still img")
    still.wait_for()
    assert "?job=" in page.url and "/simple" in page.url
    tab.check()
    box = still.bounding_box()
    shown = min(box["width"] / SCENE.width, box["height"] / SCENE.height)  # fitted, in the middle
    x, y = centre(SCENE, 0)
    page.mouse.click(
        box["x"] + box["width"] / 2 + (x - 0.5) * SCENE.width * shown,
        box["y"] + box["height"] / 2 + (y - 0.5) * SCENE.height * shown,
    )
    page.click('button:has-text("追跡"):not([disabled])')
    page.click('button:has-text("除去"):not([disabled])')
    page.wait_for_selector(".iz-plain-files a")
    with page.expect_download() as waiting:
        page.click(".iz-plain-files a")
    waiting.value.save_as(tmp_path / "clean.mp4")
    check_clean(tmp_path / "clean.mp4", SCENE)
    tab.close()


def test_by_keyboard_in_korean_and_dark(browser: Any, server: Server, tmp_path: Path) -> None:
    tab = Tab(browser, server, locale="ko-KR", color_scheme="dark")
    page = tab.page
    assert page.evaluate("document.documentElement.lang") == "ko"
    assert page.inner_text("#example") == "영상이 없나요? 예제를 사용해 보세요"
    tab.upload(clips.make(tmp_path / "square.mp4", SCENE).path)
    page.focus(".iz-view")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('.iz-stage[data-frame="1"]')
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector('.iz-stage[data-frame="0"]')
    x, y = centre(SCENE, 0)
    across, down = ("d" if x > 0.5 else "a"), ("s" if y > 0.5 else "w")
    for _ in range(round(abs(x - 0.5) * 100)):  # the cross starts in the middle
        page.keyboard.press(across)
    for _ in range(round(abs(y - 0.5) * 75)):
        page.keyboard.press(down)
    page.keyboard.press("Enter")
    page.wait_for_selector('.iz-stage[data-marks="1"]')
    assert tab.tinted() > 100
    tab.check()
    page.keyboard.press("+")
    assert float(page.get_attribute(".iz-view", "data-zoom")) > 1.5
    page.keyboard.press("Control+z")
    page.wait_for_selector('.iz-stage[data-marks="0"]')
    page.click("#tab-brush")
    page.keyboard.press("Tab")
    page.focus(".iz-view")
    page.keyboard.press("Enter")  # a dab where the cross is
    page.wait_for_selector("#track:not([disabled])")
    tab.close()


def test_an_assistant_finds_the_endpoints_and_nothing_else(tmp_path: Path) -> None:
    """The tools of MCP, in a process of its own as gradio keeps its server for good."""
    pytest.importorskip("mcp", reason="mcp is not installed")
    code = """
import asyncio, sys
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from inpainterz.ui.serve import serve

async def ask(address):
    async with streamablehttp_client(address + "gradio_api/mcp/") as (read, write, _):
        async with ClientSession(read, write) as client:
            await client.initialize()
            print(*sorted(tool.name for tool in (await client.list_tools()).tools))

def ready(address):
    asyncio.run(ask(address))
    raise KeyboardInterrupt

try:
    serve(port=int(sys.argv[1]), mcp=True, ready=ready)
except KeyboardInterrupt:
    pass
"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(port)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.stdout.splitlines()[-1:] == [" ".join(sorted(PUBLIC))], done.stderr


def test_the_page_begins_without_a_network() -> None:
    """What answers first is light: the networks' packages are loaded when one is chosen."""
    code = (
        "import sys; from inpainterz.ui.page import build_page;"
        "print(*({'torch', 'torchvision', 'transformers', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_program_removes_through_the_endpoints(server: Server, tmp_path: Path) -> None:
    gradio_client = pytest.importorskip("gradio_client")
    source = clips.make(tmp_path / "square.mp4", SCENE).path
    client = gradio_client.Client(server.address, verbose=False, download_files=str(tmp_path))
    try:
        public = client.view_api(return_format="dict", print_info=False)
        assert sorted(public["named_endpoints"]) == sorted(f"/{name}" for name in PUBLIC)
        assert not public["unnamed_endpoints"]
        planned = client.predict(gradio_client.handle_file(source), api_name="/plan")
        job = planned["job"]
        assert (planned["width"], planned["frames"], planned["sound"]) == (160, 20, True)
        assert planned["estimate"]["seconds"] > 0 and planned["estimate"]["memory_mb"] > 0
        x, y = centre(SCENE, 0)
        found = client.predict(job, 0, [[x * 160, y * 120]], api_name="/segment")
        assert found["area_px"] > 100 and found["mask"].startswith("data:image/png;base64,")
        listed = client.predict(job, api_name="/list_objects")
        assert [o["object_id"] for o in listed] == [1] and not listed[0]["followed"]
        with pytest.raises(gradio_client.exceptions.AppError, match="no result yet"):
            client.predict(job, api_name="/get_result")
        started = client.predict(job, api_name="/start_removal")
        assert started["state"] in ("waiting", "running")
        stopped = client.predict(job, api_name="/cancel")
        assert stopped["state"] == "idle"
        client.predict(job, api_name="/start_removal")
        deadline = time.monotonic() + 120
        while (status := client.predict(job, api_name="/job_status"))["state"] != "done":
            assert status["state"] in ("waiting", "running"), status
            assert time.monotonic() < deadline
            time.sleep(0.3)
        files = client.predict(job, api_name="/get_result")["files"]
        with urllib.request.urlopen(server.address + files["clean"], timeout=30) as got:
            (tmp_path / "clean.mp4").write_bytes(got.read())
        check_clean(tmp_path / "clean.mp4", SCENE)
        for unknown in ("0" * 32, "", job[:-1] + ("0" if job[-1] != "0" else "1")):
            for name in ("list_objects", "job_status", "get_result", "cancel", "start_removal"):
                with pytest.raises(gradio_client.exceptions.AppError, match="no such job"):
                    client.predict(unknown, api_name=f"/{name}")
    finally:
        client.close()
