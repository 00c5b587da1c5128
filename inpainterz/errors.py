"""Every error that Inpainterz raises on purpose, as one tree.

    InpainterzError
      InputError (also ValueError)         what the user gave cannot be used; exit code 2
        PromptError                        a click, box or mask that does not fit the clip
        OptionError                        an option outside its range, or an unknown engine
        OutputExists                       the target is there and --overwrite was not given
        JobNotFound                        no such job, or it is somebody else's
      VideoError (also OSError)            exit code 2
        VideoOpenError                     not a video, or no video stream in it
        VideoDecodeError                   the file is damaged
        VideoEncodeError                   the target cannot be written
      WeightsError
        WeightsMissing                     names the command that fetches them
        WeightsCorrupt                     the file is not the one that the card describes
        WeightsMismatch                    the file belongs to another network
      EngineError
        EngineUnavailable                  a package or a device that the engine needs is absent
        OutOfMemory (also MemoryError)     the hint names the option that lowers memory
      QueueFull                            as many jobs wait as may

The CLI prints "error: message. hint" and exits with `exit_code`; the page shows the same sentence.
"""

from __future__ import annotations

from collections.abc import Sequence


class InpainterzError(Exception):
    """The root: `message` says what is wrong, `hint` what to do about it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message.rstrip(".")
        self.hint = hint.rstrip(".")
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}." if self.hint else f"{self.message}."


class InputError(InpainterzError, ValueError):
    """What the user gave cannot be used."""

    exit_code = 2


class PromptError(InputError):
    """A click, box or mask does not fit the clip."""


class OptionError(InputError):
    """An option is outside its range, or names something that does not exist."""


class OutputExists(InputError):
    """The target is there and may not be overwritten."""


class JobNotFound(InputError):
    """There is no such job, or it is somebody else's."""


class VideoError(InpainterzError, OSError):
    """A video file cannot be read or written."""

    exit_code = 2


class VideoOpenError(VideoError):
    """The file is not a video, or holds no video stream."""


class VideoDecodeError(VideoError):
    """The file is damaged."""


class VideoEncodeError(VideoError):
    """The target cannot be written."""


class WeightsError(InpainterzError):
    """A weights file is missing or wrong."""

    exit_code = 2


class WeightsMissing(WeightsError):
    """The weights are not on this machine; `command` fetches them."""

    def __init__(self, name: str, command: str) -> None:
        self.name, self.command = name, command
        super().__init__(f"the weights of {name} are not on this machine", f"Fetch them: {command}")


class WeightsCorrupt(WeightsError):
    """The file's hash or format is not what the card says."""

    def __init__(self, path: object, expected: str, actual: str) -> None:
        self.expected, self.actual = expected, actual
        super().__init__(
            f"{path} is damaged or is another file: expected {expected}, found {actual}",
            "Delete it and fetch it again",
        )


class WeightsMismatch(WeightsError):
    """The file's keys or shapes are those of another network."""

    def __init__(
        self,
        name: str,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        shapes: Sequence[str] = (),
    ) -> None:
        self.missing, self.unexpected, self.shapes = missing, unexpected, shapes
        parts = []
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("shape", shapes)):
            if keys:
                more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
                parts.append(f"{what}: {', '.join(list(keys)[:3])}{more}")
        super().__init__(
            f"these are not the weights of {name} ({'; '.join(parts)})",
            f"Fetch them again: inpainterz weights fetch {name}",
        )


class EngineError(InpainterzError):
    """An engine cannot run."""


class EngineUnavailable(EngineError):
    """A package or a device that the engine needs is not on this machine."""

    exit_code = 2

    def __init__(self, name: str, reason: str, hint: str = "") -> None:
        self.name, self.reason = name, reason
        super().__init__(f"the engine {name} cannot run here: {reason}", hint)


class OutOfMemory(EngineError, MemoryError):
    """Memory ran out; the hint names the option that lowers it."""


class QueueFull(InpainterzError):
    """As many jobs wait as may."""
