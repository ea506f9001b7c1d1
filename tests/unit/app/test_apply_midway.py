"""`agentshield apply` when the server goes away between two steps."""

from pathlib import Path

import pytest

from agentshield.app.cli.apply import _carry_out
from agentshield.app.exit_codes import ExitCode
from agentshield.app.failure import CommandError
from agentshield.app.manifest import read_manifests
from agentshield.app.registration_plan import plan
from agentshield.errors import UnavailableError
from agentshield.identity.spiffe_id import TrustDomain

FILE = "kind: Blueprint\nname: first\nsponsor: ben\n---\nkind: Blueprint\nname: second\nsponsor: ben\n"


class GoesAfterOne:
    """An admin API that answers once."""

    def __init__(self):
        self.sent = []

    def post(self, path, body):
        if self.sent:
            raise UnavailableError("closed the connection before answering", hint="agentshield status")
        self.sent.append(body["name"])


def test_who_applies_learns_what_was_done_before_the_server_went():
    """Half of a plan is registered: whoever is not told which half cannot tell who has which rights."""
    steps = plan(read_manifests([("a.yaml", FILE, Path())]), {}, domain=TrustDomain("example.test"))
    admin = GoesAfterOne()
    with pytest.raises(CommandError) as caught:
        _carry_out(admin, steps, {})
    failure = caught.value.failure
    assert admin.sent == ["first"]
    assert failure.what.startswith("a.yaml:5: create Blueprint second: closed the connection")
    assert failure.why == "done before it: Blueprint first; not done: 1 of 2"
    assert (failure.next, failure.exit_code) == ("agentshield status", ExitCode.UNAVAILABLE)
