"""The attacker sends bytes that are almost a certificate: cut, doubled, with one byte changed, or far too many."""

import itertools

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import verify_x509_svid
from agentshield.identity.x509_svid import load_pem_certificates, split_der_certificates

HOME = TrustDomain.parse("example.org")


@pytest.fixture
def bundles(forge):
    return BundleSet.of(TrustBundle.from_json(HOME, forge.bundle_json()))


# A serial number below zero makes the library warn, and read on: the signature is what ends it.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_every_changed_bit_is_refused_with_an_error_of_ours(forge, bundles, at):
    """A parser's own exception would stop a server; a yes would be a forged identity.

    The signature's BIT STRING begins with a count of unused bits, which the library reads past (X.690, 8.6.2.2): that
    one byte is not signed, and changes nothing of what is.
    """
    leaf = forge.leaf()
    der = leaf.public_bytes(Encoding.DER)
    unused_bits = len(der) - len(leaf.signature) - 1
    for place, bit in itertools.product(range(len(der)), range(8)):
        if place == unused_bits:
            continue
        spoilt = bytearray(der)
        spoilt[place] ^= 1 << bit
        with pytest.raises(AgentShieldError):
            verify_x509_svid([bytes(spoilt)], bundles, at=at)


def test_every_cut_is_refused_with_an_error_of_ours(forge, bundles, at):
    """A connection that breaks in mid-certificate must end in a plain refusal."""
    der = forge.leaf().public_bytes(Encoding.DER)
    for end in range(0, len(der), 7):
        with pytest.raises(InvalidSvidError):
            verify_x509_svid([der[:end]], bundles, at=at)


@pytest.mark.parametrize("tail", [b"\0", b"\x30\x00", b"A" * 1000])
def test_bytes_after_the_certificate_are_refused(forge, bundles, at, tail):
    """Bytes outside the signature are the attacker's to choose: two logs of one certificate would differ."""
    with pytest.raises(InvalidSvidError):
        verify_x509_svid([forge.leaf().public_bytes(Encoding.DER) + tail], bundles, at=at)


def test_a_megabyte_is_refused_before_it_is_parsed(bundles, at):
    """An unauthenticated peer must not be able to spend our time."""
    with pytest.raises(InvalidSvidError, match="at most"):
        verify_x509_svid([b"\x30\x83\x0f\xff\xfb" + b"\0" * (2**20 - 5)], bundles, at=at)


@pytest.mark.parametrize(
    "header",
    [b"\x30", b"\x30\x80", b"\x30\x81", b"\x30\x84\xff\xff\xff\xff", b"\x30\x85\0\0\0\0\1", b"\x31\x00", b"\x30\xff"],
)
def test_lengths_that_lie_are_refused(header):
    """A length read without a check is a read beyond the buffer in C, and an endless loop in Python."""
    with pytest.raises(InvalidSvidError):
        split_der_certificates(header)


def test_a_pem_file_cut_off_anywhere_loses_no_certificate_in_silence(forge, forge_of):
    """An operator's half-written bundle must not quietly trust half of the authorities."""
    pem = b"".join(each.certificate.public_bytes(Encoding.PEM) for each in (forge, forge_of("example.org")))
    assert len(load_pem_certificates(pem)) == 2
    second = pem.index(b"-----BEGIN", 10)
    for end in [*range(1, second - 1, 29), *range(second + 27, len(pem) - 1, 29)]:
        with pytest.raises(InvalidSvidError):
            load_pem_certificates(pem[:end])
