"""What the authorization server goes by, over the admin socket: resources, issuers, federated credentials, tokens."""

from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentshield.app.admin.oauth_members import bytes_in, key_of, named_agent, same_key, sha256_of, texts_in
from agentshield.app.admin.request import Members, context_of, read_body, required, seconds_in, who_asks
from agentshield.app.admin.sign_in import sign_in_json, sign_in_of
from agentshield.errors import InvalidInputError
from agentshield.oauth.errors import RegistrationNotFoundError
from agentshield.oauth.issuers.presets import record_from_preset
from agentshield.oauth.model import (
    DEFAULT_TOKEN_LIFETIME,
    FederatedCredential,
    IssuerRecord,
    Resource,
    TokenFormat,
)

_RESOURCE: Members = {
    "audience": str,
    "scopes": list,
    "server": str,
    "token_format": str,
    "algorithm": str,
    "lifetime": int,
}
_ISSUER: Members = {
    "name": str,
    "preset": str,
    "issuer": str,
    "audiences": list,
    "scopes": list,
    "jwks_url": str,
    "jwks": str,
    "ca_pem": str,
    "sign_in": dict,
}
_CREDENTIAL: Members = {
    "name": str,
    "agent": str,
    "issuer": str,
    "subject": str,
    "claims": dict,
    "audience": str,
    "description": str,
}


async def create_resource(request: Request) -> Response:
    """Register an audience."""
    made = await context_of(request).tokens.registrations.resources.create(
        await _resource_of(request), by=who_asks(request)
    )
    return JSONResponse(_resource_json(made), 201)


async def replace_resource(request: Request) -> Response:
    """Put an audience in place of the one of its name."""
    records = context_of(request).tokens.registrations.resources
    old, new = await records.show(key_of(request)), await _resource_of(request)
    same_key(new.audience, key_of(request))
    kept = replace(new, created_at=old.created_at, created_by=old.created_by)
    return JSONResponse(_resource_json(await records.replace(kept, by=who_asks(request))))


async def list_resources(request: Request) -> Response:
    """Give every audience."""
    records = await context_of(request).tokens.registrations.resources.list()
    return JSONResponse({"items": [_resource_json(each) for each in records]})


async def show_resource(request: Request) -> Response:
    """Give one audience."""
    return JSONResponse(_resource_json(await context_of(request).tokens.registrations.resources.show(key_of(request))))


async def delete_resource(request: Request) -> Response:
    """Drop an audience: no more tokens are issued for it."""
    await context_of(request).tokens.registrations.resources.delete(key_of(request), by=who_asks(request))
    return JSONResponse({})


async def create_issuer(request: Request) -> Response:
    """Register a foreign issuer by its preset."""
    made = await context_of(request).tokens.registrations.issuers.create(
        await _issuer_of(request), by=who_asks(request)
    )
    return JSONResponse(_issuer_json(made), 201)


async def replace_issuer(request: Request) -> Response:
    """Put an issuer in place of the one of its name."""
    records = context_of(request).tokens.registrations.issuers
    old, new = await records.show(key_of(request)), await _issuer_of(request)
    same_key(new.name, key_of(request))
    kept = replace(new, created_at=old.created_at, created_by=old.created_by)
    return JSONResponse(_issuer_json(await records.replace(kept, by=who_asks(request))))


async def list_issuers(request: Request) -> Response:
    """Give every foreign issuer."""
    records = await context_of(request).tokens.registrations.issuers.list()
    return JSONResponse({"items": [_issuer_json(each) for each in records]})


async def show_issuer(request: Request) -> Response:
    """Give one foreign issuer."""
    return JSONResponse(_issuer_json(await context_of(request).tokens.registrations.issuers.show(key_of(request))))


async def delete_issuer(request: Request) -> Response:
    """Stop believing a foreign issuer."""
    await context_of(request).tokens.registrations.issuers.delete(key_of(request), by=who_asks(request))
    return JSONResponse({})


async def test_issuer(request: Request) -> Response:
    """Walk through a sample token, claim by claim."""
    body, context = await read_body(request, {"token": str}), context_of(request)
    record = await context.tokens.registrations.issuers.show(key_of(request))
    checks = await context.tokens.federation.explain(required(body, "token").strip(), record)
    items = [
        {"claim": each.claim, "holds": each.holds, "actual": each.actual, "expected": each.expected, "note": each.note}
        for each in checks
    ]
    return JSONResponse({"items": items})


async def create_credential(request: Request) -> Response:
    """Say which foreign identity is which agent."""
    made = await context_of(request).tokens.registrations.credentials.create(
        await _credential_of(request), by=who_asks(request)
    )
    return JSONResponse(_credential_json(made), 201)


async def replace_credential(request: Request) -> Response:
    """Put a federated credential in place of the one of its name."""
    records = context_of(request).tokens.registrations.credentials
    old, new = await records.show(key_of(request)), await _credential_of(request)
    same_key(new.name, key_of(request))
    kept = replace(new, created_at=old.created_at, created_by=old.created_by)
    return JSONResponse(_credential_json(await records.replace(kept, by=who_asks(request))))


async def list_credentials(request: Request) -> Response:
    """Give every federated credential."""
    records = await context_of(request).tokens.registrations.credentials.list()
    return JSONResponse({"items": [_credential_json(each) for each in records]})


async def show_credential(request: Request) -> Response:
    """Give one federated credential."""
    record = await context_of(request).tokens.registrations.credentials.show(key_of(request))
    return JSONResponse(_credential_json(record))


async def delete_credential(request: Request) -> Response:
    """Stop taking a foreign identity for an agent."""
    await context_of(request).tokens.registrations.credentials.delete(key_of(request), by=who_asks(request))
    return JSONResponse({})


