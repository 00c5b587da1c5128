"""What goes along with a clean clip: what was done, and the selection as a project file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from inpainterz.pipeline import Engines, FillOptions
from inpainterz.ui.session import Clip, Result, Session


def write_report(
    session: Session, clip: Clip, made: Result, engines: Engines, options: FillOptions
) -> None:
    """What was done, as JSON."""
    told = {
        "clip": clip.name,
        "width": clip.width,
        "height": clip.height,
        "frames": clip.frames,
        "frames_per_second": None if clip.fps is None else float(clip.fps),
        "shots": len(session.cuts or ()) + 1,
        "engines": dict(engines.names),
        "objects": {str(k): session.names.get(k, f"Object {k}") for k in session.labels},
        "grow_px": options.grow_px,
        "feather_px": options.feather_px,
        "second_pass": options.second_pass,
        "ghost_frames": list(made.ghost_frames),
        "frames_with_hole": made.frames_with_hole,
        "frames_taken_from_previews": made.frames_reused,
        "seen_px": made.seen_px,
        "invented_px": made.invented_px,
        "doubtful_frames": list(session.doubtful),
        "not_carried": list(made.not_carried),
        "seconds": round(made.seconds, 2),
    }
    made.report.write_text(json.dumps(told, indent=2, ensure_ascii=False), "utf-8")


def write_project(session: Session, clip: Clip, target: Path, masks: Path) -> None:
    """The selection as a file that `import_masks` takes: objects, marks, and all label maps."""
    told = {
        "version": 1,
        "clip": {"name": clip.name, "size": [clip.width, clip.height], "frames": clip.frames},
        "objects": [{"id": k, "name": session.names.get(k, "")} for k in session.labels],
        "marks": [
            {"frame": m.frame, "object": m.label, "kind": m.kind, "at": list(m.at)}
            for m in session.marks
        ],
    }
    with (
        zipfile.ZipFile(masks) as maps,
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as bundle,
    ):
        bundle.writestr("project.json", json.dumps(told, indent=2, ensure_ascii=False))
        for name in maps.namelist():
            bundle.writestr(f"masks/{name}", maps.read(name))
