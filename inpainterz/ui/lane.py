"""Lanes: long work of several users, one job at a time on each device, fair and cancellable.

A web page must not do long work in its event handlers: a closed tab would end it, and many tabs
would run at once. Here work is submitted, asked after by its id, and goes on whoever looks:

    lanes = Lanes()
    job = lanes.submit(owner, work)        # work(check) runs in the lane
    lanes.status(job, owner).place; lanes.cancel(job, owner); lanes.wait(job, owner)

What the work makes, and how far it is, lies with who submitted it. Ids are unguessable, and are
answered to their owner only: for everybody else there is no such job.
"""

from __future__ import annotations

import ctypes
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from inpainterz.errors import JobNotFound, OptionError, QueueFull

log = logging.getLogger(__name__)

State: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]

ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
"""States that a job does not leave any more."""

PATIENCE_SECONDS = 0.8
"""How long cancelled work may take to notice by itself before it is interrupted."""

SWEEP_SECONDS = 30.0
"""How often an idle lane looks for jobs that are too old."""


class Cancelled(BaseException):
    """The job was cancelled; raised inside the work. Not an `Exception`, as nothing is wrong and
    nothing but the lane may catch it; `finally` and `with` see it as any other."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one user, and all together, may ask for."""

    running_per_owner: int = 1
    """Jobs of one owner that run at once, over all lanes."""
    waiting_per_owner: int = 3
    waiting_total: int = 20
    keep_seconds: float = 3600.0
    """How long a job that ended can be asked after."""

    def __post_init__(self) -> None:
        if self.running_per_owner < 1:
            raise OptionError("running_per_owner is less than 1", "Nothing could ever run")
        if min(self.waiting_per_owner, self.waiting_total) < 0 or not self.keep_seconds >= 0:
            raise OptionError("a limit of the queue is below 0")


