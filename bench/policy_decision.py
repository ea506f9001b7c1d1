"""A policy decision in an agent's own process: remembered, new, and as Cedar alone takes it over the whole set.

One permit for each agent, with a condition on the context, as a team's rules are. "New" is a request whose context no
call had before; facts and slice are known, as they are after an agent's first call.
"""

from datetime import UTC, datetime
from itertools import count

import cedarpy

from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.calls import Party, call_request, plain_context
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.compiled import compile_bundle, schema
from agentshield.policy.evaluation import parse_entities
from agentshield.policy.values import cedar_json
from bench.timing import microseconds

SIZES = (10, 100, 1_000)
RULE = "  - {{who: agent-{0}, may_call: analyst, actions: [hello], scopes: [docs.read], max_depth: 2}}\n"


class World:
    """A bundle with `size` rules, and the call that the last of them allows."""

    def __init__(self, size):
        rules = "rules:\n" + "".join(map(RULE.format, range(size)))
        bundle = PolicyBundle.from_files({"rules.yaml": rules}, trust_domain="example.test")
        self.engine = CedarEngine()
        self.engine.load(bundle)
        self.fresh = count()
        caller, callee = (self.party(name) for name in (f"agent-{size - 1}", "analyst"))
        context = plain_context(datetime.now(UTC)) | {"scopes": ["docs.read"]}
        self.request = call_request(caller, "hello", callee=callee, context=context)
        policies = ",".join(f'"{each.policy_id}":{each.encoded}' for each in compile_bundle(bundle).policies)
        self.whole = cedarpy.PolicySet.from_json_str(
            f'{{"staticPolicies":{{{policies}}},"templates":{{}},"templateLinks":[]}}'
        )
        self.entities = parse_entities(self.request.entities)
        self.asked = {
            "principal": {"type": "AgentShield::Agent", "id": self.request.principal.id},
            "action": {"type": "AgentShield::Action", "id": "invoke"},
            "resource": {"type": "AgentShield::Skill", "id": self.request.resource.id},
            "context": cedar_json(context),
        }
        if not (self.remembered().is_allowed and self.new().is_allowed and self.unsliced().allowed):
            raise AssertionError("the call to be measured is not allowed")

    @staticmethod
    def party(name):
        return Party(agent_id=f"spiffe://example.test/agents/{name}", name=name)

    def remembered(self):
        """Ask what was asked before."""
        return self.engine.decide(self.request)

    def new(self):
        """Ask with scopes that no call had before."""
        request = self.request
        context = {**request.context, "scopes": ["docs.read", str(next(self.fresh))]}
        return self.engine.decide(
            type(request)(request.principal, request.action, request.resource, context, request.entities)
        )

    def unsliced(self):
        """Ask Cedar alone, with everything parsed before: what one would write with cedarpy."""
        return cedarpy.is_authorized(self.asked, self.whole, self.entities, schema())


def run():
    """Rows for `python -m bench`."""
    worlds = {size: World(size) for size in SIZES}
    times = microseconds(
        {
            f"{name} {size}": operation
            for size, world in worlds.items()
            for name, operation in (("hit", world.remembered), ("miss", world.new), ("cedarpy", world.unsliced))
        }
    )
    return [row for size in SIZES for row in rows(size, times)]


def rows(size, times):
    largest = size == SIZES[-1]
    hit, miss, alone = (times[f"{name} {size}"] for name in ("hit", "miss", "cedarpy"))
    what = f"at {size:,} rules"
    return [
        {
            "name": f"decision remembered, {what}",
            "value": hit,
            "unit": "us",
            "goal": "<= 5 us" if largest else None,
            "bound_by": "encoding the context as a key, the evaluation id",
        },
        {
            "name": f"decision new, {what}",
            "value": miss,
            "unit": "us",
            "goal": "<= 100 us" if largest else None,
            "bound_by": "Cedar reading the context from JSON, and checking it against the schema",
        },
        {
            "name": f"cedarpy over the whole set / decision new, {what}",
            "value": alone / miss,
            "unit": "x",
            "goal": ">= 8 x" if largest else None,
            "bound_by": "the same: what is left after slicing does not depend on the number of rules",
        },
    ]


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:<55} {row['value']:>8.1f} {row['unit']:<3} {row['goal'] or ''}")
