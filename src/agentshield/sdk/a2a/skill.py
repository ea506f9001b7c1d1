"""Our A2A extension that names the skill a message is for: A2A has no place for it (docs/explain/a2a-enforcement.md).

What a caller names is a claim. It can only narrow: the call is decided for that skill, and the agent is told which one
was decided, so that it does no other.
"""

from collections.abc import Mapping
from typing import Any, Final

from agentshield.sdk.a2a.errors import InvalidParamsError

SKILL_EXTENSION: Final = "urn:agentshield:a2a:skill:1"
MAX_SKILL: Final = 256  # characters


def named_skill(metadata: Mapping[str, Any] | None) -> str | None:
    """Return the skill that a message's metadata names, or None.

    Raises:
        InvalidParamsError: the extension's member is there, and is not `{"skill": "<id>"}`.
    """
    written = None if metadata is None else metadata.get(SKILL_EXTENSION)
    if written is None:
        return None
    skill = written.get("skill") if isinstance(written, Mapping) and written.keys() == {"skill"} else None
    if not isinstance(skill, str) or not 0 < len(skill) <= MAX_SKILL or not skill.isprintable():
        raise InvalidParamsError(f'metadata[{SKILL_EXTENSION!r}] is not {{"skill": "<id>"}}')
    return skill


def skill_metadata(skill: str) -> dict[str, Any]:
    """Return the metadata that names `skill`."""
    return {SKILL_EXTENSION: {"skill": skill}}


def skill_extension(*, is_required: bool) -> dict[str, Any]:
    """Return the entry for a card's `capabilities.extensions`; required where a skill of it is protected."""
    return {
        "uri": SKILL_EXTENSION,
        "description": "A message names the skill that it is for",
        **({"required": True} if is_required else {}),
    }
