"""Durations as people write them: `90`, `15m`, `1h30m`."""

import re
from datetime import timedelta

import click

from agentshield.errors import InvalidInputError

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART = re.compile(r"(\d+)([dhms])")
_WHOLE = re.compile(r"(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?")
MAX_DURATION = timedelta(days=3650)


def parse_duration(text: str) -> timedelta:
    """Read whole seconds, or days, hours, minutes and seconds in that order.

    Raises:
        InvalidInputError: `text` is neither, is zero, or is over ten years.
    """
    if text.isascii() and text.isdigit() and len(text) <= 12:
        seconds = int(text)
    elif text and _WHOLE.fullmatch(text) and len(text) <= 40:
        seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    else:
        raise InvalidInputError(f"{text[:40]!r} is not a duration; write 90, 15m or 1h30m")
    if not 0 < seconds <= MAX_DURATION.total_seconds():
        raise InvalidInputError(f"duration {text[:40]!r} is out of range; at least 1s and at most 3650d")
    return timedelta(seconds=seconds)


def duration_text(duration: timedelta) -> str:
    """Write a duration as `parse_duration` reads it, `1h30m`."""
    seconds = int(duration.total_seconds())
    parts = []
    for unit, size in _UNITS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


class DurationType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic from click 8.5 on
    """A click option that takes a duration."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read the flag's text; a wrong one is a usage error that names the flag."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except InvalidInputError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationType()
