"""Foreign tokens: by whose record they are believed, which agent they are, and how a refusal is explained."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.errors import BadSignatureError, WrongAudienceError
from agentshield.identity.foreign_token import ForeignTokenError
from agentshield.identity.jwk import UnknownKeyError, jwk_of
from agentshield.identity.jws import sign_compact
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.issuers.claims import claim_at, near_miss
from agentshield.oauth.issuers.errors import NoCredentialError, UnknownIssuerError
from agentshield.oauth.issuers.presets import PRESETS, record_from_preset
from agentshield.oauth.issuers.samples import shape_of
from agentshield.oauth.model import FederatedCredential

AUDIENCE = "https://as.example.test"
BUILDER = SpiffeId.parse("spiffe://example.test/agents/builder")
SHAPES = {name: shape_of(name) for name in PRESETS}


def credential(record, **fields) -> FederatedCredential:
    values = {
        "name": "builder-ci",
        "agent": BUILDER,
        "issuer": record.issuer,
        "subject": "job-7",
        "audience": AUDIENCE,
        "created_at": record.created_at,
        "created_by": "ann",
    }
    return FederatedCredential(**(values | fields))


async def test_a_token_of_a_registered_issuer_is_an_agent(foreign, record, store, federation, clock):
    """The way it is meant to be: a platform's own token, and no secret of ours on the platform."""
    await store.issuers.put(record)
    await store.credentials.put(credential(record))
    identity = await federation.verify(foreign.token(clock()), audience=AUDIENCE, at=clock())
    assert identity.subject == "job-7"
    assert await federation.agent_for(identity) == BUILDER


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"iss": "https://localhost"}, UnknownIssuerError),
        ({"iss": None}, UnknownIssuerError),
        ({"aud": "https://other.example.test"}, WrongAudienceError),
        ({"aud": [AUDIENCE, "https://other.example.test"]}, WrongAudienceError),
        ({"aud": None}, AgentShieldError),
        ({"exp": 1}, ForeignTokenError),
        ({"exp": None}, AgentShieldError),
        ({"exp": 2**34}, ForeignTokenError),
        ({"nbf": 2**34}, ForeignTokenError),
        ({"sub": None}, AgentShieldError),
    ],
)
async def test_a_token_outside_the_record_is_refused(foreign, record, store, federation, clock, change, error):
    """How far an issuer is believed is ours to say: another audience, an endless life, are not."""
    await store.issuers.put(record)
    with pytest.raises(error):
        await federation.verify(foreign.token(clock(), **change), at=clock())


async def test_a_token_signed_by_somebody_else_is_refused(foreign, record, store, federation, clock):
    """Anybody can write the issuer's name and its kid."""
    await store.issuers.put(record)
    with pytest.raises(BadSignatureError):
        await federation.verify(foreign.token(clock(), key=generate_private_key()), at=clock())
    with pytest.raises(UnknownKeyError):
        await federation.verify(foreign.token(clock(), kid="k9", key=generate_private_key()), at=clock())


async def test_an_algorithm_that_the_record_lacks_is_refused_before_anybody_is_asked(
    foreign, record, store, federation, clock
):
    """The record says how an issuer signs; and a bad token must not make us send requests."""
    await store.issuers.put(replace(record, algorithms=frozenset({"RS256"})))
    with pytest.raises(AgentShieldError):
        await federation.verify(foreign.token(clock()), at=clock())
    assert foreign.asked == []


async def test_an_audience_narrows_and_never_widens(foreign, record, store, federation, clock):
    """Whoever asks for a token for one purpose must not be given one for another."""
    await store.issuers.put(replace(record, audiences=frozenset({AUDIENCE, "api://other"})))
    with pytest.raises(WrongAudienceError):
        await federation.verify(foreign.token(clock(), aud="api://other"), audience=AUDIENCE, at=clock())
    with pytest.raises(WrongAudienceError):
        await federation.verify(foreign.token(clock(), aud="api://third"), audience="api://third", at=clock())


async def test_a_deleted_issuer_is_forgotten_at_once(foreign, record, store, federation, clock):
    """Its keys may still be cached; its record is not there, so it is nobody."""
    await store.issuers.put(record)
    await federation.verify(foreign.token(clock()), at=clock())
    await store.issuers.delete(record.name)
    with pytest.raises(UnknownIssuerError):
        await federation.verify(foreign.token(clock()), at=clock())


@pytest.mark.parametrize(
    "fields", [{"subject": "job-70"}, {"subject": "JOB-7"}, {"audience": "api://x"}, {"claims": {"repo.id": "8"}}]
)
async def test_a_credential_that_nearly_fits_fits_nothing(foreign, record, store, federation, clock, fields):
    """Each condition is exact, and all must hold."""
    await store.issuers.put(record)
    await store.credentials.put(credential(record, **fields))
    identity = await federation.verify(foreign.token(clock(), repo={"id": 7}), at=clock())
    with pytest.raises(NoCredentialError):
        await federation.agent_for(identity)


