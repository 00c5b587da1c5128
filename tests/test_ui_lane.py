"""Lanes: fair order, limits, cancelling, owners, and what is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from inpainterz.errors import InputError, JobNotFound, OptionError, QueueFull
from inpainterz.ui.lane import Check, Lanes, Limits

ANN, BOB, CID = "ann-7f", "bob-91", "cid-02"


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    with Lanes() as made:
        yield made


class Gate:
    """Work that begins and ends when the test says so."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name, self.log = name, log
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, check: Check) -> None:
        if self.log is not None:
            self.log.append(self.name)
        self.begun.set()
        while not self.go.wait(0.005):
            check()


def test_a_job_goes_through_its_states(lanes: Lanes) -> None:
    gate = Gate()
    job = lanes.submit(ANN, gate)
    assert gate.begun.wait(5)
    status = lanes.status(job, ANN)
    assert (status.state, status.place, status.ended) == ("running", None, False)
    assert lanes.wait(job, ANN, 0.01).state == "running"  # it goes on whoever looks
    gate.go.set()
    assert lanes.wait(job, ANN, 5).state == "done"
    lanes.forget(job, ANN)
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
    for gate in work.values():
        gate.go.set()
    for name, job in jobs.items():
        assert lanes.wait(job, owners[name[0]], 5).state == "done"
    assert log == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_one_owner_holds_one_lane_while_others_wait() -> None:
    with Lanes(devices=("cpu", "cuda:0")) as lanes:
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


def test_the_queue_is_refused_politely_when_it_is_full() -> None:
    limits = Limits(waiting_per_owner=2, waiting_total=3)
    with Lanes(limits=limits) as lanes:
        gate = Gate()
        lanes.submit(ANN, gate)
        assert gate.begun.wait(5)
        waiting = [lanes.submit(ANN, Gate()) for _ in range(2)]
        with pytest.raises(QueueFull, match="you have as many jobs waiting"):
            lanes.submit(ANN, Gate())
        lanes.submit(BOB, Gate())
        with pytest.raises(QueueFull, match="the queue is full"):
            lanes.submit(CID, Gate())
        assert lanes.cancel(waiting[0], ANN).state == "cancelled"
        lanes.submit(CID, Gate())  # there is a place again
        assert lanes.status(waiting[1], ANN).place == 3  # she was served last


def test_cancelling_ends_work_between_two_steps(lanes: Lanes) -> None:
    closed = threading.Event()
    begun = threading.Event()

    def work(check: Check) -> None:
        try:
            for _ in range(10**6):
                check()
                begun.set()
                time.sleep(0.005)
        finally:
            closed.set()

    job = lanes.submit(ANN, work)
    assert begun.wait(5)
    assert lanes.cancel(job, ANN).state in ("running", "cancelled")
    assert lanes.wait(job, ANN, 5).state == "cancelled"
    assert closed.is_set()


def test_cancelling_ends_work_that_never_looks(lanes: Lanes) -> None:
    begun, closed = threading.Event(), threading.Event()

    def work(check: Check) -> None:
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
    after = lanes.submit(ANN, lambda check: None)  # the lane is free and well
    assert lanes.wait(after, ANN, 5).state == "done"


def test_another_owners_job_is_no_job(lanes: Lanes) -> None:
    gate = Gate()
    job = lanes.submit(ANN, gate)
    assert gate.begun.wait(5)
    asked = []
    for ask in (lanes.status, lanes.wait, lanes.cancel, lanes.forget):
        for name in (job, "0" * 32, "", None, 3, "../" + job):
            for owner in (BOB, "", None):
                with pytest.raises(JobNotFound) as caught:
                    ask(name, owner)  # type: ignore[arg-type]
                asked.append(str(caught.value))
    assert len(set(asked)) == 1  # the answer does not tell whether there is such a job
    assert lanes.status(job, ANN).state == "running"
    gate.go.set()


@pytest.mark.logs_errors
@pytest.mark.parametrize("error", [InputError("no clip"), ZeroDivisionError(), MemoryError()])
def test_a_failure_frees_the_lane(lanes: Lanes, error: Exception) -> None:
    def wrong(check: Check) -> None:
        raise error

    job = lanes.submit(ANN, wrong)
    assert lanes.wait(job, ANN, 5).state == "failed"
    after = lanes.submit(ANN, lambda check: None)
    assert lanes.wait(after, ANN, 5).state == "done"


def test_jobs_are_known_for_a_limited_time() -> None:
    now = [100.0]
    with Lanes(limits=Limits(keep_seconds=60), clock=lambda: now[0]) as lanes:
        job = lanes.submit(ANN, lambda check: None)
        lanes.wait(job, ANN, 5)
        now[0] += 59
        assert lanes.sweep() == 0
        now[0] += 2
        assert lanes.sweep() == 1
        with pytest.raises(JobNotFound):
            lanes.status(job, ANN)


def test_forgetting_a_job_ends_it(lanes: Lanes) -> None:
    gate = Gate()
    job = lanes.submit(ANN, gate)
    assert gate.begun.wait(5)
    other = lanes.submit(BOB, Gate())
    lanes.forget(job, ANN)
    with pytest.raises(JobNotFound):
        lanes.status(job, ANN)
    for _ in range(400):
        if lanes.status(other, BOB).state == "running":
            break
        time.sleep(0.01)
    assert lanes.status(other, BOB).state == "running"  # the lane is free


def test_closing_ends_everything() -> None:
    lanes = Lanes()
    gate = Gate()
    lanes.submit(ANN, gate)
    lanes.submit(BOB, Gate())
    assert gate.begun.wait(5)
    lanes.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("lane-")]
    with pytest.raises(OptionError, match="closed"):
        lanes.submit(ANN, gate)
