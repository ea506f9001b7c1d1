from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("applied_version",)
    APPLIED_VERSION_FIELD_NUMBER: _ClassVar[int]
    applied_version: int
    def __init__(self, applied_version: _Optional[int] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("version", "snapshot_json")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_JSON_FIELD_NUMBER: _ClassVar[int]
    version: int
    snapshot_json: bytes
    def __init__(self, version: _Optional[int] = ..., snapshot_json: _Optional[bytes] = ...) -> None: ...

class RecordRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, events: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RecordResponse(_message.Message):
    __slots__ = ("receipts",)
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[Receipt]
    def __init__(self, receipts: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("event_id", "index")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    index: int
    def __init__(self, event_id: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...

class LaunchRequest(_message.Message):
    __slots__ = ("agent", "pid", "script_path", "lock_path")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    SCRIPT_PATH_FIELD_NUMBER: _ClassVar[int]
    LOCK_PATH_FIELD_NUMBER: _ClassVar[int]
    agent: str
    pid: int
    script_path: str
    lock_path: str
    def __init__(
        self,
        agent: _Optional[str] = ...,
        pid: _Optional[int] = ...,
        script_path: _Optional[str] = ...,
        lock_path: _Optional[str] = ...,
    ) -> None: ...

class LaunchResponse(_message.Message):
    __slots__ = ("spiffe_id", "selectors", "problem")
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    selectors: _containers.RepeatedScalarFieldContainer[str]
    problem: str
    def __init__(
        self, spiffe_id: _Optional[str] = ..., selectors: _Optional[_Iterable[str]] = ..., problem: _Optional[str] = ...
    ) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("pid",)
    PID_FIELD_NUMBER: _ClassVar[int]
    pid: int
    def __init__(self, pid: _Optional[int] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("report_json",)
    REPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    report_json: bytes
    def __init__(self, report_json: _Optional[bytes] = ...) -> None: ...
