"""What is printed is what was asked for, and nothing that somebody else put into a name."""

import json

import pytest
import yaml

from agentshield.app.output import Column, Output, Shape, box, table

SHAPE = Shape(
    "Agent", "name", (Column("NAME", "name"), Column("OWNER", "facts.owner"), Column("WIDE", "w", only="wide"))
)
AGENT = {"name": "planner", "facts": {"owner": "me"}, "w": ["a", "b"]}


def test_json_has_a_version_and_a_kind(capsys):
    """Programs that parse it must be able to notice a change."""
    Output(format="json").show(SHAPE, AGENT)
    assert json.loads(capsys.readouterr().out) == {"apiVersion": "agentshield/v1", "kind": "Agent", **AGENT}
    Output(format="json").show_all(SHAPE, [AGENT])
    listed = json.loads(capsys.readouterr().out)
    assert (listed["kind"], listed["items"][0]["kind"]) == ("AgentList", "Agent")


def test_other_formats(capsys):
    """Each format is complete in itself."""
    Output(format="yaml").show(SHAPE, AGENT)
    assert yaml.safe_load(capsys.readouterr().out)["name"] == "planner"
    Output(format="jsonl").show_all(SHAPE, [AGENT, AGENT])
    assert [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()] == ["Agent", "Agent"]
    Output(format="name").show_all(SHAPE, [AGENT])
    assert capsys.readouterr().out == "planner\n"


def test_a_table_is_tab_separated_without_a_terminal(capsys):
    """`cut -f2` must work, and no title may be taken for data."""
    Output().show_all(SHAPE, [AGENT])
    assert capsys.readouterr().out == "planner\tme\n"
    Output(format="wide").show_all(SHAPE, [AGENT])
    assert capsys.readouterr().out == "planner\tme\ta,b\n"


def test_a_table_on_a_terminal_has_titles(capsys, monkeypatch):
    """A person needs to know what the columns are."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    Output().show_all(SHAPE, [AGENT])
    assert capsys.readouterr().out == "NAME     OWNER\nplanner  me\n"


@pytest.mark.parametrize("evil", ["\n", "\x1b", "\t", "\x00", "\u202e", "\r"])
def test_control_characters_in_names_are_neutralised(capsys, evil):
    """A reason that an attacker wrote must not forge a second row, or repaint the terminal of who reads it."""
    Output().show_all(SHAPE, [{"name": f"a{evil}b", "facts": {"owner": "me"}}])
    assert capsys.readouterr().out == "a b\tme\n"


def test_talk_goes_to_stderr_and_can_be_silenced(capsys):
    """A pipe must get data only."""
    Output().say("talk")
    Output(verbosity=-1).say("silence")
    Output(verbosity=1).detail("more")
    Output().detail("less")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "talk\nmore\n")


def test_box_and_table_hold_their_lines():
    """A frame that does not close looks broken, and so does what it frames."""
    lines = box([("state", "/tmp/x"), ("", "")], title="Up").splitlines()
    assert len({len(line) for line in lines}) == 1
    assert table(("A", "B"), [["1", "22"]]) == "A  B\n1  22"
