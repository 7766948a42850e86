"""CloudEvents 1.0: a message as headers and bytes, and back, in binary, structured and batched mode.

A protocol's binding of CloudEvents is a `HeaderStyle`: `HTTP`, `NATS` or `KAFKA`. `encode` writes binary mode; `decode`
reads binary and structured mode, and `decode_all` batches too, which only HTTP has. The JSON format is written by
`cloudevents.structured`. Who has read the headers already has `assemble` make the message of them.

What reading asks of an envelope is what a message is known by: `id`, `source`, `specversion`, `type`, all as text.
Whatever else there is, unknown extensions too, is kept as the canonical text of its type. Nothing from outside makes
reading raise: a message without any envelope is taken as it is, under the id that its position gives it; one with a
broken envelope comes with the fault told, and holds its bytes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torpor.kernel.cloudevents.binary import decode, decode_all, encode
    from torpor.kernel.cloudevents.envelope import assemble
    from torpor.kernel.cloudevents.style import HTTP, KAFKA, NATS, HeaderStyle

__all__ = ["HTTP", "KAFKA", "NATS", "HeaderStyle", "assemble", "decode", "decode_all", "encode"]

_MODULES = {
    "decode": "binary", "decode_all": "binary", "encode": "binary", "assemble": "envelope",
    "HTTP": "style", "KAFKA": "style", "NATS": "style", "HeaderStyle": "style",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports what is asked for: an event in binary mode over HTTP needs the envelope alone."""
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
