"""A token service where humans sign in at an identity provider and delegate to agents; and their browsers."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from exchange_world import AS, BILLING, BILLING_API, PLANNER, SCOPES, ExchangeWorld
from openid_provider import OUR_CLIENT_ID, OpenIdProvider, running_provider, with_query

from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.authorize.browser import challenge_of
from agentshield.oauth.authorize.parts import Authorization, PushedResponse
from agentshield.oauth.authorize.request import AuthorizationRequest
from agentshield.oauth.authorize.store import AuthorizationStore, MemoryAuthorizationStore
from agentshield.oauth.authorize.upstream import Upstream
from agentshield.oauth.authorize.web import BrowserPages
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.issuers.fetch import IssuerFetch
from agentshield.oauth.model import ClientAuthMethod, ClientRegistration, IssuerRecord, SignIn
from agentshield.oauth.requests import TokenResponse
from agentshield.oauth.service import OAuthService

APP = "https://app.test/cb"
NATIVE = "http://127.0.0.1/cb"
VERIFIER = "v" * 43
PAR = AS + "/oauth/par"
AUTHORIZE, CALLBACK, CONSENT = "/oauth/authorize", "/oauth/callback", "/oauth/consent"
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DETAIL = '[{"type":"agent_action","actions":["pay"],"locations":["https://billing.test"],"identifier":"invoice-7"}]'


@dataclass(frozen=True)
class Seen:
    """What a browser got."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def location(self) -> str:
        return self.headers["location"]

    @property
    def answer(self) -> dict[str, str]:
        """The parameters of the address it is sent to."""
        assert self.status == 303, self.body
        return {name: value for name, (value,) in parse_qs(urlsplit(self.location).query).items()}

    @property
    def form(self) -> dict[str, str]:
        """The hidden fields of the page."""
        found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', self.body)
        return {name: unescape(value) for name, value in found}


@dataclass
class Browser:
    """Keeps cookies, follows nothing by itself."""

    pages: BrowserPages
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, address: str, *, method: str = "GET", **headers: str) -> Seen:
        return await self._send(method, address, b"", headers)

    async def post(self, address: str, form: dict[str, str], **headers: str) -> Seen:
        headers = {"content-type": "application/x-www-form-urlencoded", "origin": AS} | headers
        return await self._send("POST", address, urlencode(form).encode(), headers)

    async def _send(self, method: str, address: str, body: bytes, headers: dict[str, str]) -> Seen:
        parts = urlsplit(address)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {"cookie": cookie, "content-length": str(len(body))} | headers
        scope = {
            "type": "http",
            "method": method,
            "path": parts.path,
            "query_string": parts.query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items() if value],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        answer = await self.pages.answer(scope, receive, "request-1")
        told = {name.decode(): value.decode() for name, value in answer.headers}
        if (cookie := told.get("set-cookie")) is not None:
            name, _, value = cookie.split(";")[0].partition("=")
            self.cookies[name] = value
            if not value:
                del self.cookies[name]
        return Seen(status=answer.status, headers=told, body=answer.body.decode())


