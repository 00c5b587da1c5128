"""The objects of a selection: new ones, their names, their end; also those of a file of masks."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np

from inpainterz.errors import PromptError
from inpainterz.masks import MaskStore, checked, decode_labels
from inpainterz.types import LabelMap
from inpainterz.ui import inputs
from inpainterz.ui.handlers.marks import take_mask
from inpainterz.ui.session import MOST_LETTERS, MOST_OBJECTS, Session


def add_object(session: Session) -> Session:
    """A new object, into hand; one that has no click yet is taken instead of a second one.

    Raises:
        PromptError: there are as many as there are colours.
    """
    session.need_clip()
    session.need_idle()
    counts = session.marked()
    empty = [label for label in session.labels if not counts[label]]
    if empty:
        session.label = empty[0]
        return session
    free = [label for label in range(1, MOST_OBJECTS + 1) if label not in session.labels]
    if not free:
        raise PromptError(f"{MOST_OBJECTS} objects are the most at once", "Remove these first")
    session.labels.append(free[0])
    session.label = free[0]
    return session


def pick_object(session: Session, label: object) -> Session:
    """Take an object into hand: clicks go to it.

    Raises:
        PromptError: there is no such object.
    """
    session.label = inputs.label(session, label)
    return session


def delete_object(session: Session, label: object) -> Session:
    """Forget an object with its clicks and its masks.

    Raises:
        PromptError: there is no such object.
    """
    session.need_idle()
    gone = inputs.label(session, label)
    session.labels.remove(gone)
    session.marks = [m for m in session.marks if m.label != gone]
    session.undone = [m for m in session.undone if m.label != gone]
    session.answers = {key: a for key, a in session.answers.items() if key[1] != gone}
    session.refining.pop(gone, None)
    session.names.pop(gone, None)
    session.hidden.discard(gone)
    session.result, session.trials = None, ()
    session.masks_made += 1
    if session.followed is not None:
        # a later object may get the same number: its old masks must be gone
        with session.masks() as store:
            for index, labels in store.items():
                if (labels == gone).any():
                    labels[labels == gone] = 0
                    kept = {k: c for k, c in store.confidence(index).items() if k != gone}
                    store.put(index, labels, kept)
            session.doubtful = store.doubtful()
        session.followed = {key: a for key, a in session.followed.items() if key[1] != gone}
    if not session.labels:
        session.labels, session.followed = [1], None
    session.label = session.labels[0] if session.label == gone else session.label
    return session


def name_object(session: Session, label: object, name: object) -> Session:
    """Call an object something; an empty name gives it its number back.

    Raises:
        PromptError: there is no such object, or the name is no text.
    """
    session.need_idle()
    known = inputs.label(session, label)
    if not isinstance(name, str):
        raise PromptError("the name of an object is a text")
    kept = "".join(c for c in name if c.isprintable()).strip()[:MOST_LETTERS]
    if kept:
        session.names[known] = kept
    else:
        session.names.pop(known, None)
    return session


def show_object(session: Session, label: object, visible: object) -> Session:
    """Show the tint of an object, or hide it; what is removed does not change.

    Raises:
        PromptError: there is no such object.
    """
    known = inputs.label(session, label)
    if visible is True:
        session.hidden.discard(known)
    else:
        session.hidden.add(known)
    return session


def reset(session: Session) -> Session:
    """Forget all clicks, objects and followed masks; keep the clip and the frame."""
    session.need_idle()
    session.marks.clear()
    session.undone.clear()
    session.answers.clear()
    session.refining.clear()
    session.labels, session.label = [1], 1
    session.names.clear()
    session.hidden.clear()
    _forget_masks(session)
    return session


def _forget_masks(session: Session) -> None:
    session.followed, session.doubtful, session.result = None, (), None
    session.trials, session.trust = (), []
    session.masks_made += 1
    session.masks().clear()


def import_masks(session: Session, path: Path) -> Session:
    """Take masks that are already there.

    A zip with a mask for each frame, such as the one that a removal gives or a project file, is
    taken as what was followed. One that has only some frames, and a single picture, are what the
    user showed there; the picture belongs to the frame in view.

    Raises:
        InputError: it cannot be read, or does not fit the clip.
        PromptError: it marks nothing, or more objects than there may be.
    """
    clip = session.need_clip()
    session.need_idle()
    fresh = session.folder / "masks.new"
    try:
        with MaskStore(fresh) as store:
            if zipfile.is_zipfile(path):
                store.take(path, clip.frames, session.size)
                maps = len(store.indices())
            else:
                data = path.read_bytes()
                labels = checked(decode_labels(data), session.size, "the mask")
                store.put(session.frame, labels)
                maps = 1
            found: set[int] = set()
            for _, labels in store.items():
                found.update(int(k) for k in np.unique(labels) if k)
            if not found:
                raise PromptError("the masks mark nothing", "A pixel above 0 is an object")
            if max(found) > MOST_OBJECTS:
                raise PromptError(
                    f"there is an object {max(found)} in the masks",
                    f"Objects are numbered from 1 to {MOST_OBJECTS}",
                )
            if maps == clip.frames and clip.frames > 1:
                reset(session)
                session.labels, session.label = sorted(found), min(found)
                session.masks().clear()
                shutil.rmtree(session.folder / "masks", ignore_errors=True)
                fresh.rename(session.folder / "masks")
                session.followed = {}
                session.trust = [100] * clip.frames
            else:
                for index, labels in store.items():
                    _take_map(session, index, labels)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    session.masks_made += 1
    return session


def _take_map(session: Session, index: int, labels: LabelMap) -> None:
    for label in (int(k) for k in np.unique(labels) if k):
        take_mask(session, index, label, np.asarray(labels == label))
        if label not in session.labels:
            session.labels.append(label)
