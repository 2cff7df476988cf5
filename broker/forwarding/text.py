"""Bytes in JSON."""

import base64


def text_or_base64(name: str, data: bytes) -> dict[str, object]:
    """What is UTF-8 is text, else it is in base64, and its name says so."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
