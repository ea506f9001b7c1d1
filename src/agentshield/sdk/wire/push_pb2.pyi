from agentshield.sdk.wire import node_pb2 as _node_pb2
from agentshield.sdk.wire import spire_pb2 as _spire_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchEntriesRequest(_message.Message):
    __slots__ = ("applied_version",)
    APPLIED_VERSION_FIELD_NUMBER: _ClassVar[int]
    applied_version: int
    def __init__(self, applied_version: _Optional[int] = ...) -> None: ...

class EntriesUpdate(_message.Message):
    __slots__ = ("full", "upserts", "removed_ids", "version", "bundles", "more")
    FULL_FIELD_NUMBER: _ClassVar[int]
    UPSERTS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_IDS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    full: bool
    upserts: _containers.RepeatedCompositeFieldContainer[_spire_pb2.Entry]
    removed_ids: _containers.RepeatedScalarFieldContainer[str]
    version: int
    bundles: _containers.RepeatedCompositeFieldContainer[_spire_pb2.Bundle]
    more: bool
    def __init__(
        self,
        full: bool = ...,
        upserts: _Optional[_Iterable[_Union[_spire_pb2.Entry, _Mapping]]] = ...,
        removed_ids: _Optional[_Iterable[str]] = ...,
        version: _Optional[int] = ...,
        bundles: _Optional[_Iterable[_Union[_spire_pb2.Bundle, _Mapping]]] = ...,
        more: bool = ...,
    ) -> None: ...

class NewWITSVIDRequest(_message.Message):
    __slots__ = ("entry_id", "csr")
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    entry_id: str
    csr: bytes
    def __init__(self, entry_id: _Optional[str] = ..., csr: _Optional[bytes] = ...) -> None: ...

class NewWITSVIDResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class EnforcementAck(_message.Message):
    __slots__ = ("applied_version", "enforcement_points", "confirmed")
    APPLIED_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_POINTS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    applied_version: int
    enforcement_points: int
    confirmed: int
    def __init__(
        self,
        applied_version: _Optional[int] = ...,
        enforcement_points: _Optional[int] = ...,
        confirmed: _Optional[int] = ...,
    ) -> None: ...