@dataclass
class DelegationWorld(ExchangeWorld):
    """The planner is a client that humans can delegate to; Ann is at the identity provider."""

    requests: AuthorizationStore = field(default_factory=MemoryAuthorizationStore)
    provider: OpenIdProvider = None  # type: ignore[assignment]

    @property
    def federation(self) -> Federation:
        return self.known_federation

    async def open(self, **settings: Any) -> "DelegationWorld":
        self.known_federation = Federation(self.store, IssuerFetch(self.settings), self.clock, self.settings)
        await super().open(allow_loopback_issuers=True, **settings)
        fetch = IssuerFetch(self.settings)
        self.known_federation = Federation(self.store, fetch, self.clock, self.settings)
        upstream = Upstream(settings=self.settings, fetch=fetch, federation=self.federation, keys=self.keys)
        self.service = OAuthService(
            self.settings,
            self.store,
            self.directory,
            self.keys,
            self.fake,
            self.federation,
            self.recorded,
            self.clock,
            authorization=Authorization(requests=self.requests, upstream=upstream),
        )
        assert self.service.journey is not None
        self.pages = BrowserPages(self.service.journey, self.clock)
        for agent in (PLANNER, BILLING):
            await self.store.clients.put(self.app(agent))
        return self

    def app(self, agent: SpiffeId = PLANNER, **fields: Any) -> ClientRegistration:
        values = {"client_id": str(agent), "spiffe_id": agent, "redirect_uris": (APP, NATIVE)} | fields
        return self.client(ClientAuthMethod.SPIFFE_JWT, **values)

    def idp(self, **fields: Any) -> IssuerRecord:
        """The identity provider as a record."""
        values = {
            "name": "idp",
            "issuer": self.provider.url,
            "jwks": None,
            "ca_pem": self.provider.ca_pem,
            "scopes": SCOPES,
            "sign_in": SignIn(client_id=OUR_CLIENT_ID, name_claim="name"),
        }
        return self.issuer(**(values | fields))

    def browser(self) -> Browser:
        return Browser(self.pages)

    async def push(self, agent: SpiffeId = PLANNER, **changes: Any) -> PushedResponse:
        """The planner lodges a request, but for what `changes` say (None: left out)."""
        form = {
            "client_id": str(agent),
            "response_type": "code",
            "redirect_uri": APP,
            "state": "s & t",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            "audience": BILLING_API,
            "scope": "read",
        }
        kept = {name: value for name, value in (form | changes).items() if value is not None}
        return await self.service.push(self.request(url=PAR, **kept))

    async def started(self, browser: Browser, pushed: PushedResponse, agent: SpiffeId = PLANNER) -> Seen:
        """The browser opens the client's link."""
        told = {"client_id": str(agent), "request_uri": pushed.request_uri}
        return await browser.get(with_query(AUTHORIZE, told))

    async def came_back(self, browser: Browser, sent: Seen, **answer: str | None) -> Seen:
        """Ann signs in, and her browser comes back."""
        return await browser.get(with_query(CALLBACK, self.provider.signed_in(sent.location, **answer)))

    async def page(self, browser: Browser, agent: SpiffeId = PLANNER, **changes: Any) -> Seen:
        """All of it up to the consent page."""
        sent = await self.started(browser, await self.push(agent, **changes), agent)
        back = await self.came_back(browser, sent)
        assert back.location.startswith(AS + CONSENT), back.location
        return await browser.get(back.location.removeprefix(AS))

    async def decided(self, browser: Browser, page: Seen, decision: str = "allow", **changes: str) -> Seen:
        return await browser.post(CONSENT, page.form | {"decision": decision} | changes)

    async def agreed(self, agent: SpiffeId = PLANNER, **changes: Any) -> str:
        """All of it; return the code."""
        browser = self.browser()
        seen = await self.decided(browser, await self.page(browser, agent, **changes))
        return seen.answer["code"]

    async def redeem(self, code: str, agent: SpiffeId = PLANNER, **changes: Any) -> TokenResponse:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": APP,
            "code_verifier": VERIFIER,
        }
        return await self.ask(agent, **(form | changes))

    async def refresh(self, token: str | None, agent: SpiffeId = PLANNER, **changes: Any) -> TokenResponse:
        return await self.ask(agent, **({"grant_type": "refresh_token", "refresh_token": token} | changes))

    async def kept(self, handle: str) -> AuthorizationRequest:
        found = await self.requests.find(handle.rpartition(":")[2].partition(".")[0])
        assert found is not None
        return found

    def steps(self) -> list[str]:
        """What the log says, in order."""
        return [event.name.value for event in self.recorded.events]


@asynccontextmanager
async def delegation_world(directory: Path, **fields: Any) -> AsyncIterator[DelegationWorld]:
    world = DelegationWorld(keys_directory=directory, **fields)
    async with running_provider(world.clock, lambda: world.keys.key_set()) as provider:
        world.provider = provider
        await world.open()
        await world.store.issuers.put(world.idp())
        yield world
