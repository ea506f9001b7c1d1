"""Who calls, in the words of `a2a-sdk`: context builders for HTTP and gRPC that know, and pass no token on.

The SDK's own take Starlette's user, copy every header, `Authorization` included, to where executors and logs find it,
and know nobody at all on gRPC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from a2a.auth.user import User
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.grpc_handler import GrpcServerCallContextBuilder
from a2a.server.routes.common import ServerCallContextBuilder

from agentshield.a2a.owners import Owner
from agentshield.identity.verify import VerifiedIdentity
from agentshield.identity.x509_svid import load_pem_certificates
from agentshield.sdk.a2a.operations import EXTENSIONS_HEADER, VERSION_HEADER, Binding
from agentshield.sdk.errors import CallerUnknownError
from agentshield.sdk.shield import Shield
from agentshield.sdk.visit import VISIT, Visit

if TYPE_CHECKING:
    from starlette.requests import Request

_CALL: Final = "agentshield.call"  # in the state of a ServerCallContext: a ShieldedCall
_KEPT: Final = frozenset({VERSION_HEADER, EXTENSIONS_HEADER, "traceparent", "tracestate", "content-type"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ShieldedCall:
    """What the rules need to know of a call beside its request. `is_grpc`: it came by gRPC."""

    visit: Visit
    version: str
    is_grpc: bool = False

    def binding(self, context: ServerCallContext) -> Binding:
        """By which binding it came; only the JSON-RPC dispatcher says its method's name."""
        if self.is_grpc:
            return Binding.GRPC
        return Binding.JSON_RPC if "method" in context.state else Binding.HTTP_JSON


class ShieldUser(User):
    """Whoever calls, as the SDK's stores know them: one name for each owner, which no other can have."""

    def __init__(self, visit: Visit) -> None:
        self._owner = Owner.of(visit.who)

    @property
    def is_authenticated(self) -> bool:
        """Always: nobody comes this far unknown."""
        return True

    @property
    def user_name(self) -> str:
        """A stable name for (issuer, subject, acting agent)."""
        return self._owner.key


class ShieldContextBuilder(ServerCallContextBuilder):
    """For `create_jsonrpc_routes` and `create_rest_routes`, behind `ShieldMiddleware`."""

    def build(self, request: "Request") -> ServerCallContext:
        """Return the context of one request. Raises: CallerUnknownError, it did not pass `ShieldMiddleware`."""
        visit = request.scope.get(VISIT)
        if not isinstance(visit, Visit):
            raise CallerUnknownError("this application is not behind ShieldMiddleware")
        headers = {name: value for name, value in request.headers.items() if name in _KEPT}
        return _context(visit, headers, is_grpc=False)


class GrpcShieldContextBuilder(GrpcServerCallContextBuilder):
    """For `GrpcHandler`, on a server with `grpc_server_credentials`: callers come by mTLS, with an X509-SVID."""

    def __init__(self, shield: Shield) -> None:
        self._shield = shield

    def build(self, context: Any) -> ServerCallContext:
        """Return the context of one call. Raises: AuthenticationError, the certificate is nobody's that we know."""
        metadata = {str(name).lower(): str(value) for name, value in context.invocation_metadata() or ()}
        headers = {name: value for name, value in metadata.items() if name in _KEPT}
        visit = Visit(shield=self._shield, peer=self._peer(context), trace=headers.get("traceparent"))
        return _context(visit, headers, is_grpc=True)

    def _peer(self, context: Any) -> VerifiedIdentity:
        """grpc has verified the chain against some bundle; which one may, only the name in it says."""
        leaf = (context.auth_context() or {}).get("x509_pem_cert", [])
        if len(leaf) != 1:
            raise CallerUnknownError("the connection shows no certificate")
        return self._shield.source.verifier.verify(
            [each.public_bytes(_der()) for each in load_pem_certificates(leaf[0])], at=self._shield.clock()
        )


def shielded_call(context: ServerCallContext) -> ShieldedCall:
    """Return who calls. Raises: CallerUnknownError, the context was made by another builder."""
    found = context.state.get(_CALL)
    if not isinstance(found, ShieldedCall):
        raise CallerUnknownError("this handler needs ShieldContextBuilder, or GrpcShieldContextBuilder on gRPC")
    return found


def _context(visit: Visit, headers: Mapping[str, str], *, is_grpc: bool) -> ServerCallContext:
    extensions = {each.strip() for each in headers.get(EXTENSIONS_HEADER, "").split(",") if each.strip()}
    call = ShieldedCall(visit=visit, version=headers.get(VERSION_HEADER, ""), is_grpc=is_grpc)
    return ServerCallContext(
        state={_CALL: call, "headers": dict(headers)}, user=ShieldUser(visit), requested_extensions=extensions
    )


def _der() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER
