"""How a command tells that it failed: what went wrong and what to do, never a traceback."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torpor.kernel.errors import TorporError

USAGE = 2


def tell(error: TorporError) -> None:
    """Prints an error's message to stderr, and its traceback too with `TORPOR_DEBUG=1`."""
    if os.environ.get("TORPOR_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    else:
        print(f"torpor: {error}", file=sys.stderr, flush=True)
