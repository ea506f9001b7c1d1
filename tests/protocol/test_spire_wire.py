"""The wire contract with SPIRE 1.15: a stock agent reads field numbers, types and paths, and nothing else."""

import pytest
from google.protobuf.descriptor import FieldDescriptor

from agentshield.sdk.wire import methods, spire_pb2, workload_pb2

REPEATED, MAP = "repeated ", "map "
_TYPES = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_ENUM: "enum",
}

SPIRE = {
    "SPIFFEID": "1 string, 2 string",
    "Selector": "1 string, 2 string",
    "Status": "1 int32, 2 string",
    "X509SVID": "1 repeated bytes, 2 SPIFFEID, 3 int64, 4 string",
    "JWTSVID": "1 string, 2 SPIFFEID, 3 int64, 4 int64, 5 string",
    "X509Certificate": "1 bytes, 2 bool",
    "JWTKey": "1 bytes, 2 string, 3 int64, 4 bool",
    "Bundle": "1 string, 2 repeated X509Certificate, 3 repeated JWTKey, 4 int64, 5 uint64, 6 repeated JWTKey",
    "BundleMask": "2 bool, 3 bool, 4 bool, 5 bool, 6 bool",
    "Entry": (
        "1 string, 2 SPIFFEID, 3 SPIFFEID, 4 repeated Selector, 5 int32, 6 repeated string, 7 bool, 8 bool, 9 int64, "
        "10 repeated string, 11 int64, 12 bool, 13 int32, 14 string, 15 int64, 16 AdditionalAttributes"
    ),
    "EntryMask": ", ".join(f"{number} bool" for number in range(2, 17)),
    "AdditionalAttributes": "1 bool, 2 bool",
    "AttestationData": "1 string, 2 bytes",
    "AgentX509SVIDParams": "1 bytes",
    "AttestAgentRequest": "1 Params, 2 bytes",
    "AttestAgentRequest.Params": "1 AttestationData, 2 AgentX509SVIDParams",
    "AttestAgentResponse": "1 Result, 2 bytes",
    "AttestAgentResponse.Result": "1 X509SVID, 2 bool",
    "RenewAgentRequest": "1 AgentX509SVIDParams",
    "RenewAgentResponse": "1 X509SVID",
    "PostStatusRequest": "1 uint64, 2 string",
    "PostStatusResponse": "",
    "SyncAuthorizedEntriesRequest": "1 EntryMask, 2 repeated string",
    "SyncAuthorizedEntriesResponse": "1 repeated EntryRevision, 2 repeated Entry, 3 bool",
    "EntryRevision": "1 string, 2 int64, 3 int64",
    "GetBundleRequest": "1 BundleMask",
    "GetFederatedBundleRequest": "1 string, 2 BundleMask",
    "NewX509SVIDParams": "1 string, 2 bytes",
    "BatchNewX509SVIDRequest": "1 repeated NewX509SVIDParams",
    "BatchNewX509SVIDResponse": "1 repeated Result",
    "BatchNewX509SVIDResponse.Result": "1 Status, 2 X509SVID",
    "NewJWTSVIDRequest": "1 string, 2 repeated string",
    "NewJWTSVIDResponse": "1 JWTSVID",
    "RpcStatus": "1 int32, 2 string, 3 repeated Any",
    "PermissionDeniedDetails": "1 enum",
}

WORKLOAD = {
    "X509SVIDRequest": "",
    "X509SVIDResponse": "1 repeated X509SVID, 2 repeated bytes, 3 map string bytes",
    "X509SVID": "1 string, 2 bytes, 3 bytes, 4 bytes, 5 string",
    "X509BundlesRequest": "",
    "X509BundlesResponse": "1 repeated bytes, 2 map string bytes",
    "JWTSVIDRequest": "1 repeated string, 2 string",
    "JWTSVIDResponse": "1 repeated JWTSVID",
    "JWTSVID": "1 string, 2 string, 3 string",
    "JWTBundlesRequest": "",
    "JWTBundlesResponse": "1 map string bytes",
    "ValidateJWTSVIDRequest": "1 string, 2 string",
    "ValidateJWTSVIDResponse": "1 string, 2 Struct",
    "WITSVIDRequest": "1 string",
    "WITSVIDResponse": "1 repeated WITSVID",
    "WITSVID": "1 string, 2 string, 3 string, 4 string",
    "WITBundlesRequest": "",
    "WITBundlesResponse": "1 map string string",
}

PATHS = {
    "/spire.api.server.agent.v1.Agent/AttestAgent": (True, True),
    "/spire.api.server.agent.v1.Agent/RenewAgent": (False, False),
    "/spire.api.server.agent.v1.Agent/PostStatus": (False, False),
    "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries": (True, True),
    "/spire.api.server.bundle.v1.Bundle/GetBundle": (False, False),
    "/spire.api.server.bundle.v1.Bundle/GetFederatedBundle": (False, False),
    "/spire.api.server.svid.v1.SVID/BatchNewX509SVID": (False, False),
    "/spire.api.server.svid.v1.SVID/NewJWTSVID": (False, False),
    "/SpiffeWorkloadAPI/FetchX509SVID": (False, True),
    "/SpiffeWorkloadAPI/FetchX509Bundles": (False, True),
    "/SpiffeWorkloadAPI/FetchJWTSVID": (False, False),
    "/SpiffeWorkloadAPI/FetchJWTBundles": (False, True),
    "/SpiffeWorkloadAPI/ValidateJWTSVID": (False, False),
    "/SpiffeWorkloadAPI/FetchWITSVID": (False, True),
    "/SpiffeWorkloadAPI/FetchWITBundles": (False, True),
}


def described(message) -> str:
    return ", ".join(f"{field.number} {type_of(field)}" for field in message.fields)


def type_of(field: FieldDescriptor) -> str:
    kind = _TYPES.get(field.type) or field.message_type.name
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return MAP + " ".join(type_of(part) for part in field.message_type.fields)
    return (REPEATED if field.is_repeated else "") + kind


def messages_of(module) -> dict[str, str]:
    found = {}
    for name, message in module.DESCRIPTOR.message_types_by_name.items():
        found[name] = described(message)
        for inner in message.nested_types:
            if not inner.GetOptions().map_entry:
                found[f"{name}.{inner.name}"] = described(inner)
    return found


@pytest.mark.parametrize(("module", "contract"), [(spire_pb2, SPIRE), (workload_pb2, WORKLOAD)])
def test_field_numbers_and_types(module, contract):
    """A wrong number is read as another field: `admin` for `downstream`, or nothing at all."""
    assert messages_of(module) == contract


def test_paths_and_shapes():
    """A wrong path is a method that does not exist."""
    standard = {
        each.path: tuple(each.cardinality.value) for each in methods.ALL_METHODS if "agentshield" not in each.path
    }
    assert standard == PATHS


def test_reasons_of_refusal():
    """A stock agent attests anew at 1, 2, 3 and 5, and gives its SVID up at 4."""
    assert dict(spire_pb2.PermissionDeniedDetails.Reason.items()) == {
        "UNKNOWN": 0,
        "AGENT_EXPIRED": 1,
        "AGENT_NOT_ATTESTED": 2,
        "AGENT_NOT_ACTIVE": 3,
        "AGENT_BANNED": 4,
        "AGENT_MUST_REATTEST": 5,
    }
