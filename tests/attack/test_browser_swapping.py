"""Somebody puts themselves between a human, their browser and the identity provider, with another answer."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from delegation_world import APP, AUTHORIZE, CALLBACK, CONSENT, Browser, DelegationWorld, Seen, delegation_world
from exchange_world import AS, BILLING, PLANNER
from openid_provider import with_query


@pytest.fixture
async def world(tmp_path):
    async with delegation_world(tmp_path) as made:
        yield made


def assert_leads_nowhere(seen: Seen) -> None:
    """A page, and no way on: not even to an address that somebody may have planted."""
    assert seen.status == 400
    assert not {"location", "set-cookie"} & seen.headers.keys()
    assert "evil" not in seen.body


async def to_identity_provider(world: DelegationWorld) -> tuple[Browser, Seen]:
    browser = world.browser()
    return browser, await world.started(browser, await world.push())


async def test_login_csrf(world):
    """RFC 6749, 10.12: an attacker's answer, planted in Ann's browser, would have her agree under their name."""
    _, sent = await to_identity_provider(world)
    theirs = world.provider.signed_in(sent.location)
    assert_leads_nowhere(await world.browser().get(with_query(CALLBACK, theirs)))
    victim, _ = await to_identity_provider(world)  # and though she has a request open herself
    assert_leads_nowhere(await victim.get(with_query(CALLBACK, theirs)))


async def test_session_swapping_with_a_stolen_state(world):
    """The state of another browser, and one's own cookie under its name, are not one browser."""
    _, sent = await to_identity_provider(world)
    answer = world.provider.signed_in(sent.location)
    request_id = answer["state"].partition(".")[0]
    thief = world.browser()
    thief.cookies[f"__Host-agentshield-{request_id}"] = "A" * 43
    assert_leads_nowhere(await thief.get(with_query(CALLBACK, answer)))


async def test_an_answer_under_half_of_the_state(world):
    """The id of Ann's request is known where she signs in; her browser's half of the state is hers alone."""
    _, theirs = await to_identity_provider(world)
    stolen = world.provider.signed_in(theirs.location)["code"]
    browser, sent = await to_identity_provider(world)
    request_id = sent.answer["state"].partition(".")[0]
    for state in (request_id, request_id + ".", f"{request_id}.{theirs.answer['state'].partition('.')[2]}"):
        assert_leads_nowhere(await browser.get(with_query(CALLBACK, {"state": state, "code": stolen})))
    assert world.provider.redeemed == []
    assert (await world.came_back(browser, sent)).status == 303  # and she goes on undisturbed


@pytest.mark.parametrize("state", ["", ".", "x", "0" * 36, "../..", "a" * 5000, "\u0430.b"])
async def test_made_up_states(world, state):
    """Whatever stands there, it is text."""
    browser, _ = await to_identity_provider(world)
    assert_leads_nowhere(await browser.get(with_query(CALLBACK, {"state": state, "code": "x"})))


async def test_cookie_tossing(world):
    """RFC 6265, 8.6: of two cookies of one name nobody knows which is ours; so neither is."""
    browser, sent = await to_identity_provider(world)
    ((name, secret),) = browser.cookies.items()
    address = with_query(CALLBACK, world.provider.signed_in(sent.location))
    assert_leads_nowhere(await browser.get(address, cookie=f"{name}={secret}; {name}={'A' * 43}"))
    assert (await browser.get(address)).status == 303


async def test_code_injection_from_another_browsers_sign_in(world):
    """RFC 9700, 4.5: a code that the provider gave another browser does not sign that human in here."""
    _, theirs = await to_identity_provider(world)
    stolen = world.provider.signed_in(theirs.location)["code"]
    browser, sent = await to_identity_provider(world)
    back = await world.came_back(browser, sent, code=stolen)
    assert back.answer["error"] in ("server_error", "temporarily_unavailable")
    assert "code" not in back.answer


