"""Keys as JSON: public ones, and of a set those that may verify what we verify."""

import json

import jwt.algorithms
import pytest

from agentshield.identity.jwk import (
    InvalidJwkError,
    InvalidKeySetError,
    KeySet,
    UnknownKeyError,
    jwk_of,
    private_jwk_of,
    private_key_of,
    public_key_of,
    thumbprint,
)
from agentshield.identity.keys import KeyType, generate_private_key, public_key_to_spki

EC = generate_private_key().public_key()
RSA = generate_private_key(KeyType.RSA_2048).public_key()
ES256 = frozenset({"ES256"})


def jwks(*keys):
    return json.dumps({"keys": keys}).encode()


@pytest.mark.parametrize("key", [EC, RSA, generate_private_key(KeyType.EC_P384).public_key()])
def test_key_survives_its_jwk_and_another_library_agrees(key):
    """A key that changed on the way would lock everybody out, or let somebody in."""
    assert public_key_to_spki(public_key_of(jwk_of(key))) == public_key_to_spki(key)
    algorithm = jwt.algorithms.RSAAlgorithm if key is RSA else jwt.algorithms.ECAlgorithm
    assert algorithm.from_jwk(json.dumps(jwk_of(key))).public_numbers() == key.public_numbers()


def test_thumbprint_of_the_rfc():
    """RFC 7638, 3.1 gives a key and its thumbprint."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst"
        "n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n"
        "91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = public_key_of({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    "change",
    [
        {"d": "AA"},
        {"k": "AA"},
        {"kty": "oct"},
        {"kty": "OKP"},
        {"crv": "secp256k1"},
        {"crv": ["P-256"]},
        {"x": "AA"},
        {"x": 5},
        {"y": "!"},
    ],
)
def test_what_is_no_public_key_is_refused(change):
    """A private, symmetric, weak or broken key is not made to do."""
    with pytest.raises(InvalidJwkError):
        public_key_of(jwk_of(EC) | change)


def test_set_holds_what_may_verify():
    """An encryption key, another algorithm's and another purpose's are left out; that is no fault of the set."""
    found = KeySet.from_jwks(
        jwks(
            jwk_of(EC, kid="a"),
            jwk_of(EC, kid="b", use="enc"),
            jwk_of(EC, kid="c", alg="ES384"),
            jwk_of(RSA, kid="d"),
            jwk_of(EC, kid="e") | {"key_ops": ["sign"]},
            jwk_of(EC, kid="h") | {"key_ops": 5},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "f", "alg": "HS256"},
            {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "g"},
        ),
        algorithms=ES256,
    )
    assert [key.kid for key in found.keys] == ["a"]
    assert found.find("a", "ES256").kid == "a"
    assert found.find(None, "ES256").kid == "a"


@pytest.mark.parametrize(("kid", "alg"), [("b", "ES256"), ("a", "RS256"), ("a", "none"), (None, "RS256")])
def test_no_key_is_found_for_what_does_not_fit(kid, alg):
    """A key is used with the algorithm our record gives it, never with what a token asks for."""
    with pytest.raises(UnknownKeyError):
        KeySet.from_jwks(jwks(jwk_of(EC, kid="a")), algorithms=ES256).find(kid, alg)


def test_unnamed_key_must_be_the_only_one():
    """Trying key after key would make any of them do."""
    with pytest.raises(UnknownKeyError):
        KeySet.from_jwks(jwks(jwk_of(EC, kid="a"), jwk_of(EC, kid="b")), algorithms=ES256).find(None, "ES256")


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [1]}',
        b'{"keys": [], "keys": []}',
        jwks(jwk_of(EC, kid="a"), jwk_of(RSA, kid="a")),
        jwks(*({"kty": "oct"} for _ in range(101))),
        jwks(jwk_of(EC) | {"kid": 5}),
        b" " * (256 * 1024 + 1),
    ],
)
def test_sets_with_two_readings_are_refused(data):
    """Two keys of one name, a member twice, a set without an end: none is read at all."""
    with pytest.raises(InvalidKeySetError):
        KeySet.from_jwks(data, algorithms=ES256 | {"RS256"})


def test_set_survives_being_written():
    """What we publish is what we verify with."""
    ours = KeySet.of(EC, RSA)
    read = KeySet.from_jwks(ours.to_jwks(), algorithms=ES256 | {"RS256"})
    assert [(key.kid, key.algorithms) for key in read.keys] == [(key.kid, key.algorithms) for key in ours.keys]


def test_endless_exponent_is_refused():
    """A client that shows its own key chooses what verifying with it costs us."""
    with pytest.raises(InvalidJwkError, match="exponent"):
        public_key_of(jwk_of(RSA) | {"e": "_" * 60 + "AQ"})


@pytest.mark.parametrize("kind", [KeyType.EC_P256, KeyType.EC_P384, KeyType.RSA_2048])
def test_a_private_key_travels_to_its_holder_whole(kind):
    """Another library reads what the node agent sends, and we read what another node agent sends."""
    key = generate_private_key(kind)
    jwk = private_jwk_of(key)
    assert public_key_to_spki(private_key_of(jwk).public_key()) == public_key_to_spki(key.public_key())
    loaded = jwt.algorithms.get_default_algorithms()[jwk["alg"]].from_jwk(json.dumps(jwk))
    assert public_key_to_spki(loaded.public_key()) == public_key_to_spki(key.public_key())


@pytest.mark.parametrize(
    "spoil", [{"d": ...}, {"d": "!"}, {"kty": "oct"}, {"kty": ...}, {"crv": "P-999"}, {"x": "AAAA"}]
)
def test_what_is_no_private_key_is_refused_without_showing_it(spoil):
    """An error that quotes its cause would put the key in a log."""
    jwk = {**private_jwk_of(generate_private_key()), **spoil}
    with pytest.raises(InvalidJwkError) as caught:
        private_key_of({name: value for name, value in jwk.items() if value is not ...})
    assert caught.value.__cause__ is None
    assert str(jwk["y"]) not in str(caught.value)
