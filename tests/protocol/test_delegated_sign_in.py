"""PAR, sign-in and consent (RFC 9126, RFC 9207, RFC 9700, OpenID Connect Core 3.1): each rule, and its refusal."""

import json

import pytest
from delegation_world import (
    APP,
    AUTHORIZE,
    CONSENT,
    DETAIL,
    MINUTE,
    NATIVE,
    SECOND,
    DelegationWorld,
    delegation_world,
)
from exchange_world import ANALYST_API, AS, BILLING, BILLING_API, PLANNER, SCOPES, ExchangeWorld, thumbprint_of
from openid_provider import OUR_CLIENT_ID, with_query

from agentshield.identity.access_token import Confirmation
from agentshield.oauth.authorize.request import Stage
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import ClientAuthMethod, FederatedCredential, SignIn, SignInMethod, SingleUse


@pytest.fixture
async def world(tmp_path):
    async with delegation_world(tmp_path) as made:
        yield made


async def error_of(answer) -> OAuthErrorCode:
    with pytest.raises(OAuthError) as caught:
        await answer
    return caught.value.error


# RFC 9126, 2: lodging a request


async def test_request_uri_is_a_secret_that_is_kept_only_as_its_digest(world: DelegationWorld):
    """2.2: who reads our database, or our log, must not be able to start somebody's request."""
    pushed = await world.push()
    assert pushed.request_uri.startswith("urn:ietf:params:oauth:request_uri:")
    assert pushed.expires_in == 90
    secret = pushed.request_uri.rpartition(".")[2]
    assert len(secret) >= 43  # 256 bits
    assert secret not in repr((await world.kept(pushed.request_uri), world.recorded.events, pushed))
    assert world.steps() == ["authorization.requested"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),  # RFC 9700, 2.1.2: no implicit grant
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"request": "eyJ"}, "invalid_request"),
        ({"request_uri": "urn:ietf:params:oauth:request_uri:x"}, "invalid_request"),  # RFC 9126, 2.1
        ({"code_challenge": None}, "invalid_request"),  # RFC 9700, 2.1.1
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),  # which would mean plain (RFC 7636, 4.3)
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "c" * 44}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": APP + "/"}, "invalid_request"),
        ({"redirect_uri": "https://evil.test/cb"}, "invalid_request"),
        ({"redirect_uri": APP + "?x=1"}, "invalid_request"),
        ({"state": "x" * 1025}, "invalid_request"),
        ({"state": "a\nb"}, "invalid_request"),
        ({"dpop_jkt": "short"}, "invalid_request"),
        ({"dpop_jkt": "B" * 43}, "invalid_request"),  # RFC 9449, 10.1: not the key of the proof
        ({"identity_provider": "nobody"}, "invalid_request"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"scope": "openid read"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "offline_access"}, "invalid_scope"),
        ({"audience": None}, "invalid_target"),
        ({"audience": "https://nobody.test"}, "invalid_target"),
        ({"audience": (BILLING_API, ANALYST_API)}, "invalid_target"),
        ({"authorization_details": "[]"}, "invalid_authorization_details"),
        ({"authorization_details": DETAIL.replace("pay", "admin")}, "invalid_authorization_details"),
        ({"authorization_details": DETAIL.replace("agent_action", "other")}, "invalid_authorization_details"),
        ({"authorization_details": DETAIL.replace("billing", "analyst")}, "invalid_authorization_details"),
    ],
)
async def test_what_may_not_be_lodged(world: DelegationWorld, changes, error):
    """Nobody is asked for what could not be granted, nor sent where nobody registered."""
    assert await error_of(world.push(**changes)) == error
    assert world.recorded.events[-1].grant == "authorization_code"


async def test_a_request_is_of_the_client_that_authenticated(world: DelegationWorld):
    """RFC 9126, 2.1: by another's name, the human would be told another story."""
    world.fake.changes = {"client_id": "planner-app"}
    assert await error_of(world.push()) == "invalid_request"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"binding": None}, "invalid_request"),
        ({"method": ClientAuthMethod.CLIENT_SECRET_BASIC}, "unauthorized_client"),
        ({"method": ClientAuthMethod.CLIENT_SECRET_POST}, "unauthorized_client"),
    ],
)
async def test_who_asks_proves_a_key(world: DelegationWorld, changes, error):
    """TX-01: the code is for that key; a secret can be in more than one place."""
    world.fake.changes = changes
    assert await error_of(world.push()) == error


