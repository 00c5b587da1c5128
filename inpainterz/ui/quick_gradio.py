"""Gradio, imported in half the time.

While it is imported, Gradio compares the source of each of its components with a stub for editors
that it keeps beside it. That is half of its import and of no use here, and Gradio skips components
that come from no file; so meanwhile none of them does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["gr"]


@contextmanager
def _no_stubs() -> Iterator[None]:
    find = inspect.getfile

    def getfile(object: Any) -> str:
        if isinstance(object, type) and object.__module__.startswith("gradio."):
            raise OSError("no stub is wanted")
        return find(object)

    inspect.getfile = getfile
    try:
        yield
    finally:
        inspect.getfile = find


with _no_stubs():
    import gradio as gr
