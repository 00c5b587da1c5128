"""What strangers may try: every door of the page, with everything but what belongs there."""

from __future__ import annotations

import concurrent.futures
import gc
import inspect
import io
import itertools
import json
import resource
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest
from PIL import Image as PilImage

gradio = pytest.importorskip("gradio", reason="gradio is not installed")

from starlette.middleware import Middleware  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from inpainterz.ui.actions import Actions  # noqa: E402
from inpainterz.ui.desk import Desk, Limits  # noqa: E402
from inpainterz.ui.endpoints import ENDPOINTS  # noqa: E402
from inpainterz.ui.guard import Guard  # noqa: E402
from inpainterz.ui.owner import COOKIE  # noqa: E402
from inpainterz.ui.page import build_page  # noqa: E402
from inpainterz.ui.shelf import Shelf  # noqa: E402

# gradio makes event loops and never closes them; what it left is collected before others run
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SCENE = clips.Scene(width=64, height=48, frames=5, seed=3)
ANN, BOB = "a" * 32, "b" * 32
LIMITS = Limits(upload_mb=4, uploads_at_once=60, sessions_per_owner=4, free_disk_mb=1)

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    1e308,
    "",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "\x00\ud83d",
    "x" * 5000,
    [],
    [[[[]]]],
    {},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"a": {"b": [None]}},
)


@dataclass
class House:
    desk: Desk
    actions: Actions
    app: Any

    def visitor(self, owner: str = "", **headers: str) -> TestClient:
        cookies = {COOKIE: owner} if owner else {}
        return TestClient(self.app, cookies=cookies, headers=headers, raise_server_exceptions=True)


def build(root: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits, **login: str) -> House:
    desk = Desk(root, Shelf(), limits)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(desk.uploads))
    actions = Actions(desk)
    page = build_page(desk, actions)
    guard = Middleware(Guard, desk=desk, actions=actions, **login)
    page.queue()
    page.max_file_size = limits.upload_mb * 1_000_000
    app = gradio.routes.App.create_app(page, app_kwargs={"middleware": [guard]})
    return House(desk, actions, app)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with pytest.MonkeyPatch.context() as patch:
        made = build(tmp_path_factory.mktemp("house"), patch, LIMITS)
        yield made
        made.desk.close()
        del made
        gc.collect()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return clips.make(tmp_path_factory.mktemp("clip") / "square.mp4", SCENE).path.read_bytes()


def upload(visitor: TestClient, data: bytes, name: str = "square.mp4") -> str:
    answer = visitor.post("/iz/new/clip", params={"name": name}, content=data)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["model"]["tab"])


def told_nothing(text: str) -> None:
    assert "Traceback" not in text and "site-packages" not in text and "/tmp" not in text


def test_there_is_nothing_but_what_the_page_needs(house: House) -> None:
    visitor = house.visitor(ANN)
    for path in (
        "/gradio_api/file=/etc/passwd",
        f"/gradio_api/file={house.desk.root}/uploads",
        "/file=/etc/passwd",
        "/file/etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/gradio_api/run/plan",
        "/gradio_api/api/plan",
        "/gradio_api/runs",
        "/gradio_api/vibe-code",
        "/gradio_api/deep_link",
        "/gradio_api/stream/x/y/1/playlist.m3u8",
        "/gradio_api/dev/reload",
        "/monitoring",
        "/monitoring/summary",
        "/docs",
        "/openapi.json",
        "/login",
        "/logout",
        "/iz",
        "/iz/../../etc/passwd",
        "/.env",
    ):
        for answer in (visitor.get(path), visitor.post(path, json={})):
            assert answer.status_code in (404, 405), path
            told_nothing(answer.text)


def test_every_answer_keeps_strangers_out(house: House) -> None:
    visitor = house.visitor()
    for path in ("/", "/config", "/iz/x/y", "/nothing", "/theme.css"):
        headers = visitor.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    cookie = house.visitor().get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie
    safe = house.visitor(**{"x-forwarded-proto": "https"}).get("/").headers["set-cookie"]
    assert "SameSite=None; Secure; Partitioned" in safe