async def test_blueprint_resource_and_the_humans_own_issuer_are_each_the_ceiling(world: DelegationWorld):
    """A yes widens nothing: not what the agent may have, and not what this issuer's people are believed for."""
    world.limit(PLANNER, "read")
    assert await error_of(world.push(scope="pay")) == "invalid_scope"
    world.limit(PLANNER, *SCOPES)
    await world.store.issuers.put(world.idp(scopes=frozenset({"write"})))
    assert await error_of(world.push(scope="read")) == "invalid_scope"
    kept = await world.kept((await world.push(scope=BILLING_API + "/.default offline_access")).request_uri)
    assert (kept.asked.scopes, kept.asked.is_lasting) == (("write",), True)


async def test_a_client_without_a_registered_address_cannot_ask(world: DelegationWorld):
    """RFC 9700, 2.1: an agent's SPIFFE ID is a client, and says nothing of where browsers may be sent."""
    await world.store.clients.put(world.app(redirect_uris=()))
    assert await error_of(world.push()) == "unauthorized_client"
    await world.store.clients.delete(str(PLANNER))
    assert await error_of(world.push()) == "unauthorized_client"


async def test_where_nobody_signs_in_nobody_can_delegate(world: DelegationWorld):
    """And where several could, the client says which."""
    other = world.idp(name="other", issuer="https://other.test", jwks_url="https://other.test/keys")
    await world.store.issuers.put(other)
    assert await error_of(world.push()) == "invalid_request"
    assert (await world.kept((await world.push(identity_provider="idp")).request_uri)).asked.issuer == "idp"
    for name in ("idp", "other"):
        await world.store.issuers.delete(name)
    assert await error_of(world.push(identity_provider="foreign")) == "unauthorized_client"


async def test_a_service_without_sign_in_says_so(tmp_path):
    """No grant of that name, and nothing lodged."""
    plain = await ExchangeWorld(keys_directory=tmp_path).open()
    answer = plain.service.push(plain.request(url=AS + "/oauth/par", client_id=str(PLANNER)))
    assert await error_of(answer) == "unauthorized_client"
    assert not {"authorization_code", "refresh_token"} & plain.service.grant_types


async def test_a_proof_lodges_one_request(world: DelegationWorld):
    """A client assertion or DPoP proof that somebody saw pass is no way in."""
    use = SingleUse(kind="dpop", scope="k", value="proof-1", expires_at=world.clock() + MINUTE)
    world.fake.changes = {"uses": (use,)}
    await world.push()
    assert await error_of(world.push()) == "invalid_dpop_proof"


async def test_what_is_not_on_record_is_not_lodged(world: DelegationWorld):
    """A request that the log does not know must not be put before anybody."""
    world.recorded.is_broken = True
    assert await error_of(world.push()) == "temporarily_unavailable"


# RFC 9126, 4: a browser comes with it


async def test_browser_is_sent_to_sign_in_with_what_only_it_can_answer(world: DelegationWorld):
    """OpenID Connect Core, 3.1.2.1: state, nonce and PKCE, all of this browser's own, and none of it kept here."""
    browser, pushed = world.browser(), await world.push()
    sent = await world.started(browser, pushed)
    asked = sent.answer
    assert sent.location.startswith(world.provider.url + "/authorize?")
    assert asked["redirect_uri"] == AS + "/oauth/callback"
    ((name, secret),) = browser.cookies.items()
    assert name.startswith("__Host-")
    cookie = sent.headers["set-cookie"]
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= {each.strip() for each in cookie.split(";")}
    kept = repr(await world.kept(pushed.request_uri))
    for value in (secret, asked["state"].partition(".")[2], asked["nonce"], asked["code_challenge"]):
        assert value not in kept
    assert secret not in sent.location


async def test_request_uri_is_good_once_and_for_ninety_seconds(world: DelegationWorld):
    """RFC 9126, 4 and 7.3: a link in a history or a chat must be text to whoever opens it."""
    pushed = await world.push()
    assert (await world.started(world.browser(), pushed)).status == 303
    assert (await world.started(world.browser(), pushed)).status == 400
    late = await world.push()
    world.clock.advance(90 * SECOND)
    assert (await world.started(world.browser(), late)).status == 400


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
async def test_who_only_looks_uses_nothing_up(world: DelegationWorld, method):
    """A mail program that looks at links must not take the human's turn. And no CORS (RFC 9700, 2.1, 4)."""
    pushed = await world.push()
    told = {"client_id": str(PLANNER), "request_uri": pushed.request_uri}
    seen = await world.browser().get(with_query(AUTHORIZE, told), method=method)
    assert (seen.status, seen.headers["allow"]) == (405, "GET")
    assert not any(name.startswith("access-control") for name in seen.headers)
    assert (await world.started(world.browser(), pushed)).status == 303


