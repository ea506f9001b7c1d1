"""Node agents, join tokens and trust bundles over the admin socket."""

import json
from collections.abc import AsyncIterator
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agentshield.app.admin.request import context_of, read_body, required, seconds_in, who_asks
from agentshield.app.admin.resources import bundle_json, node_json, token_json
from agentshield.authority.errors import NodeNotFoundError
from agentshield.errors import InvalidInputError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

_OURS = "self"


async def list_nodes(request: Request) -> Response:
    """Give the attested node agents."""
    context = context_of(request)
    at = context.clock()
    return JSONResponse({"items": [node_json(node, at) for node in await context.authority.list_nodes()]})


async def show_node(request: Request) -> Response:
    """Give one node agent."""
    return JSONResponse(await _node(request))


async def ban_node(request: Request) -> Response:
    """Ban a node agent."""
    await context_of(request).authority.ban_node(_id(request), by=who_asks(request))
    return JSONResponse(await _node(request))


async def evict_node(request: Request) -> Response:
    """Evict a node agent."""
    await context_of(request).authority.evict_node(_id(request), by=who_asks(request))
    return JSONResponse({})


async def create_token(request: Request) -> Response:
    """Create a join token: the only answer that ever holds its value."""
    body = await read_body(request, {"ttl": int, "spiffe_id": str})
    alias = SpiffeId.parse(body["spiffe_id"]) if "spiffe_id" in body else None
    token = await context_of(request).authority.create_join_token(seconds_in(body, "ttl"), alias, by=who_asks(request))
    return JSONResponse({**token_json(token), "token": token.value}, 201)


async def list_tokens(request: Request) -> Response:
    """Give the join tokens that can still be used, by their ids."""
    tokens = await context_of(request).authority.list_join_tokens()
    return JSONResponse({"items": [token_json(token) for token in tokens]})


async def revoke_token(request: Request) -> Response:
    """Make a join token unusable."""
    await context_of(request).authority.revoke_join_token(request.path_params["id"], by=who_asks(request))
    return JSONResponse({})


async def list_bundles(request: Request) -> Response:
    """Give our bundle and the federated ones."""
    authority = context_of(request).authority
    return JSONResponse({"items": [bundle_json(b) for b in (authority.bundle(), *authority.federated_bundles())]})


async def show_bundle(request: Request) -> Response:
    """Give one bundle; `self` is ours."""
    authority = context_of(request).authority
    name = request.path_params["trust_domain"]
    if name in (_OURS, authority.settings.trust_domain.name):
        return JSONResponse(bundle_json(authority.bundle()))
    return JSONResponse(bundle_json(authority.federated_bundle(TrustDomain.parse(name))))


async def set_bundle(request: Request) -> Response:
    """Set or replace the bundle of another trust domain."""
    body = await read_body(request, {"format": str, "document": str})
    trust_domain = TrustDomain.parse(request.path_params["trust_domain"])
    bundle = bundle_from(trust_domain, body.get("format", "spiffe"), required(body, "document").encode())
    await context_of(request).authority.set_federated_bundle(bundle, by=who_asks(request))
    return JSONResponse(bundle_json(bundle))


async def delete_bundle(request: Request) -> Response:
    """Delete the bundle of another trust domain."""
    trust_domain = TrustDomain.parse(request.path_params["trust_domain"])
    await context_of(request).authority.delete_federated_bundle(trust_domain, by=who_asks(request))
    return JSONResponse({})


async def watch_bundle(request: Request) -> Response:
    """Stream our bundle, now and whenever it changes."""
    authority = context_of(request).authority

    async def lines() -> AsyncIterator[str]:
        shown = None
        async for _ in authority.watch_bundles():
            if (bundle := authority.bundle()) != shown:
                shown = bundle
                yield json.dumps(bundle_json(bundle)) + "\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


ROUTES = [
    Route("/v1/nodes", list_nodes),
    Route("/v1/nodes/{id:path}/ban", ban_node, methods=["POST"]),
    Route("/v1/nodes/{id:path}", show_node),
    Route("/v1/nodes/{id:path}", evict_node, methods=["DELETE"]),
    Route("/v1/join-tokens", create_token, methods=["POST"]),
    Route("/v1/join-tokens", list_tokens),
    Route("/v1/join-tokens/{id}", revoke_token, methods=["DELETE"]),
    Route("/v1/bundles", list_bundles),
    Route("/v1/bundles/self/watch", watch_bundle),
    Route("/v1/bundles/{trust_domain}", show_bundle),
    Route("/v1/bundles/{trust_domain}", set_bundle, methods=["PUT"]),
    Route("/v1/bundles/{trust_domain}", delete_bundle, methods=["DELETE"]),
]


def bundle_from(trust_domain: TrustDomain, form: str, document: bytes) -> TrustBundle:
    """Read a bundle document.

    Raises:
        InvalidInputError: it is not one of that format.
    """
    match form:
        case "spiffe":
            return TrustBundle.from_json(trust_domain, document)
        case "jwks":
            return TrustBundle.from_jwks(trust_domain, document)
        case "pem":
            try:
                certificates = x509.load_pem_x509_certificates(document)
            except ValueError as error:
                raise InvalidInputError(
                    f"the bundle of {trust_domain} is not PEM certificates", hint=str(error)
                ) from error
            return TrustBundle.from_x509_der(trust_domain, b"".join(c.public_bytes(Encoding.DER) for c in certificates))
        case _:
            raise InvalidInputError(f"bundle format is {form[:20]!a}, expected pem, spiffe or jwks")


def _id(request: Request) -> SpiffeId:
    return SpiffeId.parse(request.path_params["id"])


async def _node(request: Request) -> dict[str, Any]:
    context, wanted = context_of(request), _id(request)
    for node in await context.authority.list_nodes():
        if node.spiffe_id == wanted:
            return node_json(node, context.clock())
    raise NodeNotFoundError(f"no node agent {wanted} is attested", hint="agentshield node list")