@dataclass(frozen=True, slots=True)
class Status:
    """How a job is at one moment; plain data."""

    state: State
    place: int | None
    """While waiting: 1 = it is the next to run."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


Check: TypeAlias = Callable[[], None]
"""Raises Cancelled when the job was cancelled; to be called between any two slow things."""

Work: TypeAlias = Callable[[Check], None]
"""Runs in the lane's thread. It must close what it opens, also when Cancelled is raised; what else
it raises is logged, and the job has failed."""


@dataclass(slots=True, eq=False)
class _Job:
    id: str
    owner: str
    device: str
    work: Work | None
    number: int
    state: State = "waiting"
    ended: float = 0.0
    cancel_asked: bool = False
    thread: int = 0
    """Ident of the thread that works on it; 0 = nobody does."""
    gate: threading.Lock = field(default_factory=threading.Lock)
    """Guards `thread`. A bare lock: a thread that is interrupted while it enters a `Condition`
    would never release it, and the work takes no other lock of the lanes."""


class Lanes:
    """One lane, that is one worker thread, for each device, and the queue in front of them.

    All methods may be called from any thread. A job's state is seen by its owner alone: with
    another owner's name an id is as unknown as one that never was.

    Args:
        devices: a lane each; the same name twice is an error.
        limits: of the queue.
        clock: monotonic seconds.

    Raises:
        OptionError: no device, or one twice.
    """

    def __init__(
        self,
        *,
        devices: Sequence[str] = ("cpu",),
        limits: Limits = Limits(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not devices or len(set(devices)) != len(devices):
            raise OptionError("the lanes need devices, each once")
        self.limits = limits
        self._clock = clock
        self._changed = threading.Condition()
        self._jobs: dict[str, _Job] = {}
        self._served: dict[str, int] = {}  # owner -> when last served, as a count
        self._numbers = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, args=(device,), name=f"lane-{device}", daemon=True)
            for device in devices
        ]
        self._devices = tuple(devices)
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ asking

    def submit(self, owner: str, work: Work, *, device: str | None = None) -> str:
        """Queue work for `owner`; returns at once.

        Args:
            owner: who may ask for it later: an unguessable name that is no one else's.
            work: see `Work`.
            device: which lane; default: the one with the fewest jobs.

        Returns:
            the job's id.

        Raises:
            QueueFull: this owner, or all together, have as many waiting as may.
            OptionError: there is no such lane, or the lanes are closed.
        """
        if device is not None and device not in self._devices:
            raise OptionError(f"there is no lane for {device}")
        if not owner:
            raise OptionError("a job needs an owner")
        with self._changed:
            if self._closed:
                raise OptionError("the lanes are closed")
            waiting = [j for j in self._jobs.values() if j.state == "waiting"]
            mine = [j for j in waiting if j.owner == owner]
            busy = [j for j in self._jobs.values() if j.state == "running"]
            # one that can run at once does not wait
            free = len(busy) + len(waiting) < len(self._devices)
            over = sum(j.owner == owner for j in busy) >= self.limits.running_per_owner
            if not free or over:
                if len(mine) >= self.limits.waiting_per_owner:
                    raise QueueFull(
                        "you have as many jobs waiting as one may have",
                        "Wait for one to end, or cancel one",
                    )
                if len(waiting) >= self.limits.waiting_total:
                    raise QueueFull("everybody is busy: the queue is full", "Try again later")
            if device is None:
                load = {d: 0 for d in self._devices}
                for job in (*busy, *waiting):
                    load[job.device] += 1
                device = min(self._devices, key=lambda d: load[d])
            name = secrets.token_hex(16)
            self._numbers += 1
            self._jobs[name] = _Job(name, owner, device, work, self._numbers)
            self._changed.notify_all()
            return name

    def status(self, job: str, owner: str) -> Status:
        """How a job is. Raises JobNotFound."""
        with self._changed:
            return self._status(self._find(job, owner))

    def wait(self, job: str, owner: str, timeout: float | None = None) -> Status:
        """Wait until a job ended, or `timeout` seconds; how it is then. Raises JobNotFound."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                status = self._status(self._find(job, owner))
                left = None if end is None else end - time.monotonic()
                if status.ended or (left is not None and left <= 0):
                    return status
                self._changed.wait(left)

    # ------------------------------------------------------------ telling

    def cancel(self, job: str, owner: str) -> Status:
        """End a job. A waiting one is gone at once; a running one ends at its next `check`, or is
        interrupted after `PATIENCE_SECONDS`. One that ended stays as it is.

        Raises:
            JobNotFound: there is no such job of this owner.
        """
        with self._changed:
            found = self._find(job, owner)
            self._cancel(found)
            return self._status(found)

    def forget(self, job: str, owner: str) -> None:
        """Cancel a job if it has not ended, and know it no more. Raises JobNotFound."""
        with self._changed:
            found = self._find(job, owner)
            self._cancel(found)
            found.owner = ""  # nobody's: it is swept as soon as it ended
        self.sweep()

    def sweep(self) -> int:
        """Forget what ended longer than `Limits.keep_seconds` ago; how many that were."""
        with self._changed:
            now = self._clock()
            old = [
                j
                for j in self._jobs.values()
                if j.state in ENDED and (not j.owner or now - j.ended > self.limits.keep_seconds)
            ]
            for job in old:
                del self._jobs[job.id]
        return len(old)

    def close(self, timeout: float = 10.0) -> None:
        """Cancel everything and wait for the threads."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                self._cancel(job)
            self._changed.notify_all()
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    # ------------------------------------------------------------ the queue

    def _find(self, job: object, owner: object) -> _Job:
        found = self._jobs.get(job) if isinstance(job, str) else None
        if found is None or not isinstance(owner, str) or not _same(found.owner, owner):
            raise JobNotFound("there is no such job", "It may have been too old to be kept")
        return found

    def _status(self, job: _Job) -> Status:
        place = self._order().index(job) + 1 if job.state == "waiting" else None
        return Status(job.state, place)

    def _order(self) -> list[_Job]:
        """Who waits, in the order of service: owners take turns, each with the oldest job first.

        The owner who was served longest ago comes first; one who has never been served comes
        before all others, among them the one who asked first.
        """
        queues: dict[str, list[_Job]] = {}
        for job in sorted(self._jobs.values(), key=lambda j: j.number):
            if job.state == "waiting":
                queues.setdefault(job.owner, []).append(job)
        turn = {owner: self._served.get(owner, 0) for owner in queues}
        count = max(self._served.values(), default=0)
        order: list[_Job] = []
        while queues:
            owner = min(queues, key=lambda o: (turn[o], queues[o][0].number))
            order.append(queues[owner].pop(0))
            count += 1
            turn[owner] = count
            if not queues[owner]:
                del queues[owner]
        return order

    def _next(self, device: str) -> _Job | None:
        running: dict[str, int] = {}
        for job in self._jobs.values():
            if job.state == "running":
                running[job.owner] = running.get(job.owner, 0) + 1
        for job in self._order():
            if job.device != device:
                continue
            if running.get(job.owner, 0) < self.limits.running_per_owner:
                return job
        return None

    def _run(self, device: str) -> None:
        while True:
            job = self._take(device)
            if job is None:
                if self._closed:
                    return
                self.sweep()
                continue
            state: State = "cancelled"
            with suppress(Cancelled):  # it may strike an instant after the work has ended
                state = self._work(job)
            with job.gate:  # from here on nothing strikes: at most one did
                job.thread = 0
                _interrupt(threading.get_ident(), None)
            self._end(job, state)

    def _take(self, device: str) -> _Job | None:
        """The next job of a lane, marked as running; None: time to look for other things."""
        with self._changed:
            job = self._next(device)
            if job is None and not self._closed:
                self._changed.wait(SWEEP_SECONDS)
                job = self._next(device)
            if job is None or self._closed:
                return None
            job.state = "running"
            self._served[job.owner] = max(self._served.values(), default=0) + 1
            self._changed.notify_all()
            return job

    def _work(self, job: _Job) -> State:
        def check() -> None:
            if job.cancel_asked:  # without the lock: see `_Job.gate`
                raise Cancelled

        assert job.work is not None
        try:
            with job.gate:
                job.thread = threading.get_ident()
            job.work(check)
            return "done"
        except Cancelled:
            return "cancelled"
        except Exception:
            log.exception("a job failed")
            return "failed"

    def _end(self, job: _Job, state: State) -> None:
        with self._changed:
            job.work = None  # with it goes all that it held
            job.state = "cancelled" if job.cancel_asked else state
            job.ended = self._clock()
            self._changed.notify_all()

    def _cancel(self, job: _Job) -> None:
        if job.state in ENDED or job.cancel_asked:
            return
        job.cancel_asked = True
        if job.state == "waiting":
            job.state, job.ended, job.work = "cancelled", self._clock(), None
            self._changed.notify_all()
            return
        impatient = threading.Timer(PATIENCE_SECONDS, self._strike, (job,))
        impatient.daemon = True
        impatient.start()

    def _strike(self, job: _Job) -> None:
        """Interrupt work that did not look whether it was cancelled."""
        with job.gate:
            if job.thread:
                _interrupt(job.thread, Cancelled)


def _same(a: str, b: str) -> bool:
    return bool(a) and hmac.compare_digest(a.encode(), b.encode())


def _interrupt(thread: int, error: type[BaseException] | None) -> None:
    """Raise `error` in a thread before its next line of Python; None takes back one that waits."""
    wanted = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), wanted)
