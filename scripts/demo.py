"""Runs the shop in the background, lets `torpor demo` place orders in it, and stops it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TORPOR = Path(sys.executable).with_name("torpor")
LOG = Path(".torpor/demo.log")
READY_SECONDS = 60
STOP_SECONDS = 40


@contextlib.contextmanager
def running_shop() -> Iterator[subprocess.Popen[bytes]]:
    """The shop in a session of its own, so that Ctrl-C reaches us first; it is stopped on the way out."""
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("wb") as log:
        shop = subprocess.Popen([TORPOR, "dev", "services"], stdout=log, stderr=log, start_new_session=True)
    try:
        yield shop
    finally:
        shop.terminate()
        try:
            shop.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(shop.pid, signal.SIGKILL)


def await_ready(shop: subprocess.Popen[bytes], address: str) -> None:
    """Returns once the shop answers 200 on /-/ready, and exits with the end of its log if it does not."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know this machine
    deadline = time.monotonic() + READY_SECONDS
    while shop.poll() is None and time.monotonic() < deadline:
        try:
            opener.open(f"{address}/-/ready", timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    told = "stopped" if shop.poll() is not None else f"was not ready within {READY_SECONDS} s"
    end = "\n".join(LOG.read_text(errors="replace").splitlines()[-20:])
    sys.exit(f"{end}\ndev: the shop {told}. The end of its log is above, all of it in {LOG}")


def main(arguments: list[str]) -> int:
    """Returns the exit code of `torpor demo`."""
    host, port = os.environ.get("TORPOR_HTTP_HOST", "127.0.0.1"), os.environ.get("TORPOR_HTTP_PORT", "8000")
    print(f"dev: starting the shop (its log: {LOG})", flush=True)
    with running_shop() as shop:
        await_ready(shop, f"http://{host}:{port}")
        code = subprocess.call([TORPOR, "demo", *arguments])
    print("dev: the shop has stopped. scripts/dev runs it until Ctrl-C; scripts/test runs the tests")
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