async def test_replayed_nonce(world):
    """OpenID Connect Core, 3.1.3.7 (11): an ID token from another sign-in is not this one's, though all else holds."""
    _, earlier = await to_identity_provider(world)
    browser, sent = await to_identity_provider(world)
    world.provider.claims = {"nonce": earlier.answer["nonce"]}
    assert (await world.came_back(browser, sent)).answer["error"] == "server_error"


@pytest.mark.parametrize("named", ["https://evil.test", None, "", "slash"])
async def test_mix_up(world, named):
    """RFC 9207, 2.4: an answer from another provider, or from nobody, would send its code where it does not belong."""
    browser, sent = await to_identity_provider(world)
    named = world.provider.url + "/" if named == "slash" else named
    back = await world.came_back(browser, sent, iss=named)
    assert back.answer["error"] == "server_error"
    assert world.provider.redeemed == []  # nobody was shown the code


async def test_a_provider_that_never_names_itself_need_not(world):
    """RFC 9207, 2.4: what it does not promise, it cannot break; but a wrong name is a wrong name."""
    world.provider.sends_issuer = False
    browser, sent = await to_identity_provider(world)
    assert (await world.came_back(browser, sent)).location.startswith(AS + CONSENT)
    browser, sent = await to_identity_provider(world)
    assert (await world.came_back(browser, sent, iss="https://evil.test")).answer["error"] == "server_error"


async def test_answer_is_taken_once(world):
    """A second reading of the same answer must not redeem the provider's code again."""
    browser, sent = await to_identity_provider(world)
    address = with_query(CALLBACK, world.provider.signed_in(sent.location))
    assert (await browser.get(address)).status == 303
    assert_leads_nowhere(await browser.get(address))
    assert len(world.provider.redeemed) == 1


async def test_consent_csrf(world):
    """RFC 6749, 10.12: a form on another site, or one that was shown elsewhere, is nobody's yes."""
    browser = world.browser()
    page = await world.page(browser)
    other = await world.page(world.browser())
    for changes in ({"csrf": ""}, {"csrf": other.form["csrf"]}, {"csrf": page.form["csrf"][:-1] + "\u00e9"}):
        assert_leads_nowhere(await world.decided(browser, page, **changes))
    form = page.form | {"decision": "allow"}
    for headers in (
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"origin": AS + ".evil.test"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"content-type": "text/plain"},
    ):
        seen = await browser.post(CONSENT, form, **headers)
        assert_leads_nowhere(seen)
    assert_leads_nowhere(await world.browser().post(CONSENT, form))  # without the cookie
    seen = await browser.get(with_query(CONSENT, form))
    assert (seen.status, "location" in seen.headers) == (200, False)  # an address decides nothing
    assert (await world.decided(browser, page)).status == 303


async def test_consent_of_another_request(world):
    """Ann's cookie for one request does not decide another's, whose id somebody put into the form."""
    browser = world.browser()
    page = await world.page(browser)
    other = await world.page(world.browser(), scope="write")
    assert_leads_nowhere(await world.decided(browser, page, request=other.form["request"]))


async def test_clickjacking(world):
    """RFC 9700, 4.16: a page in somebody's frame is clicked by who sees something else."""
    browser, sent = await to_identity_provider(world)
    back = await world.came_back(browser, sent)
    page = await browser.get(back.location.removeprefix(AS))
    over = await world.browser().get(AUTHORIZE)
    for seen in (sent, back, page, over):
        policy = seen.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy
        assert "script" not in policy
        assert "unsafe" not in policy
        assert seen.headers["x-frame-options"] == "DENY"
        assert seen.headers["x-content-type-options"] == "nosniff"
        assert seen.headers["cache-control"] == "no-store"
        assert seen.headers["referrer-policy"] == "same-origin"
        assert seen.headers["cross-origin-opener-policy"] == "same-origin"
    assert "form-action 'self' https://app.test;" in page.headers["content-security-policy"]
    assert "form-action 'none'" in over.headers["content-security-policy"]
    assert "<script" not in page.body


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"client_id": str(PLANNER), "redirect_uri": "https://evil.test/", "response_type": "code"},
        {"client_id": str(PLANNER), "redirect_uri": APP, "response_type": "code", "scope": "read"},
        {"client_id": str(PLANNER), "request_uri": "https://evil.test/request"},
        {"client_id": str(PLANNER), "request_uri": "urn:ietf:params:oauth:request_uri:made-up"},
        {"client_id": str(PLANNER), "request": "eyJ", "redirect_uri": "https://evil.test/"},
    ],
)
async def test_open_redirect_on_error(world, told):
    """RFC 9700, 4.11 (BCP-09): without a request that a client lodged, nobody is sent anywhere; PAR is the only way."""
    assert_leads_nowhere(await world.browser().get(with_query(AUTHORIZE, told)))


