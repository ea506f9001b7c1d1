"""The pages over HTTP: what a browser sends is read strictly, and every answer forbids what the pages do not need."""

import logging
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.oauth.api_answer import Answer, Headers, not_allowed
from agentshield.oauth.authorize import pages
from agentshield.oauth.authorize.browser import BrowserSession
from agentshield.oauth.authorize.consent import ConsentSteps
from agentshield.oauth.authorize.journey import BrowserRefusedError, Journey, Redirect
from agentshield.oauth.authorize.sign_in import SignInSteps
from agentshield.oauth.form import Receive, read_form
from agentshield.oauth.settings import AUTHORIZE_PATH, CALLBACK_PATH, CONSENT_PATH

#: Where browsers come, by method.
PAGE_METHODS: Final = {AUTHORIZE_PATH: ("GET",), CALLBACK_PATH: ("GET",), CONSENT_PATH: ("GET", "POST")}

Scope = MutableMapping[str, Any]

_MAX_QUERY: Final = 8 * 1024
_MAX_PARAMETERS: Final = 32
_SELF: Final = "'self'"
_log: Final = logging.getLogger("agentshield.oauth.authorize")


@dataclass(frozen=True, slots=True)
class BrowserPages:
    """Serves browsers."""

    journey: Journey
    clock: Clock

    async def answer(self, scope: Scope, receive: Receive, request_id: str) -> Answer:
        """Answer a browser, whatever it came with, by a page or a redirect."""
        allowed = PAGE_METHODS[scope["path"]]
        if scope["method"] not in allowed:  # HEAD too: who only looks must use nothing up
            return not_allowed(*allowed)
        try:
            return await self._answer(scope, receive, request_id)
        except UnavailableError as error:
            _log.warning("request %s: %s", request_id, error)
            return _over(request_id, status=503)
        except AgentShieldError as error:
            rule = error.rule if isinstance(error, BrowserRefusedError) else error.code
            _log.info("request %s is not continued (%s): %s", request_id, rule, error)
            return _over(request_id, status=400)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> Answer:
        headers: Headers = scope["headers"]
        cookies = tuple(value.decode("latin-1") for name, value in headers if name == b"cookie")
        path, at = scope["path"], self.clock()
        if path == CONSENT_PATH and scope["method"] == "POST":
            _require_own_page(headers, self.journey.context.settings.issuer)
            form = await read_form(headers, scope["query_string"], receive)
            told: Mapping[str, str] = {name: values[0] for name, values in form.items()}
            redirect = await ConsentSteps(self.journey).decide(
                BrowserSession.shown(told.get("request", ""), cookies),
                csrf=told.get("csrf", ""),
                decision=told.get("decision", ""),
                at=at,
                request_id=request_id,
            )
            return _redirect(redirect)
        told = _query(scope["query_string"])
        if path == CONSENT_PATH:
            session = BrowserSession.shown(told.get("request", ""), cookies)
            view = await ConsentSteps(self.journey).show(session, at=at, request_id=request_id)
            if isinstance(view, Redirect):
                return _redirect(view)
            return _page(pages.consent_page(view), policy=pages.policy(_SELF, view.returns_to))
        steps = SignInSteps(self.journey)
        if path == CALLBACK_PATH:
            return _redirect(await steps.come_back(told, cookies, at=at, request_id=request_id))
        client_id, request_uri = told.get("client_id", ""), told.get("request_uri", "")
        return _redirect(await steps.begin(client_id, request_uri, at=at, request_id=request_id))


def _query(query: bytes) -> Mapping[str, str]:
    """Read an address' parameters, each once. Raises: BrowserRefusedError."""
    try:
        pairs = parse_qsl(
            query[: _MAX_QUERY + 1].decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError:
        pairs = [("", ""), ("", "")]
    told = dict(pairs)
    if len(told) != len(pairs) or len(query) > _MAX_QUERY:
        raise BrowserRefusedError("the address is malformed, or has a parameter twice", rule="RFC 6749 3.1")
    return told


def _require_own_page(headers: Headers, issuer: str) -> None:
    """Beside the token in the form: where a browser says whence the form came, it came from us. Raises."""
    for name, expected in ((b"origin", issuer.encode()), (b"sec-fetch-site", b"same-origin")):
        if any(value != expected for key, value in headers if key == name):
            raise BrowserRefusedError("the form came from another site", rule="RFC 6749 10.12")


def _over(request_id: str, *, status: int) -> Answer:
    return _page(pages.over_page(request_id), policy=pages.policy(), status=status)


def _page(body: bytes, *, policy: str, status: int = 200) -> Answer:
    headers = ((b"content-type", b"text/html; charset=utf-8"), *_guards(policy))
    return Answer(status=status, body=body, headers=headers)


def _redirect(redirect: Redirect) -> Answer:
    """303: whatever the browser sent, it goes on with GET, and without it (RFC 9700, 4.12)."""
    cookie = () if redirect.cookie is None else ((b"set-cookie", redirect.cookie.encode()),)
    headers = ((b"location", redirect.url.encode()), *cookie, *_guards(pages.policy()))
    return Answer(status=303, headers=headers)


def _guards(policy: str) -> Headers:
    return (
        (b"content-security-policy", policy.encode()),
        (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
        (b"x-content-type-options", b"nosniff"),
        # Not no-referrer: browsers would then hide the form's origin from us as well (Fetch, 3.2).
        (b"referrer-policy", b"same-origin"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    )
