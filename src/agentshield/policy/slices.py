"""Which policies a request needs: the rest cannot apply to it.

Cedar looks at every policy for every request, 0.8 ms at 1,000. Most are about somebody else. The index leaves out a
policy only where that is certain: its head names a principal, action or resource that the request does not meet, or
the first thing it evaluates is `resource.agent == X` for another X. Such a policy neither decides nor fails, so the
decision over the rest is the decision over all (`tests/unit/policy/test_slices.py` holds one against the other).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import cedarpy

from agentshield.policy.cedar_source import SourcePolicy
from agentshield.policy.cedar_tree import Scope, Uid, context_attributes, scope_of
from agentshield.policy.engine import Entity, Request
from agentshield.policy.values import NAMESPACE, EntityUid

_MOST_SLICES: Final = 4_096
_Key = tuple[Uid | None, str | None, Uid | None]
_AGENT_OF_RESOURCE: Final = "agent of resource:"  # tells the key of `resource.agent` from the key of `resource`


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicySlice:
    """Some policies of a bundle, ready to evaluate, and which attributes of the context they read (None: all)."""

    policies: tuple[SourcePolicy, ...] = field(repr=False)
    handle: cedarpy.PolicySet = field(repr=False)
    reads: frozenset[str] | None

    @classmethod
    def of(cls, policies: Iterable[SourcePolicy]) -> "PolicySlice":
        """Parse `policies` into one set in which Cedar knows each by its `@id`."""
        policies = tuple(policies)
        static = ",".join(f'"{policy.policy_id}":{policy.encoded}' for policy in policies)
        text = f'{{"staticPolicies":{{{static}}},"templates":{{}},"templateLinks":[]}}'
        return cls(policies=policies, handle=cedarpy.PolicySet.from_json_str(text), reads=_reads(policies))


class SliceIndex:
    """Finds the slice for a request."""

    def __init__(self, policies: Sequence[SourcePolicy]) -> None:
        self._policies = tuple(policies)
        self._by_key: dict[_Key, list[int]] = defaultdict(list)
        self._slices: dict[tuple[int, ...], PolicySlice] = {}
        self.everything: Final = PolicySlice.of(self._policies)
        for position, policy in enumerate(self._policies):
            for key in _keys_of_policy(scope_of(policy.tree)):
                self._by_key[key].append(position)

    def slice_for(self, request: Request) -> PolicySlice:
        """Return a set of policies that decides `request` as all of them would."""
        known = {entity.uid for entity in request.entities}
        if request.principal not in known or request.resource not in known:
            return self.everything  # policies that read the missing one fail, and that must be seen
        found: set[int] = set()
        for key in RequestKeys.of(request):
            found.update(self._by_key.get(key, ()))
        return self._slice(tuple(sorted(found)))

    def _slice(self, positions: tuple[int, ...]) -> PolicySlice:
        found = self._slices.get(positions)
        if found is None:
            if len(self._slices) >= _MOST_SLICES:
                self._slices.clear()
            found = self._slices[positions] = PolicySlice.of(self._policies[position] for position in positions)
        return found


def ancestors(uid: EntityUid, entities: dict[EntityUid, Entity]) -> set[EntityUid]:
    """Return `uid` and everything it is in."""
    found: set[EntityUid] = set()
    waiting = [uid]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            if each in entities:
                waiting.extend(entities[each].parents)
    return found


def qualified(uid: EntityUid) -> Uid:
    """Return `uid` as Cedar's JSON names it."""
    return NAMESPACE + uid.type, uid.id


def _keys_of_policy(scope: Scope) -> Iterator[_Key]:
    """A policy stands under one key for each action."""
    for action in (None,) if scope.actions is None else scope.actions:
        yield scope.principal, action, _resource_key(scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestKeys:
    """All that a policy's head can name and this request meet."""

    principals: frozenset[Uid]
    action: str
    resources: frozenset[Uid]

    @classmethod
    def of(cls, request: Request) -> "RequestKeys":
        """Collect them from what `request` says and what its entities say about it."""
        entities = {entity.uid: entity for entity in request.entities}
        resources = set(map(qualified, ancestors(request.resource, entities)))
        resource = entities.get(request.resource)
        agent = resource.attributes.get("agent") if resource is not None else None
        if isinstance(agent, EntityUid):
            resources.add(_agent_key(qualified(agent)))
        return cls(
            principals=frozenset(map(qualified, ancestors(request.principal, entities))),
            action=request.action,
            resources=frozenset(resources),
        )

    def __iter__(self) -> Iterator[_Key]:
        """Yield every key under which a policy may stand that applies."""
        for principal in (None, *self.principals):
            for resource in (None, *self.resources):
                yield principal, self.action, resource
                yield principal, None, resource

    def misfits(self, scope: Scope) -> int:
        """Count which of principal, action and resource `scope` asks to be another."""
        resource = _resource_key(scope)
        return (
            (scope.principal is not None and scope.principal not in self.principals)
            + (scope.actions is not None and self.action not in scope.actions)
            + (resource is not None and resource not in self.resources)
        )


def _resource_key(scope: Scope) -> Uid | None:
    """`resource_agent` is used when the head names no resource."""
    if scope.resource is None and scope.resource_agent is not None:
        return _agent_key(scope.resource_agent)
    return scope.resource


def _agent_key(agent: Uid) -> Uid:
    return _AGENT_OF_RESOURCE + agent[0], agent[1]


def _reads(policies: Iterable[SourcePolicy]) -> frozenset[str] | None:
    found: set[str] = set()
    for policy in policies:
        attributes = context_attributes(policy.tree)
        if attributes is None:
            return None
        found |= attributes
    return frozenset(found)
