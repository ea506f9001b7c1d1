"""The attacker is a bug: code that makes a VerifiedIdentity by hand, or from bytes, without a proof."""

import copy
import dataclasses
import pickle

import pytest

from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import VerifiedIdentity, verify_x509_svid


def test_a_verified_identity_cannot_be_written_down(at):
    """If anybody could make one, the type would prove nothing to the code that trusts it."""
    with pytest.raises(TypeError, match="verify_x509_svid"):
        VerifiedIdentity(
            spiffe_id=SpiffeId.parse("spiffe://example.org/admin"), proof="x509-svid", not_before=at, valid_until=at
        )


def test_a_verified_identity_cannot_be_changed_into_another(forge, at):
    """From a true planner to a false admin is one `replace` away, if it is allowed."""
    bundles = BundleSet.of(TrustBundle.from_json(TrustDomain.parse("example.org"), forge.bundle_json()))
    identity = verify_x509_svid([forge.leaf()], bundles, at=at)
    with pytest.raises(dataclasses.FrozenInstanceError):
        identity.spiffe_id = SpiffeId.parse("spiffe://example.org/admin")
    with pytest.raises(TypeError):
        identity.claims["role"] = "admin"


def test_a_verified_identity_does_not_travel_as_bytes(forge, at):
    """What comes out of a queue or a cache was proved to somebody else, some time ago."""
    bundles = BundleSet.of(TrustBundle.from_json(TrustDomain.parse("example.org"), forge.bundle_json()))
    identity = verify_x509_svid([forge.leaf()], bundles, at=at)
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.loads(pickle.dumps(identity))
    assert copy.copy(identity) == identity
