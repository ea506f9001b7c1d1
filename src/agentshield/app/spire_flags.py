"""SPIRE's single-dash flags, translated, so that commands written for `spire-server entry` run unchanged.

SPIRE's flags are Go's: one dash, `-flag value` or `-flag=value`, a boolean only as `-flag` or `-flag=true`
(spire.md 1a). click would read `-spiffeID` as eight short flags. The value after a flag is taken whatever it looks
like, as Go does, so `-hint -dns` is a hint that reads "-dns".
"""

from collections.abc import Mapping, Sequence

# `-ttl` left SPIRE in 1.11 and is what the seed's article prints; it means both lifetimes, as it did there.
VALUED: Mapping[str, str] = {
    "spiffeID": "--spiffe-id",
    "parentID": "--parent-id",
    "selector": "--selector",
    "x509SVIDTTL": "--x509-svid-ttl",
    "jwtSVIDTTL": "--jwt-svid-ttl",
    "ttl": "--ttl",
    "federatesWith": "--federates-with",
    "dns": "--dns",
    "entryExpiry": "--entry-expiry",
    "entryID": "--entry-id",
    "hint": "--hint",
    "output": "--output",
}
BOOLEAN: Mapping[str, str] = {"admin": "--admin", "downstream": "--downstream", "storeSVID": "--store-svid"}
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})  # strconv.ParseBool
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_OUTPUT_WORDS = {"pretty": "table"}  # SPIRE's `-output pretty|json`


def to_double_dash(arguments: Sequence[str]) -> list[str]:
    """Rewrite SPIRE's flags as ours; every other argument stays as it is."""
    translated: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*translated, argument, *rest]
        name, has_value, value = argument[1:].partition("=")
        if not argument.startswith("-") or argument.startswith("--"):
            translated.append(argument)
        elif name in VALUED and (has_value or rest):
            value = value if has_value else rest.pop(0)
            translated.append(f"{VALUED[name]}={_OUTPUT_WORDS.get(value, value) if name == 'output' else value}")
        elif name in BOOLEAN and (not has_value or value in _TRUE):
            translated.append(BOOLEAN[name])
        elif name in BOOLEAN and value in _FALSE:
            continue
        else:
            translated.append(argument)
    return translated


def known_flags() -> list[str]:
    """Name every SPIRE flag understood, with its dash, for the nearest-name answer."""
    return [f"-{name}" for name in (*VALUED, *BOOLEAN)]
