"""How we choose what to prove: the cheapest alternative of which we have all, and what is said when there is none."""

import pytest
from agent_cards import AT, ORIGIN, whole_card

from agentshield.identity.agent_card.binding import IdentityBinding
from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.jose import CardSigner
from agentshield.identity.agent_card.signature import EnrolledKey, EnrolledKeys, sign_card, verify_card
from agentshield.identity.keys import generate_private_key
from agentshield.sdk.a2a_client.credentials import ApiKey, BasicLogin, BearerToken, Wallet
from agentshield.sdk.a2a_client.errors import (
    NoInterfaceError,
    NoUsableRequirementError,
    UnknownExtensionError,
    UnknownSkillError,
)
from agentshield.sdk.a2a_client.planner import choose_interface, plan_call

ISSUER = "https://as.example.test/oauth"
FLOW = {"tokenUrl": f"{ISSUER}/token", "scopes": {"a": "A"}}
SCHEMES = {
    "mtls": {"mtlsSecurityScheme": {"description": "SVID"}},
    "tokens": {"oauth2SecurityScheme": {"flows": {"clientCredentials": FLOW}}},
    "oidc": {"openIdConnectSecurityScheme": {"openIdConnectUrl": f"{ISSUER}/.well-known/openid-configuration"}},
    "foreign": {
        "oauth2SecurityScheme": {
            "flows": {"clientCredentials": {"tokenUrl": "https://as.other.test/token", "scopes": {"a": "A"}}}
        }
    },
    "browser": {
        "oauth2SecurityScheme": {
            "flows": {
                "authorizationCode": {
                    "authorizationUrl": "https://x.test",
                    "tokenUrl": "https://x.test",
                    "scopes": {"a": "A"},
                }
            }
        }
    },
    "bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer"}},
    "basic": {"httpAuthSecurityScheme": {"scheme": "basic"}},
    "digest": {"httpAuthSecurityScheme": {"scheme": "digest"}},
    "header": {"apiKeySecurityScheme": {"location": "header", "name": "X-Api-Key"}},
    "host": {"apiKeySecurityScheme": {"location": "header", "name": "Host"}},
    "cookie": {"apiKeySecurityScheme": {"location": "cookie", "name": "key"}},
    "query": {"apiKeySecurityScheme": {"location": "query", "name": "key"}},
}
KEY = ApiKey(value="k")
ALL = Wallet(
    shows_svid=True,
    has_jwt_svid=True,
    issuer=ISSUER,
    secrets={"header": KEY, "cookie": KEY, "query": KEY, "host": KEY, "basic": BasicLogin(user="u", password="p")},
)
NOTHING = Wallet(shows_svid=False, has_jwt_svid=False)


def needs(*alternatives):
    return [{"schemes": {name: {"list": ["s"]} for name in each.split()}} for each in alternatives]


def verified(*alternatives, of_skill=(), extensions=(), is_bound=False, **more):
    key = generate_private_key()
    members = {
        **whole_card(is_bound=is_bound),
        "securitySchemes": SCHEMES,
        "securityRequirements": needs(*alternatives),
        **more,
    }
    members["capabilities"] = {**members["capabilities"], "extensions": [*extensions, *_ours(members)]}
    members["skills"] = [{**members["skills"][0], "securityRequirements": needs(*of_skill)}]
    if not of_skill:
        members["skills"][0].pop("securityRequirements")
    if not alternatives:
        members.pop("securityRequirements")
    binding = IdentityBinding.of(AgentCard.of(members))
    domain = binding.spiffe_id.trust_domain
    keys = EnrolledKeys(
        (EnrolledKey(kid="k", public_key=key.public_key(), origins=frozenset({ORIGIN}), trust_domain=domain),)
    )
    signed = sign_card(AgentCard.of(members), CardSigner(kid="k", key=key))
    return verify_card(AgentCard.parse(signed), keys=keys, at=AT)


def _ours(members):
    from dataclasses import replace

    from agent_cards import BINDING

    return [replace(BINDING, proofs=frozenset()).to_extension()]


def plan(card, wallet=ALL, *, skill=None):
    return plan_call(card, wallet, interface=choose_interface(card.card), skill=skill)


def lacks(card, wallet=ALL, **more):
    with pytest.raises(NoUsableRequirementError) as refused:
        plan(card, wallet, **more)
    return dict(refused.value.alternatives)


