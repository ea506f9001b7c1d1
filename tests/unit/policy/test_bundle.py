"""Bundles: the files that decide, and the digest that names them."""

import pytest

from agentshield.policy.bundle import MAX_BUNDLE_BYTES, PolicyBundle, schema_text
from agentshield.policy.errors import InvalidPolicyError


def test_a_digest_covers_names_texts_and_trust_domain():
    """Two enforcement points that report one digest must decide alike."""
    variants = [
        PolicyBundle.from_files({}),
        PolicyBundle.from_files({}, trust_domain="example.test"),
        PolicyBundle.from_files({"a.cedar": "x"}),
        PolicyBundle.from_files({"b.cedar": "x"}),
        PolicyBundle.from_files({"a.cedar": "x "}),
        PolicyBundle.from_files({"a.cedar": "xb.cedar"}),
        PolicyBundle.from_files({"a.cedar": "x", "b.cedar": ""}),
        PolicyBundle.from_files({"tests.yaml": ""}),
    ]
    assert len({each.digest for each in variants}) == len(variants)


def test_a_digest_does_not_depend_on_order_or_on_our_own_schema():
    """The same files are the same bundle."""
    one = PolicyBundle.from_files({"a.cedar": "x", "b.cedar": "y"})
    other = PolicyBundle.from_files({"b.cedar": "y", "schema.cedarschema": schema_text(), "a.cedar": "x"})
    assert one.digest == other.digest


def test_a_bundle_cannot_bring_another_schema():
    """Whoever writes the schema decides what is a spelling mistake."""
    with pytest.raises(InvalidPolicyError, match="differs from the schema"):
        PolicyBundle.from_files({"schema.cedarschema": schema_text().replace("status: String", "statuss: String")})


@pytest.mark.parametrize(
    "name", ["../a.cedar", "a/b.cedar", ".cedar", "a.CEDAR", "rules.yml", "evil.py", "", "a.cedar\n"]
)
def test_other_files_are_refused(name):
    """A bundle travels: what is in it is written to disks by name."""
    with pytest.raises(InvalidPolicyError):
        PolicyBundle.from_files({name: ""})


def test_a_bundle_is_bounded():
    """A gigabyte of comments must not reach every enforcement point."""
    PolicyBundle.from_files({"a.cedar": "x" * MAX_BUNDLE_BYTES})
    with pytest.raises(InvalidPolicyError, match="more than"):
        PolicyBundle.from_files({"a.cedar": "x" * MAX_BUNDLE_BYTES, "b.cedar": "x"})


def test_files_cannot_be_changed_behind_the_digest():
    """The digest is taken once."""
    files = {"a.cedar": "x"}
    bundle = PolicyBundle.from_files(files)
    files["a.cedar"] = "y"
    assert bundle.files["a.cedar"] == "x"
    with pytest.raises(TypeError):
        bundle.files["a.cedar"] = "y"  # type: ignore[index]


def test_a_directory_is_read_and_other_files_in_it_are_left_alone(tmp_path):
    """People keep a README beside their policies."""
    for name in ("rules.yaml", "team.cedar", "tests.yaml", "README.md", ".hidden.cedar.swp"):
        (tmp_path / name).write_text("")
    assert set(PolicyBundle.from_directory(tmp_path).files) == {"rules.yaml", "team.cedar", "tests.yaml"}


def test_a_directory_that_cannot_be_read_says_so(tmp_path):
    """Missing policies must not look like an empty set."""
    with pytest.raises(InvalidPolicyError, match="no such directory"):
        PolicyBundle.from_directory(tmp_path / "absent")
    (tmp_path / "team.cedar").write_bytes(b"\xff")
    with pytest.raises(InvalidPolicyError, match="not UTF-8"):
        PolicyBundle.from_directory(tmp_path)
    (tmp_path / "team.cedar").unlink()
    (tmp_path / "rules.yaml").mkdir()
    with pytest.raises(InvalidPolicyError, match="cannot be read"):
        PolicyBundle.from_directory(tmp_path)
