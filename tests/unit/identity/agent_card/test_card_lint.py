"""What lint finds, and what a comparison says; each by one change to a card that is whole."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "vectors"))  # test directories are no packages

from agent_cards import BINDING, ORIGIN, Publisher, changed, whole_card, without

from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.difference import compare_cards
from agentshield.identity.agent_card.lint import Level, lint

FLOW = ("securitySchemes", "tokens", "oauth2SecurityScheme", "flows")
CODE_FLOW = {
    "authorizationCode": {
        "authorizationUrl": "https://as.example.test/authorize",
        "tokenUrl": "https://as.example.test/token",
        "scopes": {"task.read": "Read"},
    }
}


def rules(members, level=None):
    return {each.rule for each in lint(AgentCard.of(members)) if level in (None, each.level)}


def test_whole_signed_card_has_no_finding():
    assert lint(AgentCard.of(Publisher().sign(whole_card()))) == ()


@pytest.mark.parametrize(
    ("members", "rule", "level"),
    [
        (whole_card(), "signed", Level.WARNING),
        (whole_card(is_bound=False), "identity-bound", Level.WARNING),
        (whole_card() | {"url": "https://a.example.test"}, "nothing-unsigned", Level.WARNING),
        (whole_card() | {"iconUrl": ""}, "nothing-empty", Level.ERROR),
        (without(whole_card(), ("securityRequirements",)), "authentication-required", Level.ERROR),
        (whole_card() | {"securityRequirements": [{}]}, "no-open-alternative", Level.ERROR),
        (without(whole_card(), ("securitySchemes", "mtls")), "scheme-known", Level.ERROR),
        (without(whole_card(), ("securityRequirements", 0, "schemes", "mtls")), "scheme-used", Level.WARNING),
        (
            changed(whole_card(), FLOW, {"implicit": {"authorizationUrl": "https://a.test"}}),
            "no-deprecated-flow",
            Level.ERROR,
        ),
        (changed(whole_card(), FLOW, {}), "flow-named", Level.ERROR),
        (changed(whole_card(), FLOW, CODE_FLOW), "pkce-required", Level.WARNING),
        (
            changed(whole_card(), (*FLOW, "clientCredentials", "tokenUrl"), "http://as.example.test"),
            "https-only",
            Level.ERROR,
        ),
        (changed(whole_card(), ("supportedInterfaces", 0, "url"), "http://a.example.test"), "https-only", Level.ERROR),
        (changed(whole_card(), ("supportedInterfaces", 0, "protocolBinding"), "SOAP"), "binding-known", Level.ERROR),
        (changed(whole_card(), ("supportedInterfaces", 0, "protocolVersion"), "1"), "version-major-minor", Level.ERROR),
        (whole_card() | {"supportedInterfaces": []}, "interface-named", Level.ERROR),
        (without(whole_card(), ("securitySchemes",)), "extended-card-authenticated", Level.ERROR),
    ],
)
def test_finding(members, rule, level):
    assert rule in rules(members, level)


@pytest.mark.parametrize(
    ("scheme", "rule"),
    [
        ({"apiKeySecurityScheme": {"location": "query", "name": "k"}}, "no-key-in-query"),
        ({"apiKeySecurityScheme": {"location": "header", "name": "k"}}, "no-shared-key"),
        ({"httpAuthSecurityScheme": {"scheme": "BASIC"}}, "no-password"),
        ({"openIdConnectSecurityScheme": {"openIdConnectUrl": "http://idp.test"}}, "https-only"),
    ],
)
def test_scheme_that_is_weak(scheme, rule):
    assert rule in rules(changed(whole_card(), ("securitySchemes", "mtls"), scheme))


def test_every_finding_says_what_to_do():
    worst = whole_card(is_bound=False) | {"iconUrl": "", "securityRequirements": [{}], "skills": [], "x": 1}
    found = lint(AgentCard.of(worst))
    assert all(each.message and each.remedy for each in found)
    levels = [each.level for each in found]
    assert levels == sorted(levels, key=lambda level: level is not Level.ERROR)


def changes(before, after):
    return {(each.message, each.is_weaker) for each in compare_cards(AgentCard.of(before), AgentCard.of(after))}


def test_same_card_in_another_order_is_the_same():
    card = whole_card()
    card["securityRequirements"].append({"schemes": {"tokens": {"list": ["a", "b"]}}})
    turned = dict(reversed(card.items()))
    turned["securityRequirements"] = [{"schemes": {"tokens": {"list": ["b", "a"]}}}, card["securityRequirements"][0]]
    assert changes(card, turned) == set()


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (without(whole_card(), ("securityRequirements",)), "nothing is required any more"),
        (
            without(whole_card(), ("securityRequirements", 0, "schemes", "mtls")),
            "alternative is new: tokens (task.write)",
        ),
        (
            changed(whole_card(), ("securityRequirements", 0, "schemes", "tokens"), {"list": ["task.read"]}),
            "alternative is new: mtls (svid) and tokens (task.read)",
        ),
        (whole_card() | {"securityRequirements": [{}]}, "alternative is new: nothing at all"),
        (without(whole_card(), ("skills", 0, "securityRequirements")), "nothing is required any more"),
        (
            changed(whole_card(), (*FLOW, "clientCredentials", "tokenUrl"), "https://evil.example.test"),
            "scheme authenticates in another way, or elsewhere",
        ),
        (
            changed(whole_card(), ("supportedInterfaces", 0, "url"), "https://evil.example.test"),
            "answers at https://evil.example.test as well",
        ),
        (whole_card(is_bound=False), "does not say any more who it is about"),
        (
            without(whole_card(), ("capabilities", "extensions", 0)),
            "extension https://extensions.example.test/trace is not required any more",
        ),
    ],
)
def test_what_is_weaker_is_told_as_weaker(after, message):
    assert (message, True) in changes(whole_card(), after)


def bound(**change):
    members = whole_card(is_bound=False)
    members["capabilities"]["extensions"].append(replace(BINDING, **change).to_extension())
    return members


def test_card_that_goes_back_is_told():
    """A downgrade: an older card, replayed."""
    assert ("serial 6 does not follow 7", True) in changes(whole_card(), bound(serial=6))
    assert changes(whole_card(), bound(serial=8)) == set()
    same_serial = bound(resource_metadata=f"{ORIGIN}/elsewhere")
    assert ("serial 7 does not follow 7", True) in changes(whole_card(), same_serial)
    assert ("takes jwt-svid as well", True) in changes(
        whole_card(), bound(serial=8, proofs=BINDING.proofs | {"jwt-svid"})
    )


def test_what_is_stricter_or_plain_is_not_weaker():
    stricter = whole_card()
    stricter["securityRequirements"][0]["schemes"]["tokens"]["list"].append("task.read")
    assert not any(weaker for _, weaker in changes(whole_card(), stricter))
    plain = whole_card() | {"description": "In other words"}
    assert changes(whole_card(), plain) == {("changed", False)}
    renamed = whole_card()
    renamed["skills"][0]["id"] = "shorten"
    assert changes(whole_card(), renamed) == {("skill is new", False), ("skill is gone", False)}
