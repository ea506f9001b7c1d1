"""Clients over the admin socket: what an agent may prove itself by beside its SVIDs."""

from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentshield.app.admin.oauth_members import bytes_in, key_of, named_agent, same_key, sha256_of, texts_in
from agentshield.app.admin.request import Members, context_of, read_body, required, seconds_in, who_asks
from agentshield.errors import InvalidInputError
from agentshield.oauth.metadata import client_methods
from agentshield.oauth.model import ClientAuthMethod, ClientRegistration
from agentshield.oauth.registration_rules import SECRET_METHODS
from agentshield.oauth.settings import OAuthSettings

_CREATE: Members = {
    "client_id": str,
    "agent": str,
    "methods": list,
    "jwks": str,
    "attester_jwks": str,
    "tls_ca": str,
    "tls_san_dns": str,
    "tls_san_uri": str,
    "redirect_uris": list,
    "notification_endpoint": str,
    "notification_ca_pem": str,
}
_SECRET: Members = {"lifetime": int, "reason": str}


async def create_client(request: Request) -> Response:
    """Register a client of an agent."""
    made = await context_of(request).tokens.registrations.clients.create(
        await _client_of(request), by=who_asks(request)
    )
    return JSONResponse(client_json(made), 201)


async def replace_client(request: Request) -> Response:
    """Put a client in place of the one of its name. A secret it has stays, while it is registered for secrets."""
    records = context_of(request).tokens.registrations.clients
    old, new = await records.show(key_of(request)), await _client_of(request)
    same_key(new.client_id, key_of(request))
    kept = replace(new, created_at=old.created_at, created_by=old.created_by)
    if new.methods & SECRET_METHODS:
        kept = replace(kept, secret_sha256=old.secret_sha256, secret_expires_at=old.secret_expires_at)
    return JSONResponse(client_json(await records.replace(kept, by=who_asks(request))))


async def list_clients(request: Request) -> Response:
    """Give every client."""
    records = await context_of(request).tokens.registrations.clients.list()
    return JSONResponse({"items": [client_json(each) for each in records]})


async def show_client(request: Request) -> Response:
    """Give one client."""
    return JSONResponse(client_json(await context_of(request).tokens.registrations.clients.show(key_of(request))))


async def delete_client(request: Request) -> Response:
    """Drop a client: it gets no more tokens under this name."""
    await context_of(request).tokens.registrations.clients.delete(key_of(request), by=who_asks(request))
    return JSONResponse({})


async def issue_secret(request: Request) -> Response:
    """Make a secret for a client that cannot do better yet; nobody sees it again."""
    body = await read_body(request, _SECRET)
    lifetime = seconds_in(body, "lifetime")
    if lifetime is None:
        raise InvalidInputError("member 'lifetime' is missing")
    made = await context_of(request).tokens.registrations.issue_client_secret(
        key_of(request), lifetime=lifetime, reason=required(body, "reason"), by=who_asks(request)
    )
    secret = {"client_id": made.client_id, "secret": made.secret, "expires_at": made.expires_at.isoformat()}
    return JSONResponse(secret, 201, headers={"cache-control": "no-store"})


ROUTES = [
    Route("/v1/clients", create_client, methods=["POST"]),
    Route("/v1/clients", list_clients),
    Route("/v1/clients/{key:path}/secret", issue_secret, methods=["POST"]),
    Route("/v1/clients/{key:path}", show_client),
    Route("/v1/clients/{key:path}", replace_client, methods=["PUT"]),
    Route("/v1/clients/{key:path}", delete_client, methods=["DELETE"]),
]


def client_json(registration: ClientRegistration) -> dict[str, Any]:
    """Give a client, and nothing that it could be impersonated with."""
    ends = registration.secret_expires_at
    return {
        "client_id": registration.client_id,
        "agent": str(registration.spiffe_id),
        "methods": sorted(method.value for method in registration.methods),
        "redirect_uris": list(registration.redirect_uris),
        "notification_endpoint": registration.notification_endpoint,
        "jwks_sha256": sha256_of(registration.jwks),
        "attester_jwks_sha256": sha256_of(registration.attester_jwks),
        "notification_ca_sha256": sha256_of(registration.notification_ca_pem),
        "tls_ca_sha256": sha256_of(registration.tls_ca),
        "tls_san_dns": registration.tls_san_dns,
        "tls_san_uri": registration.tls_san_uri,
        "secret_expires_at": ends.isoformat() if ends is not None else None,
        "created_at": registration.created_at.isoformat(),
        "created_by": registration.created_by,
    }


async def _client_of(request: Request) -> ClientRegistration:
    body, context = await read_body(request, _CREATE), context_of(request)
    return ClientRegistration(
        client_id=required(body, "client_id"),
        spiffe_id=named_agent(request, required(body, "agent")),
        methods=_methods(texts_in(body, "methods"), context.tokens.settings),
        jwks=bytes_in(body, "jwks"),
        attester_jwks=bytes_in(body, "attester_jwks"),
        tls_ca=bytes_in(body, "tls_ca"),
        tls_san_dns=body.get("tls_san_dns"),
        tls_san_uri=body.get("tls_san_uri"),
        redirect_uris=tuple(sorted(texts_in(body, "redirect_uris"))),
        notification_endpoint=body.get("notification_endpoint"),
        notification_ca_pem=bytes_in(body, "notification_ca_pem"),
        created_at=context.clock(),
        created_by=who_asks(request),
    )


def _methods(named: frozenset[str], settings: OAuthSettings) -> frozenset[ClientAuthMethod]:
    """Only what is served: a client that can never prove itself would be found out by its user."""
    served = {method.value: method for method in client_methods(settings)}
    for name in sorted(named - served.keys()):
        raise InvalidInputError(f"method {name[:40]!a} is not served here, expected one of {', '.join(sorted(served))}")
    return frozenset(served[name] for name in named)
