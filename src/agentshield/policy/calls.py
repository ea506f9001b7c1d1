"""A call between two agents, put as the policy engine understands it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from agentshield.policy.engine import Entity, Request
from agentshield.policy.values import EntityUid, Value

INVOKE: Final = "invoke"
ACTIVE: Final = "active"
UNASSESSED: Final = "low"


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """What policies may know about an agent. `agent_id` is its SPIFFE ID; `skills` gives the risk of each assessed."""

    agent_id: str
    name: str
    status: str = ACTIVE
    owner: str = ""
    groups: tuple[str, ...] = ()
    risk: str = UNASSESSED
    skills: Mapping[str, str] = field(default_factory=dict)

    @property
    def uid(self) -> EntityUid:
        """The agent's name in policies: its whole SPIFFE ID, which no other trust domain can have."""
        return EntityUid("Agent", self.agent_id)


def skill_uid(callee_id: str, skill: str) -> EntityUid:
    """Return a skill's name in policies: skills of two agents never share one."""
    return EntityUid("Skill", f"{callee_id}#{skill}")


def call_request(
    caller: Party, skill: str, *, callee: Party, context: Mapping[str, Value], action: str = INVOKE
) -> Request:
    """Ask whether `caller` may do `action` to `skill` of `callee`."""
    return Request(
        principal=caller.uid,
        action=action,
        resource=skill_uid(callee.agent_id, skill),
        context=context,
        entities=call_entities(caller, skill, callee=callee),
    )


def call_entities(caller: Party, skill: str, *, callee: Party) -> tuple[Entity, ...]:
    """Return the facts that a call is decided by: both agents, the trust domains and groups they are in, the skill."""
    risk = callee.skills.get(skill, callee.risk)  # a skill nobody assessed is as risky as its agent
    resource = Entity(skill_uid(callee.agent_id, skill), {"agent": callee.uid, "name": skill, "risk": risk})
    distinct = {entity.uid: entity for entity in (*agent_entities(caller), *agent_entities(callee), resource)}
    return tuple(distinct.values())


def plain_context(at: datetime) -> dict[str, Value]:
    """Return the context of a direct call over mTLS with a fresh SVID, asking for no scope."""
    return {
        "scopes": [],
        "delegation": {"depth": 0, "chain": []},
        "credential": {"kind": "x509-svid", "bound": True, "ageSeconds": 0, "lifetimeSeconds": 3600},
        "channel": {"mutual": True, "pop": True, "tls13": True},
        "now": at,
    }


def agent_entities(agent: Party) -> tuple[Entity, ...]:
    """Return an agent, and all that it is in.

    Groups stand alone: an agent's trust domain is the one in its SPIFFE ID, never one that a group would lend.
    """
    domain = EntityUid("TrustDomain", agent.agent_id.removeprefix("spiffe://").partition("/")[0])
    groups = tuple(EntityUid("AgentGroup", group) for group in agent.groups)
    attributes: dict[str, Value] = {"name": agent.name, "status": agent.status, "risk": agent.risk}
    if agent.owner:
        attributes["owner"] = agent.owner
    return (
        Entity(agent.uid, attributes, (*groups, domain)),
        *(Entity(group, {}) for group in groups),
        Entity(domain, {}),
    )
