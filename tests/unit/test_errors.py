"""The errors of all packages together: what a program may rely on when it compares codes."""

import importlib
import inspect
import pkgutil
import re
from collections import defaultdict

import pytest

import agentshield
from agentshield.errors import (
    AgentShieldError,
    AuthenticationError,
    AuthorizationError,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from agentshield.identity import errors as identity

FAMILIES = (
    InvalidInputError,
    AuthenticationError,
    AuthorizationError,
    NotFoundError,
    ConflictError,
    UnavailableError,
    IntegrityError,
    ConfigurationError,
)
ANSWERS = {"AccessDenied", "ApprovalRequired"}  # answers, not faults (agentshield/errors.py)
# The command line's own carries the family of the failure it reports; OAuth's carry the code that the RFCs give.
CARRIERS = {"CommandError", "OAuthError", "FormError", "UseDpopNonceError"}


def all_modules():
    """Import every module of the product; migrations and programs to run are not for import."""
    for info in pkgutil.walk_packages(agentshield.__path__, "agentshield."):
        if not any(part in info.name for part in (".migrations", ".__main__")):
            yield importlib.import_module(info.name)


def all_errors():
    """Every error class that the product defines."""
    found = {
        each
        for module in all_modules()
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, AgentShieldError)
    }
    return sorted(found, key=lambda each: (each.__module__, each.__qualname__))


@pytest.fixture(scope="module")
def errors():
    return all_errors()


def test_every_error_has_a_code_of_its_own(errors):
    """Two errors of one code are one error to a program, which then does the wrong thing about one of them."""
    by_code = defaultdict(list)
    for error in errors:
        by_code[error.code].append(f"{error.__module__}.{error.__qualname__}")
    assert {code: names for code, names in by_code.items() if len(names) > 1} == {}


def test_every_code_is_a_plain_word(errors):
    """Codes are compared in other languages, put in URLs and in queries."""
    assert [error for error in errors if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", error.code)] == []


def test_every_error_says_its_code_itself(errors):
    """A code that is inherited changes when somebody moves the class."""
    assert [error.__qualname__ for error in errors if "code" not in vars(error)] == []


def test_every_error_belongs_to_a_family(errors):
    """The family is what tells a caller what to do: fix, prove, ask, wait, alarm."""
    lonely = {each.__qualname__ for each in errors if each is not AgentShieldError and not issubclass(each, FAMILIES)}
    assert lonely <= CARRIERS


def test_every_error_is_in_one_family_only(errors):
    """Fix it and wait are not both good advice."""
    torn = [each.__qualname__ for each in errors if sum(issubclass(each, family) for family in FAMILIES) > 1]
    assert torn == []


def test_every_error_is_named_as_one(errors):
    """Whoever reads `except` must see what it is; answers are no faults and are not named so."""
    others = {each.__name__ for each in errors if not each.__name__.endswith("Error")}
    assert others <= ANSWERS


def test_every_error_says_what_it_means(errors):
    """The reference of errors is made of these sentences."""
    assert [each.__qualname__ for each in errors if not (each.__doc__ or "").strip()] == []


def test_codes_of_identity_have_not_changed():
    """Programs of users compare these; one that changes breaks them without a word."""
    promised = {
        "InvalidSpiffeIdError": "invalid_spiffe_id",
        "InvalidSvidError": "invalid_svid",
        "InvalidBundleError": "invalid_bundle",
        "InvalidKeyError": "invalid_key",
        "SvidExpiredError": "svid_expired",
        "SvidNotYetValidError": "svid_not_yet_valid",
        "UnknownTrustDomainError": "unknown_trust_domain",
        "UntrustedSvidError": "untrusted_svid",
        "BadSignatureError": "bad_signature",
        "WrongAudienceError": "wrong_audience",
        "PeerNotAllowedError": "peer_not_allowed",
    }
    assert {name: getattr(identity, name).code for name in promised} == promised


def test_hint_and_retry_after_are_kept():
    """The operator reads the one, the client the other."""
    assert AgentShieldError("wrong", hint="right").hint == "right"
    assert AgentShieldError("wrong").hint is None
    assert UnavailableError("away", retry_after=2.5).retry_after == 2.5
    assert str(UnavailableError("away", hint="wait")) == "away"
