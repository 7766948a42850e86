"""Logging: a line for people, an object for machines."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from typing import Any

import pytest

from torpor.cli.frames import short_traceback
from torpor.cli.logs import ConsoleFormatter, JsonFormatter, configure, wants_colour


def record(logger: str = "torpor.orders", message: str = "hello", **more: Any) -> logging.LogRecord:
    """A log record with some attributes."""
    return logging.makeLogRecord({"name": logger, "msg": message, "levelno": 20, "levelname": "INFO", **more})


def failure() -> tuple[Any, Any, Any]:
    """The exception of a handler that failed."""
    try:
        raise ValueError("no such sku") from KeyError("tea")
    except ValueError:
        return sys.exc_info()


def test_json_has_the_named_fields() -> None:
    """Time in UTC, level, logger, service and message stand in one object."""
    line = json.loads(JsonFormatter().format(record(created=0.25, msecs=250.0)))
    assert line == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "info",
        "logger": "torpor.orders",
        "service": "orders",
        "message": "hello",
    }


def test_json_names_no_service_that_it_does_not_know() -> None:
    """A logger of a library belongs to no service."""
    assert "service" not in json.loads(JsonFormatter().format(record("sqlalchemy.engine")))


def test_json_is_one_line_with_exception_and_extras() -> None:
    """A traceback stays in its object, and what `extra=` gave is kept."""
    text = JsonFormatter().format(record(exc_info=failure(), message_id="7", odd=object()))
    assert "\n" not in text
    line = json.loads(text)
    assert "ValueError: no such sku" in line["exception"]
    assert line["message_id"] == "7"


def test_a_console_line_is_clock_service_message() -> None:
    """Without colours it is plain text."""
    text = ConsoleFormatter(is_coloured=False).format(record())
    assert re.fullmatch(r"\d\d:\d\d:\d\d orders         hello", text)


def test_a_console_warning_says_so_without_colours() -> None:
    """A log file shows what a terminal shows by colour."""
    text = ConsoleFormatter(is_coloured=False).format(record(levelno=30, levelname="WARNING"))
    assert text.endswith("warning: hello")


def test_a_console_failure_shows_the_users_frame_and_the_cause() -> None:
    """The traceback is short, indented, and ends with the error."""
    text = ConsoleFormatter(is_coloured=False).format(record(exc_info=failure()))
    assert "test_logs.py" in text
    assert "ValueError: no such sku" in text
    assert "because of KeyError: 'tea'" in text
    assert "Traceback" not in text


def test_services_keep_their_colours() -> None:
    """Two services differ, and one is the same in each line."""
    formatter = ConsoleFormatter(is_coloured=True)
    lines = [formatter.format(record(name)) for name in ("torpor.orders", "torpor.payments", "torpor.orders")]
    colours = [re.findall(r"\x1b\[(\d+)m", line)[2] for line in lines]
    assert colours[0] == colours[2] != colours[1]


def test_frames_of_libraries_are_left_out() -> None:
    """Only the user's frames are shown when there are some."""
    with pytest.raises(ValueError, match="Expecting") as error:
        json.loads("{")
    told = short_traceback(error.value)
    assert "test_logs.py" in told
    assert "decoder.py" not in told


def test_configured_logging_is_json_on_one_stream() -> None:
    """A record of any logger becomes a JSON line; chatty libraries speak up only for warnings."""
    stream = io.StringIO()
    configure("INFO", "json", stream=stream)
    logging.getLogger("torpor.orders").info("placed")
    logging.getLogger("uvicorn.error").info("Started server process")
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == "placed"


@pytest.mark.parametrize(
    ("environ", "expected"), [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)]
)
def test_colours_follow_the_environment(environ: dict[str, str], expected: bool) -> None:  # noqa: FBT001  # a case
    """`NO_COLOR` goes before `FORCE_COLOR`, which goes before what the stream is."""
    assert wants_colour(io.StringIO(), environ) is expected
