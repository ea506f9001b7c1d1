"""What travels from the authority to every enforcement point: the policy set and every agent's facts, under a lease."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.strict_json import parse_json_object
from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.calls import UNASSESSED, Party
from agentshield.signals.standing import AgentStanding, Standing

_MEMBERS: Final = frozenset({"version", "issued_at", "lease_seconds", "trust_domain", "policy", "agents", "federated"})


class InvalidSnapshotError(InvalidInputError):
    """Bytes that are not an enforcement snapshot."""

    code = "invalid_snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """What the registry knows about an agent. `skills` gives the risk of each skill that was assessed."""

    spiffe_id: SpiffeId
    name: str
    status: str = Standing.ACTIVE.value
    owner: str = ""
    groups: tuple[str, ...] = ()
    risk: str = UNASSESSED
    skills: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_foreign(cls, spiffe_id: SpiffeId) -> Self:
        """Suppose what little may be supposed of an agent of a trust domain that we federate with."""
        return cls(spiffe_id=spiffe_id, name=spiffe_id.path.rpartition("/")[2])

    def as_party(self) -> Party:
        """Return these facts as policies read them."""
        return Party(
            agent_id=str(self.spiffe_id),
            name=self.name,
            status=self.status,
            owner=self.owner,
            groups=self.groups,
            risk=self.risk,
            skills=self.skills,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementSnapshot:
    """All that an enforcement point decides by. `version` is the change feed's; it never goes back.

    Agents of the trust domains in `federated` need no facts of their own to call us; policies still say what they may.
    By default there are none.
    """

    version: int
    issued_at: datetime
    lease: timedelta
    bundle: PolicyBundle
    agents: tuple[AgentFacts, ...] = ()
    federated: tuple[TrustDomain, ...] = ()

    def __post_init__(self) -> None:
        if self.lease <= timedelta(0):
            raise ValueError(f"lease: it must last, not {self.lease}")

    def standing(self) -> AgentStanding:
        """Who is in good standing, by this snapshot."""
        return AgentStanding(
            epoch=self.version, agents={str(agent.spiffe_id): Standing(agent.status) for agent in self.agents}
        )

    def to_json(self) -> bytes:
        """Write what travels."""
        members = {
            "version": self.version,
            "issued_at": self.issued_at.timestamp(),
            "lease_seconds": self.lease.total_seconds(),
            "trust_domain": self.bundle.trust_domain,
            "policy": dict(self.bundle.files),
            "agents": [_agent_members(agent) for agent in self.agents],
            "federated": [domain.name for domain in self.federated],
        }
        return json.dumps(members, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what `to_json` wrote.

        A member we do not know is refused: it may narrow what we would allow without it.

        Raises:
            InvalidSnapshotError: it did not, or a release newer than ours did.
        """
        members = parse_json_object(data, what="enforcement snapshot", error=InvalidSnapshotError)
        if unknown := members.keys() - _MEMBERS:
            raise InvalidSnapshotError(f"enforcement snapshot has the unknown member {min(unknown)[:40]!r}")
        try:
            return cls(
                version=int(members["version"]),
                issued_at=datetime.fromtimestamp(members["issued_at"], UTC),
                lease=timedelta(seconds=members["lease_seconds"]),
                bundle=PolicyBundle.from_files(members["policy"], trust_domain=members["trust_domain"]),
                agents=tuple(_agent_facts(each) for each in members["agents"]),
                federated=tuple(map(TrustDomain, members.get("federated", ()))),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, AgentShieldError) as error:
            raise InvalidSnapshotError(f"enforcement snapshot has no usable {error}") from error


def _agent_members(agent: AgentFacts) -> dict[str, Any]:
    return {
        "spiffe_id": str(agent.spiffe_id),
        "name": agent.name,
        "status": agent.status,
        "owner": agent.owner,
        "groups": list(agent.groups),
        "risk": agent.risk,
        "skills": dict(agent.skills),
    }


def _agent_facts(members: Mapping[str, Any]) -> AgentFacts:
    return AgentFacts(
        spiffe_id=SpiffeId.parse(members["spiffe_id"]),
        name=str(members["name"]),
        status=Standing(members["status"]).value,
        owner=str(members["owner"]),
        groups=tuple(map(str, members["groups"])),
        risk=str(members["risk"]),
        skills={str(skill): str(risk) for skill, risk in members["skills"].items()},
    )
