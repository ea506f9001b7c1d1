"""Registration entries over the admin socket."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentshield.app.admin.request import Members, context_of, read_body, required, seconds_in, time_in, who_asks
from agentshield.app.admin.resources import entry_json
from agentshield.authority.entry_filter import EntryFilter
from agentshield.authority.errors import ForeignTrustDomainError
from agentshield.authority.model import RegistrationEntry, all_nodes_id
from agentshield.authority.selectors import Selector
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

_MEMBERS: Members = {
    "spiffe_id": str,
    "parent_id": str,
    "selectors": list,
    "x509_svid_ttl": int,
    "jwt_svid_ttl": int,
    "federates_with": list,
    "dns_names": list,
    "admin": bool,
    "downstream": bool,
    "store_svid": bool,
    "hint": str,
    "expires_at": str,
}


async def create_entry(request: Request) -> Response:
    """Create an entry; without a parent it is for any node agent of the trust domain."""
    body = await read_body(request, _MEMBERS)
    authority = context_of(request).authority
    home = authority.settings.trust_domain
    spiffe_id = SpiffeId.parse(required(body, "spiffe_id"))
    if not spiffe_id.member_of(home):
        raise ForeignTrustDomainError(
            f"{spiffe_id} is not in trust domain {home}, which is the only one this authority may sign for",
            hint=f"agentshield up --trust-domain {spiffe_id.trust_domain} --state-dir DIR",
        )
    entry = RegistrationEntry(
        **{"parent_id": all_nodes_id(home), "selectors": (), **_fields(body), "spiffe_id": spiffe_id}
    )
    return JSONResponse(entry_json(await authority.create_entry(entry, by=who_asks(request))), 201)


async def update_entry(request: Request) -> Response:
    """Change the members that are given."""
    body = await read_body(request, _MEMBERS)
    authority = context_of(request).authority
    entry = await authority.get_entry(request.path_params["id"])
    changed = replace(entry, **_fields(body))
    return JSONResponse(entry_json(await authority.update_entry(changed, by=who_asks(request))))


async def show_entry(request: Request) -> Response:
    """Give one entry."""
    return JSONResponse(entry_json(await context_of(request).authority.get_entry(request.path_params["id"])))


async def delete_entry(request: Request) -> Response:
    """Delete an entry."""
    entry = await context_of(request).authority.delete_entry(request.path_params["id"], by=who_asks(request))
    return JSONResponse(entry_json(entry))


async def list_entries(request: Request) -> Response:
    """Give the entries that match."""
    query = request.query_params
    wanted = EntryFilter(
        by_spiffe_id=SpiffeId.parse(query["spiffe_id"]) if "spiffe_id" in query else None,
        by_parent_id=SpiffeId.parse(query["parent_id"]) if "parent_id" in query else None,
    )
    page = await context_of(request).authority.list_entries(wanted)
    return JSONResponse({"items": [entry_json(entry) for entry in page.entries]})


async def count_entries(request: Request) -> Response:
    """Count the entries."""
    return JSONResponse({"count": await context_of(request).authority.count_entries()})


ROUTES = [
    Route("/v1/entries/count", count_entries),
    Route("/v1/entries", create_entry, methods=["POST"]),
    Route("/v1/entries", list_entries),
    Route("/v1/entries/{id}", show_entry),
    Route("/v1/entries/{id}", update_entry, methods=["PUT"]),
    Route("/v1/entries/{id}", delete_entry, methods=["DELETE"]),
]


def _fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Turn JSON members into the entry's; members that are not given are left out."""
    fields = {name: body[name] for name in ("admin", "downstream", "store_svid", "hint") if name in body}
    fields |= {name: SpiffeId.parse(body[name]) for name in ("spiffe_id", "parent_id") if name in body}
    fields |= {name: seconds_in(body, name) for name in ("x509_svid_ttl", "jwt_svid_ttl") if name in body}
    if "selectors" in body:
        fields["selectors"] = tuple(Selector.parse(str(text)) for text in body["selectors"])
    if "federates_with" in body:
        fields["federates_with"] = tuple(TrustDomain.parse(str(text)) for text in body["federates_with"])
    if "dns_names" in body:
        fields["dns_names"] = tuple(str(text) for text in body["dns_names"])
    if "expires_at" in body:
        fields["expires_at"] = time_in(body, "expires_at")
    return fields
