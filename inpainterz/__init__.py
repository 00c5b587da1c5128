"""Remove things from video: click the object, get the clip back without it."""

__version__ = "0.1.0"