async def revoke_tokens(request: Request) -> Response:
    """Revoke a token by its jti, or all of an agent, and whatever derives from them: done first, recorded then."""
    body, context = await read_body(request, {"jti": str, "agent": str}), context_of(request)
    if len(body) != 1:
        raise InvalidInputError(f"request names {len(body)} of 'jti' and 'agent', expected one")
    revoker, by, at = context.tokens.service.revoker, who_asks(request), context.clock()
    if "agent" in body:
        revoked = await revoker.agent(named_agent(request, body["agent"]), by=by, at=at)
        return JSONResponse({"revoked": [each.jti for each in revoked]})
    jti = body["jti"]
    if await context.tokens.store.tokens.find(jti) is None:
        hint = "its jti is in the token, and in the audit log"
        raise RegistrationNotFoundError(f"no token {jti[:64]!a} is known", hint=hint)
    revoked = await revoker.token(jti, by=by, at=at)
    return JSONResponse({"jti": jti, "revoked": [each.jti for each in revoked]})


ROUTES = [
    Route("/v1/resources", create_resource, methods=["POST"]),
    Route("/v1/resources", list_resources),
    Route("/v1/resources/{key:path}", show_resource),
    Route("/v1/resources/{key:path}", replace_resource, methods=["PUT"]),
    Route("/v1/resources/{key:path}", delete_resource, methods=["DELETE"]),
    Route("/v1/issuers", create_issuer, methods=["POST"]),
    Route("/v1/issuers", list_issuers),
    Route("/v1/issuers/{key}/test", test_issuer, methods=["POST"]),
    Route("/v1/issuers/{key}", show_issuer),
    Route("/v1/issuers/{key}", replace_issuer, methods=["PUT"]),
    Route("/v1/issuers/{key}", delete_issuer, methods=["DELETE"]),
    Route("/v1/federated-credentials", create_credential, methods=["POST"]),
    Route("/v1/federated-credentials", list_credentials),
    Route("/v1/federated-credentials/{key}", show_credential),
    Route("/v1/federated-credentials/{key}", replace_credential, methods=["PUT"]),
    Route("/v1/federated-credentials/{key}", delete_credential, methods=["DELETE"]),
    Route("/v1/tokens/revoke", revoke_tokens, methods=["POST"]),
]


async def _resource_of(request: Request) -> Resource:
    body, context = await read_body(request, _RESOURCE), context_of(request)
    return Resource(
        audience=required(body, "audience"),
        scopes=texts_in(body, "scopes"),
        server=named_agent(request, body["server"]) if "server" in body else None,
        token_format=_format(body.get("token_format", TokenFormat.JWT.value)),
        algorithm=body.get("algorithm", "ES256"),
        lifetime=seconds_in(body, "lifetime") or DEFAULT_TOKEN_LIFETIME,
        created_at=context.clock(),
        created_by=who_asks(request),
    )


async def _issuer_of(request: Request) -> IssuerRecord:
    body, context = await read_body(request, _ISSUER), context_of(request)
    return record_from_preset(
        required(body, "preset"),
        name=required(body, "name"),
        issuer=required(body, "issuer"),
        audiences=texts_in(body, "audiences") or frozenset({context.tokens.settings.issuer}),
        created_at=context.clock(),
        created_by=who_asks(request),
        jwks_url=body.get("jwks_url"),
        jwks=bytes_in(body, "jwks"),
        ca_pem=bytes_in(body, "ca_pem"),
        scopes=texts_in(body, "scopes"),
        sign_in=sign_in_of(body),
    )


async def _credential_of(request: Request) -> FederatedCredential:
    body, context = await read_body(request, _CREDENTIAL), context_of(request)
    return FederatedCredential(
        name=required(body, "name"),
        agent=named_agent(request, required(body, "agent")),
        issuer=required(body, "issuer"),
        subject=body.get("subject"),
        claims=body.get("claims", {}),
        audience=body.get("audience") or context.tokens.settings.issuer,
        description=body.get("description", ""),
        created_at=context.clock(),
        created_by=who_asks(request),
    )


def _resource_json(resource: Resource) -> dict[str, Any]:
    return {
        "audience": resource.audience,
        "scopes": sorted(resource.scopes),
        "server": str(resource.server) if resource.server is not None else None,
        "token_format": resource.token_format.value,
        "algorithm": resource.algorithm,
        "lifetime": int(resource.lifetime.total_seconds()),
        "created_at": resource.created_at.isoformat(),
    }


def _issuer_json(record: IssuerRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "issuer": record.issuer,
        "preset": record.preset,
        "algorithms": sorted(record.algorithms),
        "audiences": sorted(record.audiences),
        "subject_profile": record.subject_profile,
        "scopes": sorted(record.scopes),
        "jwks_url": record.jwks_url,
        "jwks_sha256": sha256_of(record.jwks),
        "ca_sha256": sha256_of(record.ca_pem),
        "sign_in": sign_in_json(record.sign_in),
        "created_at": record.created_at.isoformat(),
    }


def _credential_json(credential: FederatedCredential) -> dict[str, Any]:
    return {
        "name": credential.name,
        "agent": str(credential.agent),
        "issuer": credential.issuer,
        "subject": credential.subject,
        "claims": dict(credential.claims),
        "audience": credential.audience,
        "description": credential.description,
        "created_at": credential.created_at.isoformat(),
    }


def _format(text: str) -> TokenFormat:
    try:
        return TokenFormat(text)
    except ValueError:
        raise InvalidInputError(f"token_format is {text[:40]!a}, expected jwt or opaque") from None