async def test_explain_names_the_near_misses(foreign, record, store, federation, clock):
    """Whoever sets up an issuer must see that it is the slash."""
    await store.credentials.put(credential(record, subject="Job-7"))
    token = foreign.token(clock(), iss=record.issuer + "/", aud=AUDIENCE + "/")
    checks = {check.claim: check for check in await federation.explain(token, record)}
    assert checks["iss"].note == "differs only by the final slash"
    assert checks["aud"].note == "differs only by the final slash"
    assert checks["credential builder-ci: sub"].note == "differs only by capital letters"
    assert checks["signature"].holds
    assert not checks["iss"].holds


async def test_explain_shows_every_fault_of_a_token_at_once(foreign, record, store, federation, clock):
    """A forged, old token for somebody else: three lines, not one after another in three attempts."""
    token = foreign.token(clock() - timedelta(hours=2), key=generate_private_key(), aud="api://x")
    checks = {check.claim: check for check in await federation.explain(token, record, at=clock())}
    assert [name for name, check in checks.items() if not check.holds] == ["signature", "aud", "exp"]
    assert checks["exp"].note == "ended 6900s ago"


@pytest.mark.parametrize(
    "changes", [{}, {"iat": None}, {"exp": 2**34}, {"nbf": 2**34}, {"aud": [AUDIENCE, "b"]}, {"aud": None}]
)
async def test_explain_and_verify_agree(foreign, record, store, federation, clock, changes):
    """An explanation that says yes where the server says no sends its reader the wrong way."""
    await store.issuers.put(record)
    token = foreign.token(clock(), **changes)
    says_yes = all(check.holds for check in await federation.explain(token, record))
    try:
        await federation.verify(token, at=clock())
    except AgentShieldError:
        assert not says_yes
    else:
        assert says_yes


def test_a_dotted_path_finds_a_claim_whose_own_name_has_dots():
    """Kubernetes nests under `kubernetes.io`, and Auth0 names claims by URL."""
    claims = {"kubernetes.io": {"namespace": "prod", "pod": {"uid": 7}}, "https://a.test/x": "y", "flag": True}
    assert claim_at(claims, "kubernetes.io.namespace") == "prod"
    assert claim_at(claims, "kubernetes.io.pod.uid") == "7"
    assert claim_at(claims, "https://a.test/x") == "y"
    assert [claim_at(claims, path) for path in ("kubernetes.io", "kubernetes", "flag", "kubernetes.io.", "")] == [
        None
    ] * 5


def test_what_is_not_near_is_no_near_miss():
    """A note that is always there is not read."""
    assert near_miss("https://a.test", "https://a.test") == ""
    assert near_miss("https://a.test", "https://b.test") == ""
    assert near_miss("https://a.test", "http://a.test").startswith("differs only by http")


@pytest.mark.parametrize("name", sorted(SHAPES))
async def test_a_token_of_every_kind_of_issuer_is_believed_by_its_preset(name, store, federation, clock):
    """A preset that misses a quirk costs an administrator a day: each is held against a token of that shape."""
    shape = SHAPES[name]
    now = int(clock().timestamp())
    claims = shape["claims"] | {"iat": now, "exp": now + shape["lifetime"]}
    claims |= {"nbf": now} if "nbf" in claims else {}
    key = generate_private_key()
    record = record_from_preset(
        name,
        name=name,
        issuer=claims["iss"],
        audiences=frozenset({shape["audience"]}),
        created_at=clock(),
        created_by="ann",
        jwks=json.dumps({"keys": [jwk_of(key.public_key(), kid="k1")]}).encode(),
    )
    assert shape["header"]["alg"] in record.algorithms
    assert shape["header"].get("typ") in record.token_types
    await store.issuers.put(replace(record, algorithms=frozenset({"ES256"})))  # RSA keys take a while to make
    await store.credentials.put(credential(record, subject=None, claims=shape["identify"], audience=shape["audience"]))
    token = sign_compact(claims, key, kid="k1", typ="JWT")
    identity = await federation.verify(token, at=clock())
    assert identity.subject == shape["subject"]
    assert await federation.agent_for(identity) == BUILDER
    assert not PRESETS[name].renamable & shape["identify"].keys()
    checks = await federation.explain(token, replace(record, algorithms=frozenset({"ES256"})))
    assert [check for check in checks if not check.holds] == []


@pytest.mark.parametrize(
    ("preset", "issuer"),
    [
        ("entra-v1", "https://sts.windows.net/11111111-2222-3333-4444-555555555555"),
        ("entra-v2", "https://login.microsoftonline.com/common/v2.0"),
        ("entra-v2", "https://login.microsoftonline.com/{tenantid}/v2.0"),
        ("okta", "https://org.okta.example.test"),
        ("auth0", "https://tenant.auth0.example.test"),
        ("github", "https://token.actions.githubusercontent.com.example.test"),
        ("gcp", "accounts.google.com"),
        ("nobody", "https://idp.example.test"),
    ],
)
def test_an_issuer_that_is_not_called_as_its_kind_are_is_refused(preset, issuer, clock):
    """Okta's org server and Entra's `common` are the usual mistakes, and each has an explanation."""
    with pytest.raises(InvalidInputError):
        record_from_preset(
            preset, name="x", issuer=issuer, audiences=frozenset({"a"}), created_at=clock(), created_by="ann"
        )