async def test_an_identity_provider_that_is_away_is_told_to_the_client(world: DelegationWorld):
    """RFC 6749, 4.1.2.1: the client has lodged the request, so its address is to be trusted, and it is told."""
    await world.store.issuers.put(world.idp(issuer="https://localhost:1", ca_pem=None))
    seen = await world.started(world.browser(), await world.push())
    assert seen.location.startswith(APP + "?")
    assert (seen.answer["error"], seen.answer["iss"], seen.answer["state"]) == ("temporarily_unavailable", AS, "s & t")
    assert world.steps()[-1] == "authorization.failed"


# OpenID Connect Core, 3.1.2.5 to 3.1.3.7: the browser comes back


async def test_we_prove_ourselves_there_by_our_own_key(world: DelegationWorld):
    """private_key_jwt, for their issuer name alone (BCP-10), with the browser's verifier; and no secret."""
    await world.page(world.browser())
    (form,) = world.provider.redeemed
    assert form["client_assertion_type"].endswith(":jwt-bearer")
    assert form.keys() == {
        "grant_type",
        "code",
        "redirect_uri",
        "client_id",
        "code_verifier",
        "client_assertion_type",
        "client_assertion",
    }


async def test_a_public_client_there_proves_itself_by_pkce_alone(world: DelegationWorld):
    """For providers that know no keys of clients."""
    world.provider.is_client_public = True
    await world.store.issuers.put(world.idp(sign_in=SignIn(client_id=OUR_CLIENT_ID, method=SignInMethod.NONE)))
    page = await world.page(world.browser())
    assert "client_assertion" not in world.provider.redeemed[0]
    assert "<bdi>ann</bdi>" in page.body  # without a claim to call her by, her subject


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another-client"},
        {"aud": [OUR_CLIENT_ID, "another-client"]},
        {"azp": "another-client"},
        {"iss": "https://other.test"},
        {"exp": 1},
        {"iat": 2**33},
        {"sub": None},
        {"sub": ""},
        {"sub": str(BILLING)},  # RFC 9700, 4.15: a human by an agent's name
        {"nonce": None},
        {"nonce": 7},
    ],
)
async def test_an_id_token_that_does_not_hold_signs_nobody_in(world: DelegationWorld, claims):
    """OpenID Connect Core, 3.1.3.7: each claim is the difference between Ann and somebody else."""
    world.provider.claims = claims
    browser = world.browser()
    back = await world.came_back(browser, await world.started(browser, await world.push()))
    assert (back.answer["error"], back.location.partition("?")[0]) == ("server_error", APP)
    assert browser.cookies == {}


async def test_an_agents_identity_over_there_delegates_nothing(world: DelegationWorld):
    """Whom a federated credential takes for the billing agent is not a human who lends it their name."""
    await world.store.issuers.put(world.idp(audiences=frozenset({OUR_CLIENT_ID})))
    credential = FederatedCredential(
        name="robot",
        agent=BILLING,
        issuer=world.provider.url,
        subject="ann",
        audience=OUR_CLIENT_ID,
        created_at=world.clock(),
        created_by="ann",
    )
    await world.store.credentials.put(credential)
    browser = world.browser()
    back = await world.came_back(browser, await world.started(browser, await world.push()))
    assert back.answer["error"] == "server_error"


async def test_an_id_token_is_for_the_sign_in_alone(world: DelegationWorld):
    """It names us as its client, not as a server: whoever has one cannot exchange it for Ann's rights."""
    sent = await world.started(world.browser(), await world.push())
    token = world.provider.id_token(sent.answer)
    kind = "urn:ietf:params:oauth:token-type:id_token"
    assert await error_of(world.exchange(PLANNER, token, subject_token_type=kind)) == "invalid_request"


async def test_an_answer_without_id_token_or_code_signs_nobody_in(world: DelegationWorld):
    """An access token of theirs says nothing of who is sitting here."""
    world.provider.answers_with_id_token = False
    browser = world.browser()
    back = await world.came_back(browser, await world.started(browser, await world.push()))
    assert back.answer["error"] == "server_error"
    world.provider.answers_with_id_token = True
    for code in (None, "made-up", "x" * 5000):
        browser = world.browser()
        back = await world.came_back(browser, await world.started(browser, await world.push()), code=code)
        assert back.answer["error"] in ("server_error", "temporarily_unavailable")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("access_denied", "access_denied"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("login_required", "server_error"),
        ("<script>", "server_error"),
    ],
)
async def test_a_refusal_there_is_one_here(world: DelegationWorld, theirs, ours):
    """RFC 6749, 4.1.2.1: in our words; what they wrote goes to nobody's address bar."""
    world.provider.refusal = theirs
    browser = world.browser()
    back = await world.came_back(browser, await world.started(browser, await world.push()))
    assert back.answer["error"] == ours
    assert "%3Cscript" not in back.location


