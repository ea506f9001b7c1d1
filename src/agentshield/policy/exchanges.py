"""A token that is about to be issued, put as the policy engine understands it.

Blueprint, resource and subject token have said how much; what policies add is no. Where they are silent the token is
issued, as who registered the blueprint has allowed it; a `forbid`, or a `permit` that waits for a human, stops it.
"""

from typing import Final

from agentshield.policy.calls import Party, agent_entities
from agentshield.policy.engine import Decision, Entity
from agentshield.policy.values import EntityUid

EXCHANGE: Final = "exchange"


def is_refused(decision: Decision) -> bool:
    """Whether policies stop the token: by a `forbid`, by an error, or because a human would have to agree."""
    is_silent = not (decision.reasons or decision.errors or decision.requestable)
    return not decision.is_allowed and not is_silent


def audience_uid(audience: str) -> EntityUid:
    """Return the name in policies of an audience that no agent of ours answers under."""
    return EntityUid("Audience", audience)


def exchange_entities(agent: Party, audience: str, *, server: Party | None) -> tuple[Entity, ...]:
    """Return the facts: who will hold the token, and who it is for."""
    if server is None:
        target: tuple[Entity, ...] = (Entity(audience_uid(audience), {"name": audience}),)
    else:
        target = agent_entities(server)
    return tuple({entity.uid: entity for entity in (*agent_entities(agent), *target)}.values())
