"""The demo is the first thing a stranger runs; it must tell the truth about itself."""

import json


def test_every_step_of_the_demo_is_as_it_must_be(terminal):
    """Real processes, real mTLS: whoever reads the table decides by it whether to go on."""
    shown = json.loads(terminal("agentshield demo --json").stdout)

    assert len(shown["steps"]) >= 7
    for step in shown["steps"]:
        assert step.keys() >= {"name", "expected", "got", "evidence"}
        assert step["got"] == step["expected"], step


def test_the_demo_leaves_nothing_behind(terminal):
    """It is run on laptops with other things on them."""
    before = set(terminal.directory.iterdir())
    terminal("agentshield demo")
    assert set(terminal.directory.iterdir()) == before
