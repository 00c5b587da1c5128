"""Lanes: fair order, limits, cancelling, owners, and what is left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inpainterz.errors import InputError, JobNotFound, OptionError, QueueFull
from inpainterz.jobs import lane
from inpainterz.jobs.lane import Lanes, Limits, Ticket
from inpainterz.types import Step

ANN, BOB, CID = "ann-7f", "bob-91", "cid-02"


@pytest.fixture
def lanes(tmp_path: Path) -> Iterator[Lanes]:
    with Lanes(tmp_path / "jobs") as made:
        yield made


class Gate:
    """Work that begins and ends when the test says so."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name, self.log = name, log
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, ticket: Ticket) -> str:
        if self.log is not None:
            self.log.append(self.name)
        self.begun.set()
        while not self.go.wait(0.005):
            ticket.check()
        return f"result of {self.name}"


def test_a_job_goes_through_its_states_and_shows_how_far_it_is(lanes: Lanes) -> None:
    halfway, go = threading.Event(), threading.Event()

    def work(ticket: Ticket) -> str:
        ticket.step(Step("track", 3, 10))
        ticket.show(b"jpeg", 17)
        halfway.set()
        go.wait(5)
        (ticket.folder / "clean.mp4").write_bytes(b"clip")
        return "the result"

    job = lanes.submit(ANN, work, title="The walker")
    assert halfway.wait(5)
    status = lanes.status(job, ANN)
    assert (status.state, status.stage, status.done, status.total) == ("running", "track", 3, 10)
    assert (status.title, status.frame, status.pictures) == ("The walker", 17, 1)
    assert lanes.picture(job, ANN) == b"jpeg"
    assert status.eta_seconds is not None
    with pytest.raises(JobNotFound, match="no result"):
        lanes.result(job, ANN)
    go.set()
    assert lanes.wait(job, ANN, 5).state == "done"
    assert lanes.result(job, ANN) == "the result"
    folder = lanes.folder(job, ANN)
    assert (folder / "clean.mp4").read_bytes() == b"clip"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    lanes.forget(job, ANN)
    assert not folder.exists()
    with pytest.raises(JobNotFound):
        lanes.status(job, ANN)


def test_owners_take_turns_and_see_their_place(lanes: Lanes) -> None:
    log: list[str] = []
    work = {name: Gate(name, log) for name in ("a1", "a2", "a3", "b1", "b2", "c1")}
    owners = {"a": ANN, "b": BOB, "c": CID}
    jobs = {name: lanes.submit(owners[name[0]], gate) for name, gate in work.items()}
    assert work["a1"].begun.wait(5)
    places = {n: lanes.status(j, owners[n[0]]).place for n, j in jobs.items()}
    assert places == {"a1": None, "b1": 1, "c1": 2, "a2": 3, "b2": 4, "a3": 5}
    assert lanes.status(jobs["a3"], ANN).waiting == 5
    for gate in work.values():
        gate.go.set()
    for name, job in jobs.items():
        assert lanes.wait(job, owners[name[0]], 5).state == "done"
    assert log == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_one_owner_holds_one_lane_while_others_wait(tmp_path: Path) -> None:
    with Lanes(tmp_path, devices=("cpu", "cuda:0")) as lanes:
        first, second, other = Gate(), Gate(), Gate()
        lanes.submit(ANN, first, device="cpu")
        assert first.begun.wait(5)
        waits = lanes.submit(ANN, second, device="cuda:0")
        runs = lanes.submit(BOB, other, device="cuda:0")  # asked later, but Ann has a lane already
        assert other.begun.wait(5)
        assert lanes.status(waits, ANN).state == "waiting"
        assert lanes.status(runs, BOB).state == "running"
        for gate in (first, second, other):
            gate.go.set()
        assert lanes.wait(waits, ANN, 5).state == "done"
        with pytest.raises(OptionError, match="no lane"):
            lanes.submit(ANN, first, device="tpu")


