"""The weights of an engine, downloaded while the page goes on."""

from __future__ import annotations

from inpainterz import weights
from inpainterz.ui.session import Session, Steps
from inpainterz.ui.work import Job, Stopped


def fetch_weights(session: Session, name: str, job: Job) -> Steps:
    """Download the weights of an engine.

    Raises:
        WeightsError: no network, no room, or another file than the one wanted.
    """
    job.begin("weights", None)

    def told(done: int, total: int | None) -> None:
        job.note(done, total)
        job.go_on()

    try:
        yield session
        weights.fetch(name, progress=told)
    except Stopped:
        session.notice = ""
    finally:
        session.job = None
    yield session
