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

from inpainterz.video.reader import VideoReader

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
PATIENCE_MS = 120_000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("gradio", reason="gradio is not installed")

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
                "from inpainterz.ui.page import serve; "
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


class Tab:
    """A user's tab. Requests to anywhere else are refused and remembered."""

    def __init__(self, browser: Any, server: Server, **context: Any) -> None:
        self.foreign: list[str] = []
        self.errors: list[str] = []
        self.context = browser.new_context(accept_downloads=True, **context)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._home = server.address
        self.page.goto(server.address)
        self.page.wait_for_selector(".iz-drop")

    def _route(self, route: Any) -> None:
        if route.request.url.startswith((self._home, "data:", "blob:")):
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()

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

    tab.remove()
    assert tab.download("clean", tmp_path / "clean.mp4") == "square-clean.mp4"
    check_clean(tmp_path / "clean.mp4", SCENE)
    assert tab.download("masks", tmp_path / "masks.zip") == "square-masks.zip"
    page.wait_for_function(
        "() => [...document.querySelectorAll('video')].every(v => v.readyState >= 2)"
    )
    sizes = page.evaluate(
        "() => [...document.querySelectorAll('video')].map(v => [v.videoWidth, v.videoHeight])"
    )
    assert sizes == [[160, 120], [160, 120]]
    page.click("#another")
    page.wait_for_selector(".iz-drop")
    assert not list(server.temp.glob("inpainterz-page-*/tab-*/*"))
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

    tab.upload(clips.make(tmp_path / "long.mp4", clips.Scene(160, 120, 120, 3)).path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    tab.click(*centre(SCENE, 0), touch=True)
    page.click("#track")
    page.wait_for_selector(".iz-progress")
    page.click("#cancel")
    page.wait_for_selector("#cancel", state="hidden")
    page.wait_for_selector("#track:not([disabled])")
    assert page.is_disabled("#remove")
    assert page.locator(".iz-progress").count() == 0

    page.click("#track")  # and again, now that the cuts are known
    page.wait_for_selector(".iz-progress")
    page.wait_for_selector("#remove:not([disabled])")
    tab.close()


def test_a_job_ends_with_its_tab(browser: Any, server: Server, tmp_path: Path) -> None:
    tab = Tab(browser, server)
    tab.upload(clips.make(tmp_path / "long.mp4", clips.Scene(160, 120, 240, 3)).path)
    tab.click(*centre(SCENE, 0))
    tab.page.click("#track")
    tab.page.wait_for_selector(".iz-progress")
    running = server.temp.glob("inpainterz-page-*/tab-*/masks.new")
    assert len(list(running)) == 1
    tab.close()  # in the middle of the job, which must not go on for nobody
    deadline = time.monotonic() + 60
    while list(server.temp.glob("inpainterz-page-*/tab-*/masks.new")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_files_of_a_tab_and_nothing_else_are_served(server: Server) -> None:
    for path in ("/etc/passwd", str(Path(__file__)), str(server.temp), "app.py"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.address}/gradio_api/file={path}", timeout=20)
        assert refused.value.code in (403, 404)
        refused.value.close()
