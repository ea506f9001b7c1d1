"""Two other implementations of JOSE judge ours: each reads what the other signs, and nobody what is spoilt."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, RSAKey

from agentshield.errors import AgentShieldError
from agentshield.identity.jws import InvalidTokenError, UnverifiedJws, sign_compact
from agentshield.identity.keys import signing_algorithm

KEYS = [
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    ec.generate_private_key(ec.SECP521R1()),
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
]
TYPES = frozenset({"JWT"})

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)  # no half surrogates: UTF-8 has none
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
# Not the registered names: the oracles check those by rules of their own.
claims = st.dictionaries(texts.filter(lambda name: len(name) != 3), values, max_size=6)
keys = st.sampled_from(KEYS)
kids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def joserfc_key(key):
    return (RSAKey if isinstance(key, rsa.RSAPrivateKey) else ECKey).import_key(key)


def verify(token, key):
    return UnverifiedJws.parse(token, types=TYPES).verify(key.public_key())


@given(claims, keys, kids)
@settings(max_examples=60, deadline=None)
def test_what_we_sign_both_oracles_read(claims, key, kid):
    """A token that only we can read is of no use to the agent that must show it to somebody else."""
    token = sign_compact(claims, key, kid=kid)
    algorithm = signing_algorithm(key)
    assert pyjwt.decode(token, key.public_key(), algorithms=[algorithm]) == claims
    assert pyjwt.get_unverified_header(token) == {"alg": algorithm, "kid": kid, "typ": "JWT"}
    assert joserfc_jwt.decode(token, joserfc_key(key), algorithms=[algorithm]).claims == claims
    assert verify(token, key) == claims


@given(claims, keys, kids)
@settings(max_examples=60, deadline=None)
def test_what_the_oracles_sign_we_read(claims, key, kid):
    """Other authorities use these libraries; refusing their tokens cuts off their workloads."""
    algorithm = signing_algorithm(key)
    assert verify(pyjwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid}), key) == claims
    header = {"alg": algorithm, "kid": kid, "typ": "JWT"}
    assert verify(joserfc_jwt.encode(header, claims, joserfc_key(key), algorithms=[algorithm]), key) == claims


@given(claims, keys, st.data())
@settings(max_examples=150, deadline=None)
def test_any_changed_character_fails(claims, key, data):
    """One bit that may change without notice is one bit that an attacker may choose."""
    token = sign_compact(claims, key, kid="k")
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(max_codepoint=127).filter(lambda each: each != token[place]))
    with pytest.raises(AgentShieldError):
        verify(token[:place] + other + token[place + 1 :], key)


@given(claims, keys, st.data())
@settings(max_examples=60, deadline=None)
def test_any_cut_or_added_character_fails(claims, key, data):
    """A truncated token, or one with a tail, must not be read as the one that was signed."""
    token = sign_compact(claims, key, kid="k")
    cut = data.draw(st.integers(0, len(token) - 1))
    for spoilt in (token[:cut], token[cut + 1 :], token + token[cut], token[cut] + token):
        with pytest.raises(AgentShieldError):
            verify(spoilt, key)


@given(claims, st.permutations(KEYS))
@settings(max_examples=30, deadline=None)
def test_another_key_fails_whatever_its_kind(claims, shuffled):
    """A key vouches for what it signed only; no mix of kinds may end in a crash or a yes."""
    signer, *others = shuffled
    token = sign_compact(claims, signer, kid="k")
    for other in others:
        with pytest.raises(AgentShieldError):
            verify(token, other)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_text_is_a_token_or_an_error_of_ours(text):
    """Whoever presents the token chooses its text; a crash would stop the service for everybody."""
    with pytest.raises(InvalidTokenError):
        UnverifiedJws.parse(text, types=TYPES).verify(KEYS[0].public_key())


HONEST = sign_compact({"a": "x" * 20}, KEYS[0], kid="k")
HEADER, PAYLOAD, SIGNATURE = HONEST.split(".")


def again(part, change):
    """Decode a part, change its bytes, encode it again."""
    data = change(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "spelling",
    {
        "padding": f"{HEADER}.{PAYLOAD}.{SIGNATURE}==",
        "padding in the header": f"{HEADER}==.{PAYLOAD}.{SIGNATURE}",
        "newline at the end": HONEST + "\n",
        "newline inside": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:40]}\n{SIGNATURE[40:]}",
        "space in front": " " + HONEST,
        "tab after a dot": f"{HEADER}.\t{PAYLOAD}.{SIGNATURE}",
        "standard alphabet": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-4]}+/+/",
        "NUL": HONEST + "\0",
        "byte order mark": "\ufeff" + HONEST,
        "full-width full stop": HONEST.replace(".", "\uff0e", 1),
        "bearer prefix": "Bearer " + HONEST,
        "leftover bits": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-1]}{chr(ord(SIGNATURE[-1]) + 1)}",
        "one character too many": HONEST + "A",
        "trailing byte in the signature": f"{HEADER}.{PAYLOAD}.{again(SIGNATURE, lambda data: data + bytes(1))}",
        "missing byte in the signature": f"{HEADER}.{PAYLOAD}.{again(SIGNATURE, lambda data: data[:-1])}",
    }.items(),
    ids=lambda item: item[0].replace(" ", "-"),
)
def test_a_token_has_one_spelling(spelling):
    """Two spellings of one token slip past every list of used, logged or revoked ones."""
    with pytest.raises(AgentShieldError):
        verify(spelling[1], KEYS[0])


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sub":"a","sub":"b"}',
        b'{"sub":"a","\\u0073ub":"b"}',
        b'{"a":{"b":1,"b":2}}',
        b'[{"a":1}]',
        b'"text"',
        b"null",
        b"1",
        b"",
        b"{",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1}x',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b"{'a':1}",
        b'{"a":' + b"[" * 8000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
    ids=range(18),
)
def test_a_payload_is_one_json_object_without_repetition(tokens, payload):
    """Signed or not, what two readers read differently lets one of them be fooled."""
    with pytest.raises(InvalidTokenError):
        verify(tokens.token(payload), tokens.key)


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"ES256","alg":"ES256","kid":"k","typ":"JWT"}',
        b'{"alg":"none","alg":"ES256","kid":"k","typ":"JWT"}',
        b'{"alg":"ES256","kid":"a","kid":"k","typ":"JWT"}',
        b'{"alg":"ES256","kid":"k","typ":"JWT","\\u0074yp":"JWT"}',
        b'["ES256"]',
        b"",
        b"{}",
        b'{"ALG":"ES256","kid":"k","typ":"JWT"}',
    ],
    ids=range(8),
)
def test_a_header_is_one_json_object_without_repetition(tokens, header):
    """A header read two ways is two algorithms, or two keys."""
    with pytest.raises(InvalidTokenError):
        verify(tokens.token(header=header), tokens.key)


def test_signing_refuses_what_is_no_json():
    """NaN is not JSON; a token that its reader cannot parse locks its holder out."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        sign_compact({"a": float("nan")}, KEYS[0], kid="k")


def test_signed_text_is_json_in_utf_8():
    """Readers in other languages parse bytes; an escape that only Python reads would be a private dialect."""
    token = sign_compact({"name": "Ä"}, KEYS[0], kid="k")
    assert json.loads(urlsafe_b64decode(token.split(".")[1] + "==")) == {"name": "Ä"}