def test_the_queue_is_refused_politely_when_it_is_full(tmp_path: Path) -> None:
    limits = Limits(waiting_per_owner=2, waiting_total=3)
    with Lanes(tmp_path, limits=limits) as lanes:
        gate = Gate()
        running = lanes.submit(ANN, gate)
        assert gate.begun.wait(5)
        waiting = [lanes.submit(ANN, Gate()) for _ in range(2)]
        with pytest.raises(QueueFull, match="you have as many jobs waiting"):
            lanes.submit(ANN, Gate())
        lanes.submit(BOB, Gate())
        with pytest.raises(QueueFull, match="the queue is full"):
            lanes.submit(CID, Gate())
        assert lanes.cancel(waiting[0], ANN).state == "cancelled"
        lanes.submit(CID, Gate())  # there is a place again
        assert {s.id for s in lanes.jobs(ANN)} == {running, *waiting}


def test_cancelling_ends_work_between_two_steps(lanes: Lanes) -> None:
    closed = threading.Event()
    begun = threading.Event()

    def work(ticket: Ticket) -> None:
        try:
            (ticket.folder / "half.mp4").write_bytes(b"half")
            (ticket.folder / "masks").mkdir()
            for i in range(10**6):
                ticket.step(Step("inpaint", i, None))
                begun.set()
                time.sleep(0.005)
        finally:
            closed.set()

    job = lanes.submit(ANN, work)
    assert begun.wait(5)
    folder = lanes.folder(job, ANN)
    assert lanes.cancel(job, ANN).cancelling
    assert lanes.wait(job, ANN, 5).state == "cancelled"
    assert closed.is_set()
    assert list(folder.iterdir()) == []


def test_cancelling_ends_work_that_never_looks(lanes: Lanes) -> None:
    begun, closed = threading.Event(), threading.Event()

    def work(ticket: Ticket) -> None:
        try:
            begun.set()
            total = 0
            while True:
                total += sum(range(1000))
        except Exception:  # what is caught here must not keep it alive
            raise AssertionError from None
        finally:
            closed.set()

    job = lanes.submit(ANN, work)
    assert begun.wait(5)
    lanes.cancel(job, ANN)
    assert lanes.wait(job, ANN, 5).state == "cancelled"
    assert closed.is_set()
    after = lanes.submit(ANN, lambda ticket: "works")  # the lane is free and well
    assert lanes.wait(after, ANN, 5).state == "done"


def test_a_job_goes_on_when_nobody_watches(lanes: Lanes) -> None:
    gate = Gate("walker")
    job = lanes.submit(ANN, gate)
    watcher = lanes.watch(job, ANN, every=0.01)
    assert next(watcher).state in ("waiting", "running")
    watcher.close()  # type: ignore[attr-defined]
    assert gate.begun.wait(5)
    assert lanes.status(job, ANN).state == "running"
    gate.go.set()
    seen = list(lanes.watch(job, ANN, every=0.01))  # the same address attaches again
    assert seen[-1].state == "done"
    assert lanes.result(job, ANN) == "result of walker"


def test_another_owners_job_is_no_job(lanes: Lanes) -> None:
    gate = Gate()
    job = lanes.submit(ANN, gate)
    assert gate.begun.wait(5)
    asked = []
    for ask in (
        lanes.status,
        lanes.picture,
        lanes.result,
        lanes.cancel,
        lanes.forget,
        lanes.folder,
    ):
        for name in (job, "0" * 32, "", None, 3, "../" + job):
            for owner in (BOB, "", None):
                with pytest.raises(JobNotFound) as caught:
                    ask(name, owner)  # type: ignore[arg-type]
                asked.append(str(caught.value))
    assert len(set(asked)) == 1  # the answer does not tell whether there is such a job
    assert lanes.jobs(BOB) == []
    assert lanes.status(job, ANN).state == "running"
    assert job not in str(lanes.folder(job, ANN))
    gate.go.set()


