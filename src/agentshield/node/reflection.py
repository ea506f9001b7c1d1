"""gRPC reflection, so that `grpcurl` can talk to the socket without our .proto files (Workload Endpoint 6).

Inside AgentShield the Workload API's messages live in a package of ours (see workload.proto). Reflection shows what
travels: the standard's names, which have none. So it has a descriptor pool of its own.
"""

from collections.abc import Sequence

from google.protobuf import descriptor_pb2, struct_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpclib.health.v1 import health_pb2
from grpclib.reflection.service import ServerReflection

from agentshield.node.socket_server import Service
from agentshield.sdk.wire import methods, node_pb2, workload_pb2

_WORKLOAD_API = "SpiffeWorkloadAPI"


def with_reflection(services: Sequence[Service]) -> list[Service]:
    """Return the services and the reflection services (v1 and v1alpha) that describe them."""
    pool = DescriptorPool()
    for file in (struct_pb2, node_pb2, health_pb2):
        pool.AddSerializedFile(file.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(_standard_workload_file().SerializeToString())
    extended: list[Service] = list(ServerReflection.extend(services, pool=pool))
    return extended


def _standard_workload_file() -> descriptor_pb2.FileDescriptorProto:
    """The Workload API as the standard has it: no package, and the service itself."""
    file = descriptor_pb2.FileDescriptorProto.FromString(workload_pb2.DESCRIPTOR.serialized_pb)
    ours = f".{file.package}."
    file.name = "workload.proto"
    file.package = ""
    for message in file.message_type:
        _rename_references(message, ours)
    service = file.service.add(name=_WORKLOAD_API)
    for method in methods.ALL_METHODS:
        _, service_name, name = method.path.split("/")
        if service_name == _WORKLOAD_API:
            service.method.add(
                name=name,
                input_type=f".{method.request.DESCRIPTOR.name}",
                output_type=f".{method.reply.DESCRIPTOR.name}",
                server_streaming=method.cardinality.server_streaming,
            )
    return file


def _rename_references(message: descriptor_pb2.DescriptorProto, ours: str) -> None:
    for field in message.field:
        if field.type_name.startswith(ours):
            field.type_name = "." + field.type_name.removeprefix(ours)
    for nested in message.nested_type:  # the entries of map fields
        _rename_references(nested, ours)