async def test_redirect_uri_tampering(world):
    """What the link says beside is not what the client lodged, and is not looked at."""
    pushed = await world.push()
    told = {"client_id": str(PLANNER), "request_uri": pushed.request_uri, "redirect_uri": "https://evil.test/"}
    browser = world.browser()
    sent = await browser.get(with_query(AUTHORIZE, told | {"scope": "pay", "state": "theirs"}))
    back = await world.came_back(browser, sent)
    seen = await world.decided(browser, await browser.get(back.location.removeprefix(AS)))
    assert seen.location.startswith(APP + "?")
    assert seen.answer["state"] == "s & t"
    assert (await world.kept(seen.answer["code"])).asked.scopes == ("read",)


async def test_another_clients_request(world):
    """RFC 9126, 2.2: a request_uri is bound to the client that lodged it."""
    pushed = await world.push()
    assert_leads_nowhere(await world.started(world.browser(), pushed, BILLING))
    assert (await world.started(world.browser(), pushed)).status == 303


async def test_an_address_that_is_not_registered_any_more(world):
    """RFC 9700, 4.11: the client's entry was taken over or closed; nobody is sent there, not even with an error."""
    browser = world.browser()
    page = await world.page(browser)
    await world.store.clients.put(world.app(redirect_uris=("https://app.test/other",)))
    assert_leads_nowhere(await world.decided(browser, page))
    assert_leads_nowhere(await world.decided(browser, page, "deny"))


@pytest.mark.parametrize("path", [AUTHORIZE, CALLBACK, CONSENT])
@pytest.mark.parametrize(
    "query", ["a=1&a=2", "client_id=%ff", "state=x&state=x", "a=" + "b" * 9000, "&".join("abcd" * 20)]
)
async def test_malformed_addresses(world, path, query):
    """RFC 6749, 3.1: a parameter twice is read one way by a filter and the other way by us."""
    assert_leads_nowhere(await world.browser().get(f"{path}?{query}"))


@pytest.mark.parametrize(
    "discovery",
    [
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "http://idp.test/authorize"},
        {"authorization_endpoint": "https://idp.test/authorize\r\nset-cookie: a=b"},
        {"authorization_endpoint": "https://user@idp.test/"},
        {"authorization_endpoint": None},
        {"token_endpoint": "http://169.254.169.254/latest/meta-data"},
        {"token_endpoint": ["https://idp.test/token"]},
        {"issuer": "https://other.test"},
    ],
)
async def test_a_hostile_discovery_document(world, discovery):
    """What a provider says of its addresses is held to https, before Ann's browser or a code goes there."""
    world.provider.discovery = discovery
    _, sent = await to_identity_provider(world)
    assert sent.location.startswith(APP + "?")
    assert sent.answer["error"] == "server_error"


@pytest.mark.parametrize("address", ["https://10.0.0.1/token", "https://[fd00::1]/token", "https://169.254.169.254/"])
async def test_a_token_endpoint_inside_our_network(world, address):
    """SSRF: code, verifier and assertion are posted to addresses that were checked, or not at all."""
    browser, sent = await to_identity_provider(world)
    world.provider.discovery = {"token_endpoint": address}
    back = await world.came_back(browser, sent)
    assert back.answer["error"] == "server_error"
    assert "forbidden_address" in [getattr(event, "rule", "") for event in world.recorded.events]
