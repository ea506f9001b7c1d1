"""The page about delegation, with real processes: an agent asks, a human signs in elsewhere, agrees, and it acts."""

import asyncio
import json
import re
import ssl
import sys
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from openid_provider import OpenIdProvider, running_provider

from agentshield.clock import system_clock
from agentshield.identity.jwk import KeySet

PAGE = (Path(__file__).parents[2] / "docs" / "start" / "delegation.md").read_text()
RUN = re.search(r"\$ (agentshield run .*helper\.py)", PAGE).group(1)
REALM = "/realms/corp"


@pytest.fixture
def provider(desk) -> Iterator[OpenIdProvider]:
    """An identity provider in a thread of its own; it learns our keys from where the page says."""
    ready, made = threading.Event(), []
    loop = asyncio.new_event_loop()

    def our_keys() -> KeySet:
        issuer = desk.type("agentshield status -o json").data["token_service"]
        tls = ssl.create_default_context(cafile=str(next(desk.state.rglob("ca.pem"))))
        return KeySet.from_jwks(
            httpx2.get(issuer + "/oauth/jwks", verify=tls, trust_env=False).content, algorithms=frozenset({"ES256"})
        )

    async def serve(stop: asyncio.Event) -> None:
        async with running_provider(system_clock, our_keys) as running:
            running.client_id, running.url = "agentshield", running.url + REALM
            made.extend((running, stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(asyncio.Event())))
    thread.start()
    assert ready.wait(10)
    running, stop = made
    yield running
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def helper(desk, provider):
    """What the page says, done; the provider is the test's, and the port whichever is free."""
    for name, source in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (desk.home / name).write_text(source)
    (desk.home / "idp.pem").write_bytes(provider.ca_pem)
    setup = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    setup = setup.replace(" --token-port 8440", "").replace("https://idp.example.test/realms/corp", provider.url)
    for line in setup.splitlines():
        line += " --ca-file idp.pem" if line.startswith("agentshield issuer add") else ""
        done = desk.type(line)
        assert done.code == 0, f"{line}: {done.err}"
    yield desk
    desk.type("agentshield down")


class Human:
    """Ann with her browser."""

    def __init__(self, desk, provider: OpenIdProvider) -> None:
        tls = ssl.create_default_context(cafile=str(next(desk.state.rglob("ca.pem"))))
        self.browser = httpx2.Client(verify=tls, trust_env=False)
        self.provider = provider

    def opens(self, link: str) -> str:
        """She follows the link, signs in, and sees the page."""
        sent = self.browser.get(link)
        assert sent.status_code == 303, sent.text
        answer = self.provider.signed_in(sent.headers["location"])
        back = self.browser.get(link.partition("/oauth/")[0] + "/oauth/callback?" + urlencode(answer))
        assert back.status_code == 303, back.text
        page = self.browser.get(back.headers["location"])
        assert page.status_code == 200, page.text
        self.page, self.url = page.text, link.partition("/oauth/")[0] + "/oauth/consent"
        return page.text

    def says(self, decision: str) -> str:
        found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', self.page)
        form = {name: unescape(value) for name, value in found} | {"decision": decision}
        answer = self.browser.post(self.url, data=form)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]


@pytest.fixture
def ann(helper, provider) -> Iterator[Human]:
    human = Human(helper, provider)
    with human.browser:
        yield human


def link_of(desk, process) -> str:
    return re.search(r"https://\S+/oauth/authorize\S+", desk.wait_for(process, "request_uri")).group(0)


def test_a_yes_in_the_browser_becomes_a_token_and_its_successor(helper, ann):
    """From the printed link to the refreshed token; and the log has all of it, with Ann's name and the agent's."""
    process = helper.start(RUN)
    page = ann.opens(link_of(helper, process))
    for shown in ("Ann Smith", "helper-app", "spiffe://example.test/agents/helper", "api://calendar", "8 hours"):
        assert shown in page
    httpx2.get(ann.says("allow"), trust_env=False)  # her browser goes back to the agent
    granted = json.loads(helper.wait_for(process, "expires_in").splitlines()[-1])
    assert granted == {"scope": "read", "expires_in": 300}

    for step in ("requested", "consented", "code_issued", "redeemed", "refreshed"):
        found = helper.type(f"agentshield audit search --event authorization.{step} -o jsonl").out.splitlines()
        assert len(found) == 1, step
    (consented,) = helper.type("agentshield audit search --event authorization.consented -o jsonl").out.splitlines()
    assert "ann" in consented
    family = re.search(r'"authorization": ?"([0-9a-f-]{36})"', consented).group(1)
    revoked = helper.type(f"agentshield token revoke --jti {family} --yes -o json")
    assert revoked.code == 0, revoked.err


def test_a_no_in_the_browser_ends_it(helper, ann):
    """The agent is told, and its link is used up."""
    process = helper.start(RUN)
    link = link_of(helper, process)
    ann.opens(link)
    httpx2.get(ann.says("deny"), trust_env=False)
    helper.wait_for(process, "access_denied")
    assert ann.browser.get(link).status_code == 400
