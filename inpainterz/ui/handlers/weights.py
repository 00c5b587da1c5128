"""The weights of an engine, downloaded while the page goes on."""

from __future__ import annotations

from inpainterz import weights
from inpainterz.ui.session import Session, Steps
from inpainterz.ui.work import Job


def fetch_weights(session: Session, name: str, job: Job) -> Steps:
    """Download the weights of an engine.

    Raises:
        WeightsError: no network, no room, or another file than the one wanted.
    """
    with session.working(job, "weights"):

        def told(done: int, total: int | None) -> None:
            job.note(done, total)
            job.go_on()

        yield session
        weights.fetch(name, progress=told)
    yield session
