"""SVIDs from files: every layout, swaps in the middle, and files that are cut off."""

import asyncio
from contextlib import aclosing

import pytest

from agentshield.errors import ConfigurationError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.errors import InvalidBundleError, InvalidKeyError, InvalidSvidError
from agentshield.sdk.file_source import LAYOUTS, read_directory, watch_directory
from agentshield.sdk.shield import Shield
from agentshield.sdk.x509_context import Outage, X509Context
from agentshield.testing import FakeTrustDomain


@pytest.fixture
def domain():
    return FakeTrustDomain()


def write(directory, layout, svid, bundle: TrustBundle):
    (directory / layout.chain).write_bytes(svid.chain_pem())
    if layout.key == layout.chain:
        (directory / layout.key).write_bytes(svid.key_pem() + svid.chain_pem())
    else:
        (directory / layout.key).write_bytes(svid.key_pem())
    (directory / layout.bundle).write_bytes(bundle.x509_pem())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.chain + "+" + layout.key)
def test_layouts(tmp_path, domain, layout):
    """systemd, spiffe-helper, cert-manager and podCertificate each use names of their own."""
    svid = domain.issue_svid("/agents/planner")
    write(tmp_path, layout, svid, domain.bundle)
    context = read_directory(tmp_path)
    assert context.svids[0].spiffe_id == svid.spiffe_id
    assert context.bundles.bundle_for(domain.trust_domain).x509_authorities == domain.bundle.x509_authorities


def test_federated_bundles(tmp_path, domain):
    """`bundles.json` brings the partners' bundles; our own comes from its own file, whatever that one says."""
    partner = FakeTrustDomain("partner.test")
    impostor = FakeTrustDomain("example.test")
    write(tmp_path, LAYOUTS[0], domain.issue_svid("/agents/planner"), domain.bundle)
    (tmp_path / "bundles.json").write_bytes(
        b'{"trust_domains":{"partner.test":%s,"example.test":%s}}'
        % (partner.bundle.to_json(), impostor.bundle.to_json())
    )
    bundles = read_directory(tmp_path).bundles
    assert bundles.bundle_for(partner.trust_domain).x509_authorities == partner.bundle.x509_authorities
    assert bundles.bundle_for(domain.trust_domain).x509_authorities == domain.bundle.x509_authorities


def test_an_empty_directory_names_what_it_should_hold(tmp_path):
    """The operator reads which files are missing."""
    with pytest.raises(ConfigurationError) as error:
        read_directory(tmp_path)
    assert "svid.pem, svid.key, bundle.pem" in error.value.hint


@pytest.mark.parametrize(
    ("name", "error"),
    [("svid.pem", InvalidSvidError), ("svid.key", InvalidKeyError), ("bundle.pem", InvalidBundleError)],
)
def test_files_that_are_cut_off(tmp_path, domain, name, error):
    """A half-written file is an error, not half an identity."""
    write(tmp_path, LAYOUTS[0], domain.issue_svid("/agents/planner"), domain.bundle)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(error):
        read_directory(tmp_path)


async def test_a_rotation_is_seen_and_a_half_one_is_not_taken(tmp_path, domain):
    """Between the new chain and its key the old pair stays in use; a mixed pair must never be shown."""
    write(tmp_path, LAYOUTS[0], domain.issue_svid("/agents/planner"), domain.bundle)
    async with aclosing(watch_directory(tmp_path, poll=0.02)) as updates, asyncio.timeout(10):
        first = await anext(updates)
        renewed = domain.issue_svid("/agents/planner")
        (tmp_path / "svid.pem").write_bytes(renewed.chain_pem())
        half = await anext(updates)
        assert isinstance(half, Outage)
        assert isinstance(half.error, InvalidSvidError)
        (tmp_path / "svid.key").write_bytes(renewed.key_pem())
        while not isinstance(second := await anext(updates), X509Context):
            pass
        assert second.svids[0].chain == renewed.chain != first.svids[0].chain


async def test_kubernetes_swaps_a_link(tmp_path, domain):
    """A projected volume changes all files at once, by a symbolic link to another directory."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, LAYOUTS[0], domain.issue_svid(f"/{name}"), domain.bundle)
    (tmp_path / "..data").symlink_to("one")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name in ("svid.pem", "svid.key", "bundle.pem"):
        (mounted / name).symlink_to(tmp_path / "..data" / name)
    async with aclosing(watch_directory(mounted, poll=0.02)) as updates, asyncio.timeout(10):
        assert (await anext(updates)).svids[0].spiffe_id.path == "/one"
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(tmp_path / "..data")
        assert (await anext(updates)).svids[0].spiffe_id.path == "/two"


async def test_a_shield_from_files(tmp_path, domain, monkeypatch):
    """The same Shield, without a Workload API; what only that can give is refused with the reason."""
    write(tmp_path, LAYOUTS[0], domain.issue_svid("/agents/planner"), domain.bundle)
    async with Shield.from_files(tmp_path) as shield:
        assert str(shield.spiffe_id) == "spiffe://example.test/agents/planner"
        with pytest.raises(ConfigurationError, match="JWT-SVIDs come from a Workload API"):
            await shield.fetch_jwt_svid("a")
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    monkeypatch.setenv("AGENTSHIELD_SVID_DIR", str(tmp_path))
    async with Shield.from_env() as shield:
        assert shield.status().spiffe_id == "spiffe://example.test/agents/planner"