def test_only_the_designed_endpoints_are_public(house: House) -> None:
    told = house.visitor().get("/gradio_api/info").json()
    assert sorted(told["named_endpoints"]) == sorted(f"/{name}" for name in ENDPOINTS)
    assert not told["unnamed_endpoints"]
    assert 6 <= len(ENDPOINTS) <= 8
    for name, endpoint in told["named_endpoints"].items():
        assert endpoint["description"], name
        for parameter in endpoint["parameters"]:
            assert parameter["python_type"]["type"], (name, parameter)
    events = house.visitor().get("/config").json()["dependencies"]
    assert sum(e["api_visibility"] == "public" for e in events) == len(ENDPOINTS)
    assert {e["api_visibility"] for e in events} == {"public", "private"}


def test_no_function_index_breaks(house: House) -> None:
    visitor = house.visitor(ANN)
    bodies: list[Any] = list(HOSTILE)
    events = len(visitor.get("/config").json()["dependencies"])
    assert events > len(ENDPOINTS)  # those of the plain page too
    for index in (*range(-2, events + 3), "0", None, 10**9):
        for data in ([], None, "x", [HOSTILE[3]] * 7, [HOSTILE[13]] * 40):
            body = {"fn_index": index, "data": data, "session_hash": "s"}
            bodies += [body, {**body, "event_data": {"index": data}}]
    for path in ("/gradio_api/queue/join", "/gradio_api/component_server"):
        for body in bodies:
            answer = visitor.post(path, content=json.dumps(body).encode())
            assert answer.status_code < 500, (path, body, answer.text)
            told_nothing(answer.text)
    for name, data in itertools.product((*ENDPOINTS, "no", "%00"), HOSTILE):
        answer = visitor.post(f"/gradio_api/call/{name}", content=json.dumps({"data": data}))
        assert answer.status_code < 500, (name, data, answer.text)
        told_nothing(answer.text)
    for ids in (0, 1, 2, 99, -1, "x"):
        for function in ("act", "__init__", "postprocess", "get_config", "", None):
            body = {"session_hash": "s", "component_id": ids, "fn_name": function, "data": {}}
            answer = visitor.post("/gradio_api/component_server", json=body)
            assert answer.status_code < 500, (body, answer.text)
            assert function == "act" or answer.status_code >= 400


def test_no_endpoint_breaks(house: House, clip: bytes) -> None:
    """The functions behind the endpoints, called with anything: a sentence or an answer."""
    from inpainterz.ui.endpoints import Endpoints

    endpoints = Endpoints(house.desk)
    tab = upload(house.visitor(), clip)
    for name in ENDPOINTS:
        function = getattr(endpoints, name)
        for job, value in itertools.product((tab, "0" * 32), HOSTILE):
            calls = [(value,)] if name == "plan" else [(job,), (value,)]
            if name == "segment":
                calls = [(job, value, [[5, 5]]), (job, 0, value), (job, 0, [value], value, value)]
            if name == "start_removal":
                calls = [(job, value), (job, None, value), (job, None, 2, value, value)]
            for call in calls:
                try:
                    function(*call, request=None)
                except gradio.Error as error:
                    told_nothing(str(error.message))
                    assert "our side" not in str(error.message), (name, call)
    house.desk.discard(house.desk.find(tab, ""))


def test_no_action_breaks(house: House, clip: bytes) -> None:
    tab = upload(house.visitor(ANN), clip)
    session = house.desk.find(tab, ANN)
    names = [n for n in house.actions.names if n not in ("again", "example", "weights", "warm")]
    keys = ("frame", "at", "kind", "label", "name", "visible", "grow_px", "feather_px", "crf")
    for name, value in itertools.product((*names, *HOSTILE[:12]), HOSTILE):
        told = {"do": name, "tab": tab, **dict.fromkeys(keys, value), "engines": value}
        answer = house.actions(told, ANN)
        json.dumps(answer)
        shown = answer.get("notice") or (answer.get("model") or {}).get("notice", "")
        told_nothing(shown)
        assert "our side" not in shown, told
    for kind, at in itertools.product(("add", "box", "brush"), HOSTILE):
        told = {"do": "mark", "tab": tab, "kind": kind, "at": at, "radius_px": at}
        assert "our side" not in str(house.actions(told, ANN))
    for value in HOSTILE:
        assert house.actions(value, ANN).get("notice")
        answer = house.actions({"do": "seek", "tab": value}, ANN)
        assert answer.get("gone") or answer.get("notice")
        weights = house.actions({"do": "weights", "tab": tab, "weights": value}, ANN)
        assert "no such weights" in weights["model"]["notice"]
    assert session.job is None and len(session.marks) < 20


