"""Canonical JSON (RFC 8785, JCS): one value, one spelling, so that a hash of it means something.

Events are built by us from text, integers, booleans, lists and objects whose member names are plain ASCII. On that
domain a sorting JSON encoder in C gives JCS's very bytes at a fiftieth of the time; a property test holds the two
together.
What comes from outside, such as the event in a proof file, goes through the full algorithm.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import rfc8785

from agentshield.audit.errors import InvalidEventError

MAX_SAFE_INTEGER: Final = 2**53 - 1  # RFC 8785, appendix D: what every JSON reader holds exactly

_SORTED: Final = msgspec.json.Encoder(order="sorted")


def canonical_event(members: Mapping[str, Any]) -> bytes:
    """Encode members that this package built: no floats, no integer beyond 2**53, ASCII names."""
    return _SORTED.encode(members)


def canonical_json(value: Any) -> bytes:
    """Encode any JSON value.

    Raises:
        InvalidEventError: the value has no canonical form, such as an integer beyond 2**53.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidEventError(f"value has no canonical JSON form ({type(error).__name__})") from error
