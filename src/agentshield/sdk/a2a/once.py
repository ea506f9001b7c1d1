"""Our A2A extension by which a caller asks that a message be executed once, however often it is sent.

A2A leaves it to agents whether a `messageId` that comes again is a duplicate, and callers use one for many messages,
as the conformance kit does. So who wants the promise says so, in `A2A-Extensions`.
"""

from typing import Any, Final

ONCE_EXTENSION: Final = "urn:agentshield:a2a:once:1"


def once_extension() -> dict[str, Any]:
    """Return the entry for a card's `capabilities.extensions`."""
    return {
        "uri": ONCE_EXTENSION,
        "description": "A message with a messageId that was used before is not executed again",
    }
