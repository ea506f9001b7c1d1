"""`agentshield apply`, as an administrator types it."""

import json
import re
from pathlib import Path

from agentshield.identity.jwk import jwk_of
from agentshield.identity.keys import generate_private_key

PAGE = (Path(__file__).parents[2] / "docs/operate/apply.md").read_text()


def actions(done):
    return [(each["action"], each["of"], each["name"]) for each in done.data["items"]]


def test_page_is_as_it_says(desk):
    """The files of the page, planned, applied, applied again, changed and pruned."""
    desk.up()
    for name, source in re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (desk.home / name).parent.mkdir(exist_ok=True)
        (desk.home / name).write_text(source)
    jwk = jwk_of(generate_private_key().public_key(), kid="k1")
    (desk.home / "team" / "nightly.jwks.json").write_text(json.dumps({"keys": [jwk]}))

    dry = desk.type("agentshield apply -f team --dry-run -o json")
    assert dry.code == 3, dry.err
    assert {action for action, _, _ in actions(dry)} == {"create"}
    assert desk.type("agentshield blueprint list -o name").out == ""

    done = desk.type("agentshield apply -f team -o json")
    assert done.code == 0, done.err
    assert actions(done) == actions(dry)
    again = desk.type("agentshield apply -f team -o json")
    assert (again.code, {action for action, _, _ in actions(again)}) == (0, {"unchanged"})
    assert "nothing to change" in again.err
    assert desk.type("agentshield apply -f team --dry-run").code == 0

    file = desk.home / "team" / "ledger.yaml"
    file.write_text(file.read_text().replace("[ledger.read]", "[ledger.read, ledger.write]"))
    changed = desk.type("agentshield apply -f team -o json")
    assert changed.code == 0, changed.err
    told = [each for each in changed.data["items"] if each["action"] == "change"]
    assert {each["of"] for each in told} == {"Blueprint", "Resource"}
    assert desk.type("agentshield resource show api://ledger -o json").data["scopes"] == ["ledger.read", "ledger.write"]
    assert "nightly" in desk.type("agentshield client list -o name").out

    printed = desk.type("agentshield blueprint show bookkeepers -o yaml")
    (desk.home / "back.yaml").write_text(printed.out)
    back = desk.type("agentshield apply -f back.yaml -o json")
    assert (back.code, actions(back)) == (0, [("unchanged", "Blueprint", "bookkeepers")])

    (desk.home / "team" / "nightly.yaml").unlink()
    kept = desk.type("agentshield apply -f team --prune Client")
    assert kept.code == 2  # nobody there to ask
    pruned = desk.type("agentshield apply -f team --prune Client --yes -o json")
    assert pruned.code == 0, pruned.err
    assert ("delete", "Client", "nightly") in actions(pruned)
    assert desk.type("agentshield client list -o name").out == ""


def test_nothing_is_done_where_anything_is_wrong(desk):
    """A plan that cannot be read whole is not begun."""
    desk.up()
    good = "kind: Blueprint\nname: good\nsponsor: ben\n"
    (desk.home / "a.yaml").write_text(good + "---\nkind: Blueprint\nname: bad\nsponsr: ben\n")
    done = desk.type("agentshield apply -f a.yaml")
    assert done.code == 2
    assert "a.yaml:7" in done.err
    assert "code:  invalid_manifest" in done.err
    assert desk.type("agentshield blueprint list -o name").out == ""


def test_what_fails_midway_says_what_was_done(desk):
    """The server has rules that files cannot know; what is done stays done, and applying again goes on."""
    desk.up()
    good = "kind: Blueprint\nname: good\nsponsor: ben\n"
    (desk.home / "a.yaml").write_text(good + "---\nkind: Resource\naudience: api://x\nscopes: []\n")
    done = desk.type("agentshield apply -f a.yaml")
    assert done.code == 2
    assert "a.yaml:5" in done.err
    assert "done before it: Blueprint good" in done.err
    assert desk.type("agentshield blueprint list -o name").out == "good\n"
    (desk.home / "a.yaml").write_text(good + "---\nkind: Resource\naudience: api://x\nscopes: [read]\n")
    assert desk.type("agentshield apply -f a.yaml").code == 0


def test_agent_is_not_changed_in_place(desk):
    desk.up()
    (desk.home / "a.yaml").write_text("kind: Agent\nname: planner\nowner: ann\n")
    assert desk.type("agentshield apply -f a.yaml").code == 0
    (desk.home / "a.yaml").write_text("kind: Agent\nname: planner\nowner: ben\n")
    done = desk.type("agentshield apply -f a.yaml")
    assert done.code == 6
    assert "code:  cannot_change_in_place" in done.err


def test_nothing_to_read_deletes_nothing(desk):
    """A checkout that failed leaves an empty directory; with --prune that would be the end of everything."""
    desk.up()
    assert desk.type("agentshield blueprint create good --sponsor ben").code == 0
    (desk.home / "empty").mkdir()
    done = desk.type("agentshield apply -f empty --prune Blueprint --yes")
    assert done.code == 2
    assert desk.type("agentshield blueprint list -o name").out == "good\n"
    done = desk.type("agentshield apply -f -", stdin="# " + "x" * 1_100_000)
    assert done.code == 2
    assert "standard input: over" in done.err