def test_no_event_of_the_plain_page_breaks(house: House, clip: bytes) -> None:
    """Called as the browser does, with anything: what is shown, one value for each component."""
    tab = upload(house.visitor(ANN), clip)
    cookie = f"{COOKIE}={ANN}".encode()
    scope = {"type": "http", "query_string": b"job=x", "client": ("127.0.0.1", 1), "path": "/"}
    asked = gradio.Request(Request({**scope, "headers": [(b"cookie", cookie)]}))
    events = [
        event
        for event in house.app.get_blocks().fns.values()
        if event.fn is not None and event.api_visibility == "private"
    ]
    assert len(events) > 8
    for event, value, held in itertools.product(events, HOSTILE, (tab, BOB)):
        if value and inspect.getclosurevars(event.fn).nonlocals.get("do") == "example":
            continue  # it takes nothing, and opens a clip
        given = {
            "held": held,
            "request": asked,
            "event": gradio.SelectData(None, {"index": value, "value": value}),
        }
        names = inspect.signature(event.fn).parameters
        shown = event.fn(*(given.get(name, value) for name in names))
        assert len(shown) == len(event.outputs)
        told_nothing(json.dumps(shown, default=str))
        assert "our side" not in json.dumps(shown, default=str), (event.fn, value)
    house.desk.sweep(float("inf"))


def test_other_peoples_jobs_are_not_there(house: House, clip: bytes) -> None:
    ann = house.visitor(ANN)
    tab = upload(ann, clip)
    for path in ("frame/0.jpg", "thumb/0.jpg"):
        assert ann.get(f"/iz/{tab}/{path}").headers["content-type"] == "image/jpeg"
    for stranger in (house.visitor(BOB), house.visitor(), house.visitor("A" * 32)):
        for path in ("frame/0.jpg", "thumb/0.jpg", "live.jpg", "get/clean", "get/before"):
            assert stranger.get(f"/iz/{tab}/{path}").status_code == 404
        for what in ("clip", "masks"):
            assert stranger.post(f"/iz/{tab}/{what}", content=b"x").status_code == 404
    for name in house.actions.names:
        if name in ("hello", "example"):
            continue
        assert house.actions({"do": name, "tab": tab}, BOB).get("gone"), name
    assert house.actions({"do": "hello", "tab": tab}, BOB)["gone"]
    for path in (
        "frame/5.jpg",
        "frame/-1.jpg",
        "frame/1.png",
        "frame/1e3.jpg",
        "get/source",
        "get/..%2fsource.mp4",
        "..%2f..%2fetc",
        "frame/" + "9" * 400 + ".jpg",
        "",
    ):
        answer = ann.get(f"/iz/{tab}/{path}")
        assert answer.status_code == 404, path
        told_nothing(answer.text)
    house.desk.discard(house.desk.find(tab, ANN))
    assert ann.get(f"/iz/{tab}/frame/0.jpg").status_code == 404


def test_another_page_cannot_ask(house: House, clip: bytes) -> None:
    evil = house.visitor(ANN, origin="https://evil.example")
    for path in ("/iz/new/clip", "/gradio_api/component_server", "/gradio_api/queue/join"):
        assert evil.post(path, content=clip).status_code == 403
    assert house.visitor(ANN, origin="null").post("/iz/new/clip").status_code == 403
    for site in ("cross-site", "same-site"):
        sly = house.visitor(ANN, **{"sec-fetch-site": site, "origin": "http://testserver"})
        assert sly.post("/iz/new/clip", content=clip).status_code == 403
    own = house.visitor(ANN, origin="http://testserver")
    house.desk.discard(house.desk.find(upload(own, clip), ANN))


