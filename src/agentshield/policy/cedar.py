"""Cedar as our policy engine: load, decide, explain.

A decision is looked up first, by the facts and by what the policies concerned can see of the context; only what is
new is evaluated. What is remembered belongs to one loaded bundle and goes with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter_ns
from typing import Any, Final

import cedarpy
import msgspec

from agentshield.clock import Clock, system_clock
from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.compiled import CompiledBundle, compile_bundle
from agentshield.policy.engine import BundleInfo, Decision, Effect, Request
from agentshield.policy.evaluation import Outcome, evaluate, failed, parse_entities
from agentshield.policy.explanation import Explanation, explain
from agentshield.policy.slices import PolicySlice, SliceIndex
from agentshield.policy.values import Value
from agentshield.uuid7 import uuid7_text

_MOST_ROUTES: Final = 16_384
_MOST_OUTCOMES: Final = 65_536
_NO_POLICY: Final = Outcome(effect=Effect.DENY, reasons=("no-policy",))
_encode_key: Final = msgspec.json.Encoder(order="deterministic", enc_hook=str).encode


@dataclass(frozen=True, slots=True, eq=False)
class _Route:
    """All that is the same for every request between two parties: policies and facts, parsed."""

    policies: PolicySlice
    entities: cedarpy.Entities

    def context_key(self, context: Mapping[str, Value]) -> bytes:
        """Return `context` as a key that leaves out what no policy here reads and what changes with every request.

        Attributes that merely nobody reads stay in: the schema refuses a wrong one, and so must the cache.
        """
        reads = self.policies.reads
        if reads is None:
            return _encode_key(context)
        seen = self.trimmed(context)
        if "now" not in reads and _is_instant(seen.get("now")):
            del seen["now"]
        if "credential" not in reads and _is_credential(seen.get("credential")):
            del seen["credential"]
        return _encode_key(seen)

    def trimmed(self, context: Mapping[str, Value]) -> dict[str, Value]:
        """Return `context` without `channel` where no policy here reads it: it is optional, and a tenth of the cost."""
        seen = dict(context)
        reads = self.policies.reads
        if reads is not None and "channel" not in reads and _is_channel(seen.get("channel")):
            del seen["channel"]
        return seen


@dataclass(slots=True, eq=False)
class _Loaded:
    """One bundle in force, with what it has decided so far."""

    compiled: CompiledBundle
    index: SliceIndex
    routes: dict[tuple[Any, ...], _Route] = field(default_factory=dict)
    outcomes: dict[tuple[_Route, bytes], Outcome] = field(default_factory=dict)

    def outcome(self, request: Request) -> Outcome:
        """Return the outcome for `request`, remembered or new."""
        try:
            route = self._route(request)
            key = (route, route.context_key(request.context))
        except (ValueError, TypeError, RecursionError) as error:
            return failed(f"the facts or the context cannot be read: {error}")
        found = self.outcomes.get(key)
        if found is None:
            asked = Request(
                request.principal, request.action, request.resource, route.trimmed(request.context), request.entities
            )
            found = evaluate(asked, route.policies, route.entities)
            if not found.errors:  # an error is evaluated, and reported, every time
                _remember(self.outcomes, key, found, most=_MOST_OUTCOMES)
        return found

    def _route(self, request: Request) -> _Route:
        principal, resource = request.principal, request.resource
        key = (principal.type, principal.id, request.action, resource.type, resource.id, request.entities)
        route = self.routes.get(key)
        if route is None:
            route = _Route(self.index.slice_for(request), parse_entities(request.entities))
            _remember(self.routes, key, route, most=_MOST_ROUTES)
        return route


class CedarEngine:
    """A `PolicyEngine` on Cedar. Safe to use from several threads; one bundle at a time is in force."""

    def __init__(self, *, clock: Clock = system_clock) -> None:
        self._clock = clock
        self._loaded: _Loaded | None = None

    def load(self, bundle: PolicyBundle) -> BundleInfo:
        """Check `bundle` and decide by it from now on, or raise and change nothing.

        Raises:
            InvalidPolicyError: a file of the bundle is wrong.
        """
        compiled = compile_bundle(bundle)
        self._loaded = _Loaded(compiled, SliceIndex(compiled.policies))
        return BundleInfo(
            digest=compiled.digest,
            policy_ids=tuple(policy.policy_id for policy in compiled.policies),
            warnings=compiled.warnings,
        )

    def decide(self, request: Request) -> Decision:
        """Answer `request`. Never raises for what a request says: what cannot be evaluated is denied."""
        started = perf_counter_ns()
        loaded = self._loaded
        outcome = _NO_POLICY if loaded is None else loaded.outcome(request)
        return Decision(
            effect=outcome.effect,
            reasons=outcome.reasons,
            errors=outcome.errors,
            obligations=outcome.obligations,
            requestable=outcome.requestable,
            evaluation_id=uuid7_text(self._clock()),
            bundle_digest="" if loaded is None else loaded.compiled.digest,
            duration_us=(perf_counter_ns() - started) / 1_000,
        )

    def explain(self, request: Request) -> Explanation:
        """Answer `request` and say which policies decided, which came near, and what rule would allow it."""
        loaded = self._loaded
        return explain(request, self.decide(request), None if loaded is None else loaded.compiled)


def _remember(memory: dict[Any, Any], key: object, value: object, *, most: int) -> None:
    """Keep `value`; a full memory is emptied rather than tended, as refilling it costs less than an order of use."""
    if len(memory) >= most:
        memory.clear()
    memory[key] = value


def _is_instant(value: Value) -> bool:
    return type(value) is datetime and value.tzinfo is not None


def _is_channel(value: Value) -> bool:
    """Whether `value` is what the schema asks of `context.channel`."""
    return (
        type(value) is dict
        and type(value.get("mutual")) is bool
        and type(value.get("pop")) is bool
        and (len(value) == 2 or (len(value) == 3 and type(value.get("tls13")) is bool))
    )


def _is_credential(value: Value) -> bool:
    """Whether `value` is what the schema asks of `context.credential`, so that leaving it out hides no error."""
    return (
        type(value) is dict
        and len(value) == 4
        and type(value.get("kind")) is str
        and type(value.get("bound")) is bool
        and type(value.get("ageSeconds")) is int
        and type(value.get("lifetimeSeconds")) is int
    )
