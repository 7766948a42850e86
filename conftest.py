"""What every test shares, those of the services included."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

STRICT = os.environ.get("TORPOR_TEST_STRICT") == "1"
NOT_PROMISED = "not promised"  # how a conformance suite's reason begins when an adapter lays no claim to something


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, the loop that Torpor is made for."""
    return "asyncio"


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With TORPOR_TEST_STRICT=1 a skip is a failure: CI must not pass because a server was missing."""
    if not STRICT or not report.skipped or hasattr(report, "wasxfail"):
        return
    path, line, reason = (
        report.longrepr if isinstance(report.longrepr, tuple) else (report.nodeid, 0, str(report.longrepr))
    )
    if NOT_PROMISED not in reason:
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: skipped, and TORPOR_TEST_STRICT=1 makes a skip a failure. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A skipped module."""
    report = yield
    _fail_if_skipped(report)
    return report
