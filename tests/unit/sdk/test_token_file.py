"""A JWT-SVID in a file: fresh, whole, for us alone, and gone with us."""

import asyncio
import os
import stat
from datetime import timedelta

import pytest
from grpclib import GRPCError, Status

from agentshield.errors import AgentShieldError, ConfigurationError
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.sdk import token_file
from agentshield.sdk.token_file import TokenFile

ENTRA = "api://AzureADTokenExchange"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "token"


async def test_the_file_holds_a_token_for_the_audience_and_nobody_else_reads_it(pair, path):
    """Azure's library finds a token for Entra; other users of the machine find nothing."""
    umask = os.umask(0)
    try:
        async with TokenFile(pair.planner, audience=ENTRA, path=path):
            svid = JwtSvid.unsafe_from_own_agent(path.read_text())
            assert (svid.audience, str(svid.spiffe_id)) == ((ENTRA,), "spiffe://example.test/agents/planner")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert list(path.parent.iterdir()) == [path]
    finally:
        os.umask(umask)
    assert not path.exists()


async def test_the_file_is_replaced_whole_before_the_token_ends(pair, path, monkeypatch):
    """A reader has the old token or the new one, and never waits for a renewal."""
    monkeypatch.setattr(token_file, "_SHORTEST_WAIT", 0.05)
    pair.planner_api.jwt_lifetime = timedelta(seconds=2)
    async with TokenFile(pair.planner, audience=ENTRA, path=path):
        first, held_open = path.read_text(), path.open()
        with held_open:
            for _ in range(100):
                await asyncio.sleep(0.05)
                if path.read_text() != first:
                    break
            assert path.read_text() != first
            assert held_open.read() == first


async def test_a_link_in_its_place_is_replaced_and_not_followed(pair, path, tmp_path):
    """Who can write to the directory must not have our token written, or somebody's file overwritten, elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    path.symlink_to(elsewhere)
    async with TokenFile(pair.planner, audience=ENTRA, path=path):
        assert not path.is_symlink()
    assert elsewhere.read_text() == "theirs"


async def test_a_directory_that_is_not_there_is_told_at_once(pair, tmp_path):
    """The error names the path, and no token is in it."""
    with pytest.raises(ConfigurationError, match="missing") as refused:
        async with TokenFile(pair.planner, audience=ENTRA, path=tmp_path / "missing" / "token"):
            pass
    assert "eyJ" not in str(refused.value)


async def test_without_a_first_token_there_is_no_start(pair, path):
    """A program must not come up and fail later with somebody else's error message."""
    pair.planner_api.fault = GRPCError(Status.PERMISSION_DENIED, "no identity issued")
    with pytest.raises(AgentShieldError):
        async with TokenFile(pair.planner, audience=ENTRA, path=path):
            pass
    assert not path.exists()


async def test_an_ended_token_does_not_stay_behind(pair, path, monkeypatch):
    """When no new one is to be had, readers find no token rather than one that has ended."""
    monkeypatch.setattr(token_file, "_SHORTEST_WAIT", 0.05)
    pair.planner_api.jwt_lifetime = timedelta(seconds=1)
    async with TokenFile(pair.planner, audience=ENTRA, path=path):
        pair.planner_api.fault = GRPCError(Status.UNAVAILABLE, "restarting")
        for _ in range(100):
            await asyncio.sleep(0.05)
            if not path.exists():
                break
        assert not path.exists()


def test_an_audience_must_be_said(pair, path):
    """A token for anybody is one for whoever reads it."""
    with pytest.raises(TypeError):
        TokenFile(pair.planner, path=path)
    with pytest.raises(ValueError, match="audience"):
        TokenFile(pair.planner, audience="", path=path)
