"""The binary status trailer, `grpc-status-details-bin`: the only place where a message's *name* travels.

A spire-agent acts on a refusal only when this detail names SPIRE's type; so that is the name we write and read here.
"""

from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError, Message
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase

from agentshield.sdk.wire.spire_pb2 import PermissionDeniedDetails, RpcStatus

_PREFIX: Final = "type.googleapis.com/"
_NAMES: Final[dict[type[Message], str]] = {PermissionDeniedDetails: "spire.api.types.PermissionDeniedDetails"}
_TYPES: Final[dict[str, type[Message]]] = {name: kind for kind, name in _NAMES.items()}


class StatusDetailsCodec(StatusDetailsCodecBase):
    """Writes details under the names that the other side knows them by; skips those we do not know when reading."""

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        """Return the trailer for `details`, messages under the name that they have here, or else under their own."""
        written = RpcStatus(code=status.value, message=message or "")
        for detail in details or ():
            name = _NAMES.get(type(detail)) or detail.DESCRIPTOR.full_name
            written.details.add(type_url=_PREFIX + name, value=detail.SerializeToString())
        return written.SerializeToString()

    def decode(self, status: Status, message: str | None, data: bytes) -> Sequence[Message]:  # noqa: ARG002
        """Return the details we know; none if the trailer is damaged, since the status itself is elsewhere."""
        try:
            return tuple(_known_details(RpcStatus.FromString(data)))
        except DecodeError:
            return ()


def _known_details(status: RpcStatus) -> list[Message]:
    known = []
    for detail in status.details:
        kind = _TYPES.get(detail.type_url.rpartition("/")[2])
        if kind is not None:
            known.append(kind.FromString(detail.value))
    return known
