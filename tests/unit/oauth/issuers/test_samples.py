"""Samples of foreign tokens: one for every preset, each fault where it belongs, and none that anybody would believe."""

import json

import pytest

from agentshield.app.cli.issuer import _CASES
from agentshield.errors import InvalidInputError
from agentshield.identity.errors import BadSignatureError
from agentshield.identity.jwk import jwk_of
from agentshield.identity.jws import HeaderRule, UnverifiedJws
from agentshield.identity.keys import KeyType, generate_private_key
from agentshield.oauth.issuers.federation import TOKEN_TYPES
from agentshield.oauth.issuers.presets import PRESETS, record_from_preset
from agentshield.oauth.issuers.samples import SAMPLE_KID, SampleCase, sample_token, shape_of

AUDIENCE = "https://as.example.test"
FAULTS = {
    SampleCase.GOOD: set(),
    SampleCase.EXPIRED: {"exp"},
    SampleCase.WRONG_AUDIENCE: {"aud"},
    SampleCase.TWO_AUDIENCES: {"aud"},
    SampleCase.WRONG_ISSUER: {"iss"},
    SampleCase.NO_SUBJECT: {"SUBJECT"},
}
_RSA = generate_private_key(KeyType.RSA_2048)


@pytest.fixture(autouse=True)
def one_rsa_key(monkeypatch):
    """Making RSA keys takes most of the time; that each sample has its own is looked at once."""
    made = "agentshield.oauth.issuers.samples.generate_private_key"
    monkeypatch.setattr(made, lambda kind: _RSA if kind is KeyType.RSA_2048 else generate_private_key(kind))


def record_of(preset, clock):
    issuer = shape_of(preset)["claims"]["iss"]
    keys = [generate_private_key(kind) for kind in (KeyType.EC_P256, KeyType.EC_P384)]
    jwks = json.dumps({"keys": [jwk_of(key.public_key(), kid=f"k{i}") for i, key in enumerate(keys)]}).encode()
    return record_from_preset(
        preset,
        name=preset,
        issuer=issuer,
        audiences=frozenset({AUDIENCE}),
        created_at=clock(),
        created_by="ann",
        jwks=jwks,
    )


@pytest.mark.parametrize("case", SampleCase)
@pytest.mark.parametrize("preset", sorted(PRESETS))
async def test_each_sample_has_its_fault_and_no_other(preset, case, federation, clock):
    """Who learns from a sample must see the one thing that it is about; the signature holds in none."""
    record = record_of(preset, clock)
    token = sample_token(preset, issuer=record.issuer, audience=AUDIENCE, case=case, at=clock())
    checks = await federation.explain(token, record)
    subject = PRESETS[preset].subject_claim
    expected = {subject if fault == "SUBJECT" else fault for fault in FAULTS[case]}
    assert {check.claim for check in checks if not check.holds} == expected | {"signature"}


def test_no_two_samples_share_a_key(monkeypatch, clock):
    """The key is gone when the token is made: registering it somewhere would help nobody else."""
    keys = []
    made = "agentshield.oauth.issuers.samples.generate_private_key"
    monkeypatch.setattr(made, lambda kind: keys.append(generate_private_key(kind)) or keys[-1])
    token, _ = (
        sample_token("github", issuer="https://i", audience="a", case=SampleCase.GOOD, at=clock()) for _ in range(2)
    )
    jws = UnverifiedJws.parse(token, types=TOKEN_TYPES, headers=HeaderRule.FOREIGN)
    assert jws.header.kid == SAMPLE_KID
    assert jws.verify(keys[0].public_key())["aud"] == "a"
    with pytest.raises(BadSignatureError):
        jws.verify(keys[1].public_key())


@pytest.mark.parametrize("preset", ["nobody", "", "../presets"])
def test_there_is_no_sample_of_what_there_is_no_preset_of(preset, clock):
    """A name becomes a file's name, so it is one that we know."""
    with pytest.raises(InvalidInputError):
        sample_token(preset, issuer="https://i", audience="a", case=SampleCase.GOOD, at=clock())


def test_the_command_offers_every_case():
    """The command names the cases itself, as importing them would slow `--help`."""
    assert list(_CASES) == [case.value for case in SampleCase]
