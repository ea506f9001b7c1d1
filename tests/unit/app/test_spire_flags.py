"""SPIRE's single-dash flags mean here what they mean to spire-server."""

import pytest

from agentshield.app.spire_flags import to_double_dash


def test_the_seed_article_command_is_understood():
    """The article's own command must run as printed, or the project's first reader is turned away."""
    arguments = ["-spiffeID", "spiffe://nextriad.ai/agent-a", "-selector", "k8s:ns:production"]
    arguments += ["-selector", "k8s:pod-label:app:agent-a", "-ttl", "3600"]

    assert to_double_dash(arguments) == [
        "--spiffe-id=spiffe://nextriad.ai/agent-a",
        "--selector=k8s:ns:production",
        "--selector=k8s:pod-label:app:agent-a",
        "--ttl=3600",
    ]


@pytest.mark.parametrize(
    ("spire", "ours"),
    [
        (["-parentID", "spiffe://td/n"], ["--parent-id=spiffe://td/n"]),
        (["-x509SVIDTTL=60"], ["--x509-svid-ttl=60"]),
        (["-jwtSVIDTTL", "60"], ["--jwt-svid-ttl=60"]),
        (["-federatesWith", "spiffe://other"], ["--federates-with=spiffe://other"]),
        (["-dns", "a.test"], ["--dns=a.test"]),
        (["-entryExpiry", "1900000000"], ["--entry-expiry=1900000000"]),
        (["-hint", "-dns"], ["--hint=-dns"]),
        (["-output", "json"], ["--output=json"]),
        (["-output", "pretty"], ["--output=table"]),
        (["-admin"], ["--admin"]),
        (["-admin=true", "-downstream=1"], ["--admin", "--downstream"]),
        (["-admin=false"], []),
        (["-o", "json"], ["-o", "json"]),
        (["--spiffe-id", "x"], ["--spiffe-id", "x"]),
        (["-unknown"], ["-unknown"]),
        (["--", "-dns", "x"], ["--", "-dns", "x"]),
    ],
)
def test_each_flag_is_translated_as_go_reads_it(spire, ours):
    """A flag read differently from SPIRE would register something other than what the operator wrote."""
    assert to_double_dash(spire) == ours


def test_a_boolean_with_a_word_that_is_no_boolean_is_left_for_the_parser_to_refuse():
    """`-admin=maybe` must not quietly become admin, or not admin."""
    assert to_double_dash(["-admin=maybe"]) == ["-admin=maybe"]


def test_a_valued_flag_at_the_end_without_a_value_is_left_for_the_parser_to_refuse():
    """A cut-off command must be refused, not completed by guessing."""
    assert to_double_dash(["-spiffeID"]) == ["-spiffeID"]
