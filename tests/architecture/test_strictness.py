"""A run of CI cannot pass because a server was missing: TORPOR_TEST_STRICT=1 makes a skip a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.architecture.sources import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SKIPS = '''
import pytest


@pytest.fixture
def server():
    """A server that is not there."""
    pytest.skip("no server")


def test_with_a_server(server): ...


@pytest.mark.xfail(strict=True)
def test_of_a_known_fault():
    raise RuntimeError


@pytest.mark.skip(reason="not promised: order")
def test_of_a_promise(): ...
'''


@pytest.mark.parametrize(("strict", "summary"), [("0", "2 skipped, 1 xfailed"), ("1", "1 skipped, 1 xfailed, 1 error")])
def test_a_skip_is_a_failure_when_ci_asks_for_it(tmp_path: Path, strict: str, summary: str) -> None:
    """A missing server fails the strict run, a promise that an adapter does not make is still skipped."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "test_skips.py").write_text(SKIPS)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "TORPOR_TEST_STRICT": strict},
        capture_output=True,
        text=True,
        check=False,
    )
    assert summary in run.stdout, run.stdout + run.stderr
    assert run.returncode == int(strict)
