"""The servers that `benchmarks.sockets` connects to, each a process: `python -m benchmarks.socket_ways <way>`.

They tell their port on the first line, and do over HTTP what they are asked to.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from torpor import Service, Socket, SocketLimits, Sockets
from torpor.adapters.http.server import HttpServer
from torpor.assembly import assemble
from torpor.kernel.frames import TEXT, frame
from torpor.runtime.settings import Settings

LINE = "x" * 200
_PAGE = os.sysconf("SC_PAGE_SIZE")
_FILLING = frame(TEXT, b"x" * 65_000)


def resident() -> int:
    """The bytes that this process has in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE


async def torpor() -> None:
    """A service with one socket."""
    service = Service("bench", public=True)

    async def come(socket: Socket, group: str) -> None:
        socket.join("all", group)

    @service.socket("/ws/{group}", connect=come, limits=SocketLimits(heartbeat=600))
    async def talk(message: str, group: str) -> None: ...

    @service.get("/resident")
    async def tell() -> int:
        return resident()

    @service.post("/broadcast")
    async def broadcast(sockets: Sockets) -> None:
        sockets.broadcast("all", LINE)

    @service.post("/loop")
    async def loop() -> None:
        framed = frame(TEXT, LINE.encode())
        for transport in transports:
            transport.write(framed)

    @service.post("/stall")
    async def stall() -> int:
        return sum(stalled(transport) for transport in wires("stalled"))

    @service.post("/prepare")
    async def prepare() -> None:
        transports[:] = wires("all")

    transports: list[Any] = []
    deployment = assemble([service], Settings.read({"TORPOR_BROKER_URL": "memory://"}))
    await deployment.start()
    host: Any = deployment.hosts[0]

    def wires(group: str) -> list[Any]:
        """The transports of a group, beneath what is measured."""
        return [peer.wire._transport for peer in host.sockets.registry._groups[group]]  # noqa: SLF001

    await ready(host)
    server = HttpServer(deployment.app, port=0, sockets=deployment.sockets)
    await server.start()
    print(server.port, flush=True)
    await asyncio.Event().wait()


def stalled(transport: Any) -> bool:
    """Fills what the system keeps for a client that reads nothing; whether anything waits in the process then."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for _ in range(100):
        transport.write(_FILLING)
        if transport.get_write_buffer_size() > len(_FILLING):
            return True
    return False


async def ready(host: Any) -> None:
    """Waits for a service."""
    while not host.is_ready:  # noqa: ASYNC110  # it has no event for this
        await asyncio.sleep(0.01)


async def fastapi() -> None:
    """FastAPI's own route, on uvicorn as it comes."""
    import uvicorn

    app = FastAPI()

    @app.websocket("/ws/{group}")
    async def talk(socket: WebSocket, group: str) -> None:  # noqa: ARG001
        await socket.accept()
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            pass

    @app.get("/resident")
    async def tell() -> int:
        return resident()

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    await uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).serve([listener])


if __name__ == "__main__":
    uvloop.run({"torpor": torpor, "fastapi": fastapi}[sys.argv[1]]())
