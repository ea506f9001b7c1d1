"""The authority's values as the admin API's JSON."""

import json
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.audit.store import LoggedEvent
from agentshield.authority.model import (
    Agent,
    AttestedNode,
    JoinToken,
    PolicyVersion,
    RegistrationEntry,
    WaitingToken,
)
from agentshield.identity.bundle import TrustBundle

JsonObject = dict[str, Any]


def agent_json(agent: Agent) -> JsonObject:
    """Give an agent."""
    return {
        "name": agent.name,
        "spiffe_id": str(agent.spiffe_id),
        "status": agent.standing.value,
        "status_reason": agent.status_reason or None,
        "owner": agent.owner,
        "sponsor": agent.sponsor,
        "groups": list(agent.groups),
        "risk": agent.risk,
        "skills": dict(agent.skills),
        "blueprint": agent.blueprint,
        "created_at": _time(agent.created_at),
    }


def entry_json(entry: RegistrationEntry) -> JsonObject:
    """Give a registration entry, with SPIRE's members."""
    return {
        "id": entry.entry_id,
        "spiffe_id": str(entry.spiffe_id),
        "parent_id": str(entry.parent_id),
        "selectors": [str(selector) for selector in entry.selectors],
        "x509_svid_ttl": _seconds(entry.x509_svid_ttl),
        "jwt_svid_ttl": _seconds(entry.jwt_svid_ttl),
        "federates_with": [str(domain) for domain in entry.federates_with],
        "dns_names": list(entry.dns_names),
        "admin": entry.admin,
        "downstream": entry.downstream,
        "store_svid": entry.store_svid,
        "hint": entry.hint or None,
        "expires_at": _time(entry.expires_at),
        "created_at": _time(entry.created_at),
        "revision": entry.revision_number,
    }


def node_json(node: AttestedNode, at: datetime) -> JsonObject:
    """Give an attested node."""
    state = "banned" if node.banned else "expired" if at >= node.svid_expires_at else "attested"
    return {
        "id": str(node.spiffe_id),
        "attestation_type": node.attestation_type,
        "state": state,
        "serial": node.serial or None,
        "expires_at": _time(node.svid_expires_at),
        "selectors": [str(selector) for selector in node.selectors],
        "can_reattest": node.can_reattest,
        "agent_version": node.agent_version or None,
        "attested_at": _time(node.attested_at),
    }


def token_json(token: JoinToken | WaitingToken) -> JsonObject:
    """Give a join token without its value."""
    return {
        "id": token.digest[:16],
        "spiffe_id": None if token.agent_id is None else str(token.agent_id),
        "expires_at": _time(token.expires_at),
    }


def bundle_json(bundle: TrustBundle) -> JsonObject:
    """Give a trust bundle, with its documents."""
    certificates = [authority.certificate for authority in bundle.x509_authorities]
    return {
        "trust_domain": str(bundle.trust_domain),
        "x509_authorities": len(certificates),
        "jwt_authorities": len(bundle.jwt_authorities),
        "wit_authorities": len(bundle.wit_authorities),
        "sequence": bundle.sequence,
        "pem": "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates),
        "spiffe": json.loads(bundle.to_json()),
    }


def policy_json(version: PolicyVersion) -> JsonObject:
    """Give an activated policy set."""
    return {
        "version": version.number,
        "digest": version.digest,
        "files": sorted(version.files),
        "sources": dict(version.files),
        "activated_at": _time(version.activated_at),
        "activated_by": version.activated_by,
    }


def event_json(event: LoggedEvent) -> JsonObject:
    """Give an audit event: the members people look for, and the whole as OCSF."""
    own = (event.ocsf or {}).get("agentshield") or {}
    return {
        "id": event.event_id,
        "index": event.index,
        "time": _time(event.time),
        "name": event.name,
        "actor": _first(own, "caller", "by", "peer", "node", "reported_by"),
        "target": _first(own, "callee", "service", "spiffe_id", "agent", "node", "authority_id", "bundle_digest"),
        "action": _first(own, "skill", "action", "change"),
        "outcome": _first(own, "decision"),
        "reason": ",".join(own.get("reasons") or ()) or _first(own, "detail"),
        "erased": event.body is None,
        "ocsf": event.ocsf,
    }


def _first(own: JsonObject, *names: str) -> str | None:
    return next((str(own[name]) for name in names if own.get(name)), None)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())