@pytest.mark.logs_errors
def test_a_failure_is_a_sentence_and_frees_the_lane(lanes: Lanes) -> None:
    def wrong(ticket: Ticket) -> None:
        raise InputError("the clip is no clip", "Take another")

    def broken(ticket: Ticket) -> None:
        raise ZeroDivisionError("secret path /home/x")

    def full(ticket: Ticket) -> None:
        raise MemoryError

    sentences = []
    for work in (wrong, broken, full):
        job = lanes.submit(ANN, work)
        status = lanes.wait(job, ANN, 5)
        assert status.state == "failed"
        sentences.append(status.sentence)
    assert sentences[0] == "the clip is no clip. Take another."
    assert "secret" not in sentences[1]
    assert "memory" in sentences[2]


def test_results_are_kept_for_a_limited_time(tmp_path: Path) -> None:
    now = [100.0]
    with Lanes(tmp_path, limits=Limits(keep_seconds=60), clock=lambda: now[0]) as lanes:
        job = lanes.submit(ANN, lambda ticket: 1)
        lanes.wait(job, ANN, 5)
        folder = lanes.folder(job, ANN)
        now[0] += 59
        assert lanes.sweep() == 0
        now[0] += 2
        assert lanes.sweep() == 1
        assert not folder.exists()
        with pytest.raises(JobNotFound):
            lanes.status(job, ANN)


def test_a_user_who_leaves_leaves_nothing(lanes: Lanes) -> None:
    gate = Gate()
    jobs = [lanes.submit(ANN, gate), lanes.submit(ANN, Gate())]
    assert gate.begun.wait(5)
    other = lanes.submit(BOB, Gate("b"))
    folders = [lanes.folder(j, ANN) for j in jobs]
    lanes.leave(ANN)
    assert lanes.jobs(ANN) == []
    for _ in range(400):
        lanes.sweep()
        if not any(f.exists() for f in folders):
            break
        time.sleep(0.01)
    assert not any(f.exists() for f in folders)
    assert lanes.status(other, BOB).state in ("waiting", "running")


def test_the_start_cleans_up_after_the_dead_and_leaves_the_living(tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from inpainterz.jobs.lane import Lanes\n"
        "lanes = Lanes(Path(sys.argv[1])); print('up', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None and child.stdout.readline() == "up\n"
        (theirs,) = tmp_path.glob("run-*")
        with Lanes(tmp_path):
            assert theirs.is_dir()
            assert len(list(tmp_path.glob("run-*"))) == 2
        child.kill()
    assert theirs.is_dir()
    outside = tmp_path / "kept.txt"
    outside.write_text("not ours")
    assert lane.clean_up(tmp_path) == 1
    assert not theirs.exists()
    assert outside.exists()


def test_closing_ends_everything(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path)
    gate = Gate()
    lanes.submit(ANN, gate)
    lanes.submit(BOB, Gate())
    assert gate.begun.wait(5)
    lanes.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("lane-")]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OptionError, match="closed"):
        lanes.submit(ANN, gate)


def test_what_is_expected_of_the_stages_gives_the_time_left(tmp_path: Path) -> None:
    now = [0.0]
    told, go = threading.Event(), threading.Event()

    def work(ticket: Ticket) -> None:
        ticket.expect({"track": 10.0, "inpaint": 40.0, "write": 5.0})
        ticket.step(Step("track", 0, 10))
        told.set()
        while not go.wait(0.005):
            ticket.check()
        ticket.step(Step("inpaint", 0, 10))
        now[0] += 30  # slower than expected: half of it took 30 s
        ticket.step(Step("inpaint", 5, 10))
        told.set()
        while go.wait(0.005):
            ticket.check()

    with Lanes(tmp_path, clock=lambda: now[0]) as lanes:
        job = lanes.submit(ANN, work)
        assert told.wait(5)
        assert lanes.status(job, ANN).eta_seconds == pytest.approx(55)
        told.clear()
        go.set()
        assert told.wait(5)
        # of 40 expected and 60 measured, the mean by half; 30 are gone; 5 for writing
        assert lanes.status(job, ANN).eta_seconds == pytest.approx(50 - 30 + 5)
        go.clear()
        assert lanes.wait(job, ANN, 5).state == "done"
