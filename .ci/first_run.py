"""Proves that a fresh clone runs: `scripts/dev` becomes ready, an order is shipped, Ctrl-C leaves nothing behind, and
the second start is quick and remembers. Run in the clone, with the environment that `scripts/dev` shall have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ADDRESS = "http://127.0.0.1:8000"
HOME = Path(os.environ["HOME"])
LOG = Path("first-run.log")
FIRST_START_SECONDS = 60
SECOND_START_SECONDS = 10  # the aim is 3; the rest is for noisy machines
SECOND_START_AIM = 3
SHIP_SECONDS = 30
STOP_SECONDS = 40

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know this machine


class Shop:
    """One run of `scripts/dev`, in a session of its own as a terminal would give it."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        with LOG.open("ab") as log:
            self.process = subprocess.Popen(
                ["scripts/dev"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def await_ready(self, seconds: float) -> float:
        """Returns how long it took from the start."""
        while time.monotonic() < self.started + seconds:
            if self.process.poll() is not None:
                raise failure(f"scripts/dev has ended with {self.process.returncode} before it was ready")
            try:
                status, _ = request("GET", "/-/ready")
            except OSError:
                status = 0
            if status == 200:
                return time.monotonic() - self.started
            time.sleep(0.02)
        raise failure(f"{ADDRESS}/-/ready did not answer 200 within {seconds} s")

    def interrupt(self) -> None:
        """Presses Ctrl-C, which reaches every process of the terminal, and waits until nothing is left."""
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise failure(f"scripts/dev had not stopped {STOP_SECONDS} s after Ctrl-C") from error
        deadline = time.monotonic() + 3
        while (left := processes_of_the_clone()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            raise failure("left running after Ctrl-C:\n" + "\n".join(left.values()))
        if code not in (0, 130, -signal.SIGINT):
            raise failure(f"scripts/dev ended with {code} after Ctrl-C; expected 0 or 130")

    def kill(self) -> None:
        """Ends what is still there, whatever happened."""
        for pid in processes_of_the_clone():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def processes_of_the_clone() -> dict[int, str]:
    """Processes with our home in their environment, or in their command line: the clone lies beside the home."""
    mark = str(HOME.parent).encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            known = command and (mark in command or mark in (entry / "environ").read_bytes())
        except OSError:
            continue
        if known:
            found[int(entry.name)] = f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')}"
    return found


def request(method: str, path: str, body: object = None) -> tuple[int, Any]:
    """The status and the JSON of an answer; OSError when there is none."""
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request(ADDRESS + path, data, {"content-type": "application/json"}, method=method)
    try:
        with OPENER.open(sent, timeout=10) as answer:
            text, status = answer.read(), answer.status
    except urllib.error.HTTPError as error:
        text, status = error.read(), error.code
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def expect(method: str, path: str, body: object = None) -> Any:
    """The JSON of a 2xx answer."""
    status, answer = request(method, path, body)
    if not 200 <= status < 300:
        raise failure(f"{method} {path} answered {status}: {answer}")
    return answer


def ship_an_order() -> str:
    """Buys two of three things, and returns the order's id once they are shipped."""
    expect("PUT", "/inventory/first-run", {"available": 3, "price_cents": 250})
    expect("PUT", "/payments/accounts/newcomer", {"balance_cents": 1000})
    order = {"customer_id": "newcomer", "items": [{"sku": "first-run", "quantity": 2}]}
    number: str = expect("POST", "/orders", order)["id"]
    deadline = time.monotonic() + SHIP_SECONDS
    while (state := expect("GET", f"/orders/{number}"))["status"] != "shipped":
        if state["status"] == "cancelled" or time.monotonic() > deadline:
            raise failure(f"the order was not shipped: {state}")
        time.sleep(0.05)
    return number


def failure(reason: str) -> SystemExit:
    """The end of the shop's log, and an exit with the reason."""
    lines = LOG.read_text(errors="replace").splitlines() if LOG.exists() else []
    print(f"--- the end of the log of scripts/dev, of {len(lines)} lines", *lines[-40:], sep="\n")
    return SystemExit(f"--- {reason}")


def port_is_taken() -> bool:
    """Whether somebody answers before we have started."""
    try:
        request("GET", "/-/live")
    except OSError:
        return False
    return True


def main() -> None:
    """The proof, step by step."""
    if port_is_taken():
        raise failure(f"{ADDRESS} is taken by another process. Stop it first")
    shop = Shop()
    try:
        took = shop.await_ready(FIRST_START_SECONDS)
        print(f"ready {took:.1f} s after the first scripts/dev, downloads included (limit {FIRST_START_SECONDS} s)")
        number = ship_an_order()
        print(f"order {number} is shipped")
        shop.interrupt()
        print("Ctrl-C: stopped, nothing left running")
        shop = Shop()
        took = shop.await_ready(SECOND_START_SECONDS)
        print(f"ready {took:.2f} s after the second (aim {SECOND_START_AIM} s, limit {SECOND_START_SECONDS} s)")
        if (state := expect("GET", f"/orders/{number}"))["status"] != "shipped":
            raise failure(f"the order is forgotten: {state}")
        shop.interrupt()
    finally:
        shop.kill()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
