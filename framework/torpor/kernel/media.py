"""Media types: what a content type says of bytes."""

from __future__ import annotations

JSON = "application/json"
OCTETS = "application/octet-stream"


def media_of(content_type: str) -> str:
    """The media type alone, in lower case, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Whether a content type declares JSON: its subtype is `json`, or ends with `+json`."""
    return media_of(content_type).endswith(("/json", "+json"))


def charset_of(content_type: str) -> str:
    """The charset that a content type names, in lower case; UTF-8 when it names none."""
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return "utf-8"
