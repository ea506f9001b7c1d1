"""Two agents that could call each other, if policy lets them: the smallest world with something to test."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from agentshield.policy.bundle import PolicyBundle
from agentshield.sdk.enforcement_snapshot import AgentFacts, EnforcementSnapshot
from agentshield.sdk.shield import Shield
from agentshield.sdk.tls import ClientCertificates
from agentshield.testing.trust_domain import FakeTrustDomain
from agentshield.testing.workload_api import FakeWorkloadApi

if TYPE_CHECKING:
    from agentshield.sdk.authorizers import Expected

LEASE: Final = timedelta(minutes=5)


class ShieldPair:
    """The agents `planner` and `analyst` of one trust domain, with a fake node agent each.

    Use it as an async context manager. At first nobody may call anybody; `allow` changes that, `suspend` takes a
    standing away, and `events` has what both left for the audit log.
    """

    def __init__(self, domain: FakeTrustDomain, *, svid_lifetime: timedelta = timedelta(hours=1)) -> None:
        self.domain = domain
        self.planner_api = FakeWorkloadApi(domain, "/agents/planner", svid_lifetime=svid_lifetime)
        self.analyst_api = FakeWorkloadApi(domain, "/agents/analyst", svid_lifetime=svid_lifetime)
        self.planner = Shield.from_socket(self.planner_api.endpoint, clock=domain.clock, wait=5)
        self.analyst = Shield.from_socket(self.analyst_api.endpoint, clock=domain.clock, wait=5)
        self._rules: list[dict[str, Any]] = []
        self._agents = tuple(AgentFacts(spiffe_id=domain.agent_id(name), name=name) for name in ("planner", "analyst"))
        self._version = 0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            for each in (self.planner_api, self.analyst_api):
                await stack.enter_async_context(each)
            await self._publish()
            for shield in (self.planner, self.analyst):
                await stack.enter_async_context(shield)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def allow(self, who: str, may_call: str, *actions: str) -> None:
        """Let `who` do `actions` at `may_call`, and nothing else there, and wait until it holds."""
        rule = {"who": who, "may_call": may_call, "actions": list(actions)}
        self._rules = [*(each for each in self._rules if each["who"] != who or each["may_call"] != may_call), rule]
        await self._publish()

    async def suspend(self, name: str) -> None:
        """Suspend an agent, and wait until every enforcement point knows."""
        self._agents = tuple(replace(each, status="suspended") if each.name == name else each for each in self._agents)
        await self._publish()

    @property
    def events(self) -> Sequence[dict[str, Any]]:
        """What planner and analyst left for the audit log."""
        return [*self.planner_api.events, *self.analyst_api.events]

    @contextlib.asynccontextmanager
    async def serving(
        self, app: Any, *, client_certificates: ClientCertificates = ClientCertificates.REQUIRED
    ) -> AsyncGenerator[str]:
        """Serve `app` as analyst, by a real uvicorn on a free port of the loopback, and yield its URL."""
        from agentshield.testing.server import serving

        async with serving(app, self.analyst.server_tls(client_certificates=client_certificates)) as url:
            yield url

    def client(self, expect: "Expected | None" = None, **options: Any) -> Any:
        """Make planner's HTTP client for analyst."""
        return self.planner.client(expect=expect or self.domain.agent_id("analyst"), **options)

    async def _publish(self) -> None:
        self._version += 1
        bundle = PolicyBundle.from_files(
            {"rules.yaml": _rules_yaml(self._rules)}, trust_domain=self.domain.trust_domain.name
        )
        snapshot = EnforcementSnapshot(
            version=self._version,
            issued_at=self.domain.clock(),
            lease=LEASE,
            bundle=bundle,
            agents=self._agents,
        )
        for api in (self.planner_api, self.analyst_api):
            await api.publish(snapshot)
            await api.acknowledged_by_all(self._version)


def _rules_yaml(rules: Sequence[dict[str, Any]]) -> str:
    import yaml

    return yaml.safe_dump({"rules": list(rules)})
