"""The user's own part of a traceback."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

_FRAMEWORK = str(Path(__file__).resolve().parents[1])
_FOREIGN = tuple(
    path + os.sep for path in (_FRAMEWORK, *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")))
)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of a traceback that lie in neither Torpor, nor the standard library, nor an installed package."""
    return [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]


def short_traceback(error: BaseException) -> str:
    """An error in a few lines: the user's frames (the last one of all if there is none), the error, its cause."""
    frames = user_frames(error) or traceback.extract_tb(error.__traceback__)[-1:]
    lines = [] if isinstance(error, SyntaxError) else [_shown(frame) for frame in frames]
    lines += _ended(error)
    cause = error.__cause__
    if cause is not None:
        lines.append(f"because of {type(cause).__name__}: {cause}")
    return "\n".join(lines)


def shown_path(filename: str) -> str:
    """A path as a person would type it: relative when it lies in the working directory."""
    try:
        return str(Path(filename).relative_to(Path.cwd()))
    except ValueError:
        return filename


def _is_users(filename: str) -> bool:
    if not filename.endswith(".py") or filename.startswith(_FOREIGN):  # no .py: generated, or compiled
        return False
    return not any(part in filename for part in _INSTALLED)


def _shown(frame: traceback.FrameSummary) -> str:
    place = f"{shown_path(frame.filename)}:{frame.lineno} in {frame.name}"
    return f"{place}\n    {frame.line}" if frame.line else place


def _ended(error: BaseException) -> list[str]:
    """The error itself; a syntax error with its place, its line and a caret."""
    if not isinstance(error, SyntaxError) or error.filename is None:
        return [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
    lines = [f"{shown_path(error.filename)}:{error.lineno}"]
    if error.text is not None:
        text = error.text.rstrip("\n")
        indent = len(text) - len(text.lstrip())
        column = max((error.offset or 1) - 1 - indent, 0)
        lines += [f"    {text.strip()}", f"    {' ' * column}^"]
    return [*lines, f"{type(error).__name__}: {error.msg}"]