async def test_a_human_has_ten_minutes(world: DelegationWorld):
    """A page that stays open overnight is answered by whoever sits there in the morning."""
    browser = world.browser()
    sent = await world.started(browser, await world.push())
    world.clock.advance(10 * MINUTE)
    assert (await world.came_back(browser, sent)).status == 400
    browser = world.browser()
    page = await world.page(browser)
    world.clock.advance(10 * MINUTE)
    assert (await world.decided(browser, page)).status == 400


# The consent page


async def test_page_shows_all_that_would_be_granted(world: DelegationWorld):
    """Nobody agrees to what they were not shown."""
    page = await world.page(
        world.browser(), scope="read write offline_access", authorization_details=DETAIL, redirect_uri=NATIVE
    )
    for shown in ("Ann Smith", str(PLANNER), BILLING_API, "read", "write", "invoice-7", "http://127.0.0.1", "8 hours"):
        assert shown in page.body
    assert "offline_access" not in page.body
    once = await world.page(world.browser())
    assert "5 minutes, once" in once.body


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ('"><form action="https://evil.test">', "&quot;&gt;&lt;form action=&quot;https://evil.test&quot;&gt;"),
        ("Ann\u202eevil", "Ann⟨U+202E⟩evil"),
        ("A\u200bnn", "A⟨U+200B⟩nn"),
        ("Ann\u3164", "Ann⟨U+3164⟩"),
        ("Ann\r\nBob", "Ann⟨U+000D⟩⟨U+000A⟩Bob"),
        ("علي", "<bdi>علي</bdi>"),
    ],
)
async def test_what_others_wrote_cannot_change_the_page(world: DelegationWorld, name, shown):
    """A name is text: it makes no markup, hides nothing, and turns nothing round."""
    world.provider.claims = {"name": name}
    page = await world.page(world.browser())
    assert shown in page.body
    assert page.body.count("<form") == 1


async def test_details_that_only_look_alike_are_told_apart(world: DelegationWorld):
    """A Cyrillic letter in an identifier stands there by its number."""
    looks = DETAIL.replace("invoice-7", "\u0456nvoice-7")
    assert "\\u0456nvoice-7" in (await world.page(world.browser(), authorization_details=looks)).body


async def test_no_is_access_denied_and_final(world: DelegationWorld):
    """RFC 6749, 4.1.2.1: told as such; and a second thought needs a new request."""
    browser = world.browser()
    page = await world.page(browser)
    cookies = dict(browser.cookies)
    seen = await world.decided(browser, page, "deny")
    assert (seen.answer["error"], seen.answer["state"], seen.answer["iss"]) == ("access_denied", "s & t", AS)
    assert "code" not in seen.answer
    assert world.steps()[-1] == "authorization.denied"
    assert browser.cookies == {}
    browser.cookies = cookies  # though the browser had kept it
    assert (await world.decided(browser, page)).status == 400


async def test_yes_goes_back_with_code_state_and_issuer(world: DelegationWorld):
    """RFC 9207, 2: who answers is named, so that a client of several servers cannot be mixed up (BCP-04)."""
    browser = world.browser()
    seen = await world.decided(browser, await world.page(browser))
    assert seen.location.startswith(APP + "?")
    assert seen.answer.keys() == {"code", "state", "iss"}
    assert (seen.answer["state"], seen.answer["iss"]) == ("s & t", AS)
    kept = await world.kept(seen.answer["code"])
    assert kept.stage is Stage.CONSENTED
    assert seen.answer["code"].partition(".")[2] not in repr((kept, world.recorded.events))
    names = ["requested", "consented", "code_issued"]
    assert world.steps() == [f"authorization.{name}" for name in names]
    event = world.recorded.events[-1]
    assert (event.subject, event.subject_issuer, event.agent) == ("ann", world.provider.url, str(PLANNER))


async def test_without_state_none_comes_back(world: DelegationWorld):
    """RFC 6749, 4.1.2: required if it was there."""
    browser = world.browser()
    seen = await world.decided(browser, await world.page(browser, state=None))
    assert seen.answer.keys() == {"code", "iss"}


