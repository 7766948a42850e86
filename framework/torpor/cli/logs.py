"""Logging for people (a line each, short tracebacks) and for machines (a JSON object a line)."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "service", "color_message"}
_CHATTY = ("faststream", "nats", "uvicorn", "httpx", "asyncio", "watchfiles")
_RESET = "\x1b[0m"
_WIDTH = 13
_DIM = "\x1b[2m"
_LEVELS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
_SERVICES = tuple(f"\x1b[{code}m" for code in (36, 35, 34, 32, 96, 95, 94, 92))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, service, message, exception, and what `extra=` gave."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON object."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        service = service_of(record)
        if service:
            line["service"] = service
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        members = ", ".join(f"{_as_json(name)}: {_as_json(value)}" for name, value in line.items())
        return f"{{{members}}}"


class ConsoleFormatter(logging.Formatter):
    """`HH:MM:SS service  message`, with the user's frames of an exception below it."""

    def __init__(self, *, is_coloured: bool) -> None:
        super().__init__()
        self._is_coloured = is_coloured
        self._width = _WIDTH
        self._colours: dict[str, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, and indented lines of its exception."""
        service = service_of(record) or record.name.partition(".")[0]
        self._width = max(self._width, len(service))
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            from torpor.cli.frames import short_traceback

            text += "\n" + short_traceback(record.exc_info[1])
        text = text.replace("\n", "\n" + " " * 11)
        if not self._is_coloured:
            level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            return f"{clock} {service:<{self._width}}  {level}{text}"
        colour = _LEVELS.get(record.levelno, "")
        label = f"{self._colour_of(service)}{service:<{self._width}}{_RESET}"
        return f"{_DIM}{clock}{_RESET} {label}  {colour}{text}{_RESET if colour else ''}"

    def _colour_of(self, service: str) -> str:
        return self._colours.setdefault(service, _SERVICES[len(self._colours) % len(_SERVICES)])


def _as_json(value: Any) -> str:
    """A value as JSON. Plain text needs no more than quotes: what a service says while it wakes is that, and the rest
    costs the import of json."""
    if isinstance(value, str) and value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    from json import dumps

    return dumps(value, default=str, ensure_ascii=False)


def service_of(record: logging.LogRecord) -> str | None:
    """The service that a record belongs to: what `extra={"service": …}` says, or the logger `torpor.<service>`."""
    service = getattr(record, "service", None)
    if isinstance(service, str):
        return service
    root, _, rest = record.name.partition(".")
    return rest.partition(".")[0] if root == "torpor" and rest else None


def configure(level: str, form: str, *, stream: TextIO | None = None) -> None:
    """Sends all logging to one stream (stderr unless said) in the form `json` or `console`."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter(is_coloured=wants_colour(stream)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if level.upper() == "DEBUG" else logging.WARNING)


def wants_colour(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to colour: on a terminal, unless `NO_COLOR` is set; `FORCE_COLOR` says yes elsewhere."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or stream.isatty()
