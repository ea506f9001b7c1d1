"""Puts on each request what its plan says, and only on requests to the origin that the verified card owns."""

from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import httpx2

from agentshield.identity.agent_card.card import origin_of
from agentshield.sdk.a2a_client.credentials import ApiKey, BasicLogin, BearerToken
from agentshield.sdk.a2a_client.errors import ForeignOriginError
from agentshield.sdk.a2a_client.planner import CallPlan, Proof
from agentshield.sdk.shield import Shield


class PlanAuth(httpx2.Auth):
    """All proofs of a plan. `tokens` is `shield.auth(…)` for the plan's token, where it has one."""

    def __init__(self, plan: CallPlan, shield: Shield, *, tokens: Any = None) -> None:
        self.plan = plan
        self._shield = shield
        self._tokens = tokens

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """As `httpx2.Auth.async_auth_flow`. Raises: ForeignOriginError, before anything is put on the request."""
        if origin_of(str(request.url)) != self.plan.origin:
            raise ForeignOriginError(f"request goes to {request.url.host}, the card's agent is at {self.plan.origin}")
        for proof in self.plan.proofs:
            await self._put(request, proof)
        if self._tokens is None:
            yield request
            return
        flow = self._tokens.async_auth_flow(request)
        async with aclosing(flow):
            step = await anext(flow)
            while True:
                response = yield step
                try:
                    step = await flow.asend(response)
                except StopAsyncIteration:
                    return

    async def _put(self, request: httpx2.Request, proof: Proof) -> None:
        match proof.secret:
            case BearerToken(value=value):
                request.headers["authorization"] = f"Bearer {value}"
            case BasicLogin(user=user, password=password):
                request.headers["authorization"] = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
            case ApiKey(value=value):
                _put_key(request, proof, value)
            case None if proof.kind == "jwt-svid":
                svid = await self._shield.fetch_jwt_svid(self.plan.origin)
                request.headers["authorization"] = f"Bearer {svid.token}"


def _put_key(request: httpx2.Request, proof: Proof, value: str) -> None:
    if proof.kind == "header":
        request.headers[proof.name] = value
    elif proof.kind == "cookie":
        cookies = request.headers.get("cookie")
        own = f"{proof.name}={quote(value, safe='')}"
        request.headers["cookie"] = f"{cookies}; {own}" if cookies else own
    else:
        request.url = request.url.copy_merge_params({proof.name: value})