def test_uploads_have_limits(house: House, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = house.visitor(ANN)
    large = b"\0" * 5_000_000
    assert visitor.post("/iz/new/clip", content=large).status_code == 413

    def trickle() -> Iterator[bytes]:  # says no length
        for _ in range(50):
            yield b"\0" * 100_000

    assert visitor.post("/iz/new/clip", content=trickle()).status_code == 413
    files = {"files": ("x.mp4", io.BytesIO(large))}
    assert visitor.post("/gradio_api/upload", files=files).status_code == 413
    assert visitor.post("/gradio_api/component_server", content=large).status_code == 413
    assert visitor.post("/gradio_api/queue/join", content=trickle()).status_code in (400, 413)
    assert visitor.post("/iz/new/clip", content=b"").status_code == 413
    for name in ("x", "../../x.mp4", "a\x00b.mp4", "x" * 3000, "<b>.mp4", "x.m3u8"):
        answer = visitor.post("/iz/new/clip", params={"name": name}, content=b"no clip" * 99)
        told_nothing(answer.text)
        assert answer.json()["model"]["notice"] and not answer.json()["model"].get("clip")
    assert not list(house.desk.uploads.glob("*/upload*"))
    monkeypatch.setattr("inpainterz.ui.files._ROOM_EVERY", 100_000)
    monkeypatch.setattr(house.desk, "limits", replace(LIMITS, upload_mb=9, free_disk_mb=10**9))
    assert visitor.post("/iz/new/clip", content=trickle()).status_code == 413
    monkeypatch.setattr(house.desk, "limits", replace(LIMITS, free_disk_mb=10**9))
    assert visitor.post("/iz/new/clip", content=clip).status_code == 413
    monkeypatch.setattr(house.desk, "limits", replace(LIMITS, uploads_at_once=1))
    assert visitor.post("/iz/new/clip", content=b"\0" * 999).status_code == 200


def test_one_user_does_not_fill_the_house(house: House, clip: bytes) -> None:
    visitor = house.visitor(BOB)
    tabs = [upload(visitor, clip) for _ in range(6)]
    left = [t for t in tabs if visitor.get(f"/iz/{t}/frame/0.jpg").status_code == 200]
    assert left == tabs[-LIMITS.sessions_per_owner :]
    for tab in left:
        house.desk.discard(house.desk.find(tab, BOB))


def test_what_is_left_alone_is_swept(house: House, clip: bytes) -> None:
    tab = upload(house.visitor(ANN), clip)
    session = house.desk.find(tab, ANN)
    session.touched += 1000.0  # later than any other
    house.desk.sweep(session.touched + LIMITS.keep_seconds - 1)
    assert session.folder.is_dir()
    assert house.desk.sweep(session.touched + LIMITS.keep_seconds + 1) >= 1
    assert not session.folder.exists()
    assert house.visitor(ANN).get(f"/iz/{tab}/frame/0.jpg").status_code == 404


def test_nothing_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: bytes
) -> None:
    house = build(tmp_path, monkeypatch, LIMITS, user="ann", password="pass:wörd")
    try:
        visitor = house.visitor()
        for path in ("/", "/config", "/iz/x/frame/0.jpg", "/gradio_api/info", "/assets/x.js"):
            answer = visitor.get(path)
            assert answer.status_code == 401 and "Basic" in answer.headers["www-authenticate"]
        assert visitor.post("/iz/new/clip", content=clip).status_code == 401
        for wrong in ("Basic", "Basic ???", "Basic YW5uOng=", "Bearer x"):
            assert visitor.get("/", headers={"authorization": wrong}).status_code == 401
        good = "Basic YW5uOnBhc3M6d8O2cmQ="
        assert visitor.get("/config", headers={"authorization": good}).status_code == 200
    finally:
        house.desk.close()


def test_fifty_uploads_at_once_do_not_mix(house: House, tmp_path: Path) -> None:
    """Five clips of different grey, ten owners each: everybody sees their own grey."""
    greys = (30, 75, 120, 165, 210)
    sources = []
    for grey in greys:
        import av

        path = tmp_path / f"{grey}.mp4"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(3):
                image = np.full((48, 64, 3), grey, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(stream.encode())
        sources.append(path.read_bytes())

    def one(number: int) -> int:
        owner = f"{number:032x}"
        visitor = house.visitor(owner)
        tab = upload(visitor, sources[number % 5], f"{number}.mp4")
        told = house.actions({"do": "look", "tab": tab}, owner)["model"]
        assert told["clip"]["name"] == f"{number}.mp4"
        picture = PilImage.open(io.BytesIO(visitor.get(f"/iz/{tab}/frame/2.jpg").content))
        house.desk.discard(house.desk.find(tab, owner))
        return round(float(np.asarray(picture.convert("L")).mean()))

    def all_at_once() -> None:
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            for number, seen in enumerate(pool.map(one, range(50))):
                assert abs(seen - greys[number % 5]) < 6

    house.desk.sweep(float("inf"))
    all_at_once()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    all_at_once()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 60_000  # kB: nothing of fifty more stays
    assert not list(house.desk.root.glob("tab-*")) and not list(house.desk.uploads.iterdir())
