"""A connection whose packets vanish, as behind a firewall that forgot it: none is confirmed, and nobody is told."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from typing import Any

_ATTACH_FILTER = 26  # Linux's SO_ATTACH_FILTER
_KEEP_NOTHING = struct.pack("=HBBI", 0x06, 0, 0, 0)  # a filter of one instruction


def swallow(line: Any) -> None:
    """Has the kernel drop whatever comes for a socket, before it is confirmed. On other systems than Linux it is
    confirmed, and only never answered."""
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(_KEEP_NOTHING)
        line.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))