@pytest.mark.parametrize(
    ("alternatives", "chosen"),
    [
        (("mtls",), ["svid"]),
        (("tokens",), ["token"]),
        (("oidc",), ["token"]),
        (("bearer",), ["jwt-svid"]),
        (("basic",), ["basic"]),
        (("header",), ["header"]),
        (("cookie",), ["cookie"]),
        (("basic", "tokens", "bearer", "mtls"), ["svid"]),
        (("basic", "tokens"), ["token"]),
        (("foreign", "basic"), ["basic"]),
        (("mtls tokens",), ["svid", "token"]),
        (("header cookie mtls",), ["header", "cookie", "svid"]),
    ],
)
def test_the_cheapest_whole_alternative_is_chosen(alternatives, chosen):
    """All schemes of one alternative, never half of one, and nothing that is not asked for."""
    assert sorted(each.kind for each in plan(verified(*alternatives)).proofs) == sorted(chosen)


@pytest.mark.parametrize(
    ("alternative", "why"),
    [
        ("foreign", "it takes tokens of 'https://as.other.test/token'"),
        ("browser", "clientCredentials only"),
        ("digest", "not 'digest'"),
        ("query", "the key may not go into a query"),
        ("host", "cannot go into 'header' as 'Host'"),
        ("tokens bearer", "go into the same header authorization"),
        ("mtls foreign", "it takes tokens of"),
    ],
)
def test_what_cannot_be_shown_whole_is_refused(alternative, why):
    """The error names each alternative and what it lacked: a person can mend that."""
    assert why in lacks(verified(alternative))[alternative.replace(" ", " + ")][0]


@pytest.mark.parametrize("name", ["mtls", "tokens", "oidc", "bearer", "basic", "header", "cookie", "query"])
def test_who_has_nothing_shows_nothing(name):
    """Nothing is guessed, made up, or taken from the environment."""
    assert lacks(verified(name), NOTHING)[name]


def test_a_key_goes_into_a_query_only_where_the_program_says_so():
    """Queries are logged by everything on the way."""
    wallet = Wallet(
        shows_svid=True, has_jwt_svid=True, secrets={"query": ApiKey(value="k", places=frozenset({"query"}))}
    )
    assert plan(verified("query"), wallet).proofs[0].kind == "query"


def test_a_token_that_is_handed_in_is_used():
    """For agents that know nothing of SPIFFE."""
    wallet = Wallet(shows_svid=False, has_jwt_svid=True, secrets={"bearer": BearerToken(value="t")})
    assert plan(verified("bearer"), wallet).proofs[0].kind == "bearer"


def test_a_skill_asks_on_top_of_its_agent():
    """What the card asks for and what the skill asks for, both; and scopes of both in one token."""
    card = verified("mtls", of_skill=("tokens", "oidc"))
    assert [each.kind for each in plan(card).proofs] == ["svid"]
    assert [each.kind for each in plan(card, skill="summarise").proofs] == ["svid", "token"]
    assert lacks(card, Wallet(shows_svid=True, has_jwt_svid=True), skill="summarise").keys() == {
        "mtls + tokens",
        "mtls + oidc",
    }


def test_two_schemes_of_one_token_service_are_one_token():
    """Two would go into the same header."""
    (proof,) = plan(verified("tokens oidc")).proofs
    assert proof.scopes == {"s"}


def test_a_card_that_asks_for_nothing_gets_nothing():
    """No credential goes along unasked."""
    assert plan(verified()).proofs == ()


def test_an_unknown_skill_is_refused():
    """Before anything is sent."""
    with pytest.raises(UnknownSkillError):
        plan(verified("mtls"), skill="fly")


def test_a_required_extension_that_we_do_not_know_is_refused():
    """Who does not know it cannot talk to the agent (A2A 4.6)."""
    with pytest.raises(UnknownExtensionError):
        plan(verified("mtls", extensions=[{"uri": "https://x.test/e", "required": True}]))
    assert plan(verified("mtls", extensions=[{"uri": "https://x.test/e"}])).proofs


def test_the_first_interface_that_we_speak_is_chosen():
    """In the card's order of preference; one of another version or binding is passed over."""
    url = f"{ORIGIN}/a2a"
    grpc = {"url": "analyst.example.test:443", "protocolBinding": "GRPC", "protocolVersion": "1.0"}
    old = {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"}
    rest = {"url": url, "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"}
    assert choose_interface(verified(supportedInterfaces=[grpc, old, rest]).card).binding == "HTTP+JSON"
    with pytest.raises(NoInterfaceError):
        choose_interface(verified(supportedInterfaces=[grpc, old]).card)


def test_an_interface_of_another_card_is_refused():
    """Credentials are planned for an address of the card that was verified, and for no other."""
    card = verified("mtls")
    from dataclasses import replace

    with pytest.raises(NoInterfaceError):
        plan_call(card, ALL, interface=replace(card.card.interfaces[0], url="https://evil.test/"), skill=None)