async def test_a_program_on_the_users_machine_is_answered_at_its_port(world: DelegationWorld):
    """RFC 8252, 7.3."""
    browser = world.browser()
    page = await world.page(browser, redirect_uri="http://127.0.0.1:51004/cb")
    assert "form-action 'self' http://127.0.0.1:51004;" in page.headers["content-security-policy"]
    assert (await world.decided(browser, page)).location.startswith("http://127.0.0.1:51004/cb?code=")
    await world.store.clients.put(world.app(redirect_uris=("http://[::1]/cb",)))
    world.clock.advance(SECOND)
    page = await world.page(world.browser(), redirect_uri="http://[::1]:51004/cb")
    assert "form-action 'self' http://*:51004;" in page.headers["content-security-policy"]  # CSP knows no IPv6


@pytest.mark.parametrize("decision", ["", "maybe", "Allow"])
async def test_what_is_neither_yes_nor_no_decides_nothing(world: DelegationWorld, decision):
    """And the human may still decide."""
    browser = world.browser()
    page = await world.page(browser)
    assert (await world.decided(browser, page, decision)).status == 400
    assert (await world.decided(browser, page)).status == 303


async def taken_from_blueprint(world: DelegationWorld) -> None:
    world.limit(PLANNER, "write")


async def agent_suspended(world: DelegationWorld) -> None:
    world.directory.suspend(PLANNER)


async def issuer_signs_nobody_in(world: DelegationWorld) -> None:
    await world.store.issuers.put(world.idp(sign_in=None))


async def issuer_registered_anew(world: DelegationWorld) -> None:
    world.clock.advance(SECOND)
    await world.store.issuers.put(world.idp())


async def resource_deleted(world: DelegationWorld) -> None:
    await world.store.resources.delete(BILLING_API)


@pytest.mark.parametrize(
    "change",
    [taken_from_blueprint, agent_suspended, issuer_signs_nobody_in, issuer_registered_anew, resource_deleted],
)
async def test_what_was_taken_away_meanwhile_cannot_be_agreed_to(world: DelegationWorld, change):
    """Between page and answer somebody may have stopped the agent, or narrowed what it may."""
    browser = world.browser()
    page = await world.page(browser)
    await change(world)
    seen = await world.decided(browser, page)
    assert "error" in seen.answer
    assert world.steps()[-1] == "authorization.failed"


async def test_a_page_that_is_not_on_record_leads_to_no_code(world: DelegationWorld):
    """A yes that the log does not know could never be looked into."""
    browser = world.browser()
    page = await world.page(browser)
    world.recorded.is_broken = True
    seen = await world.decided(browser, page)
    assert seen.answer["error"] == "temporarily_unavailable"
    assert "code" not in seen.answer


async def test_a_key_named_beforehand_is_what_the_code_is_bound_to(world: DelegationWorld):
    """RFC 9449, 10: a client that asks over mTLS may say by which DPoP key it will redeem."""
    world.fake.changes = {"binding": Confirmation(x5t_s256="C" * 43)}
    jkt = thumbprint_of(PLANNER)
    assert (await world.kept((await world.push(dpop_jkt=jkt)).request_uri)).asked.binding == f"jkt:{jkt}"
    assert (await world.kept((await world.push()).request_uri)).asked.binding == "x5t:" + "C" * 43


async def test_two_requests_in_one_browser_do_not_meet(world: DelegationWorld):
    """A human with two agents in two tabs answers each for itself."""
    browser = world.browser()
    first = await world.page(browser)
    second = await world.page(browser, scope="write")
    assert len(browser.cookies) == 2
    crossed = await world.decided(browser, first, csrf=second.form["csrf"])
    assert crossed.status == 400
    for page, scopes in ((first, ("read",)), (second, ("write",))):
        seen = await world.decided(browser, page)
        assert (await world.kept(seen.answer["code"])).asked.scopes == scopes


async def test_what_is_asked_in_detail_goes_through_to_the_letter(world: DelegationWorld):
    """RFC 9396, 7."""
    kept = await world.kept(await world.agreed(scope=None, authorization_details=DETAIL))
    assert list(kept.asked.details) == json.loads(DETAIL)


async def test_consent_page_is_nobodys_without_a_sign_in(world: DelegationWorld):
    """The steps come one after the other; none can be left out."""
    browser = world.browser()
    pushed = await world.push()
    sent = await world.started(browser, pushed)
    request_id = sent.answer["state"].partition(".")[0]
    assert (await browser.get(f"{CONSENT}?request={request_id}")).status == 400
    form = {"request": request_id, "csrf": "x", "decision": "allow"}
    assert (await browser.post(CONSENT, form)).status == 400
