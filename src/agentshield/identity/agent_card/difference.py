"""What changed from one card to the next, in words; and what of that lets callers in more easily, or elsewhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentshield.identity.agent_card.binding import IdentityBinding
from agentshield.identity.agent_card.canonical import pointer
from agentshield.identity.agent_card.card import AgentCard, Requirement


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference. `path` is a JSON pointer; `is_weaker`: it lowers what the card asks for, or moves the agent."""

    path: str
    message: str
    is_weaker: bool = False


def compare_cards(old: AgentCard, new: AgentCard) -> tuple[Change, ...]:
    """Return what is different in `new`, what is weaker first. Order of members and of alternatives does not count."""
    found = [*_security(old, new), *_places(old, new), *_freshness(old, new), *_rest(old, new)]
    return tuple(sorted(found, key=lambda each: (not each.is_weaker, each.path)))


def _security(old: AgentCard, new: AgentCard) -> Iterator[Change]:
    yield from _alternatives("/securityRequirements", old.requirements, new.requirements)
    before = {skill.id: skill for skill in old.skills}
    for skill in new.skills:
        if skill.id in before:
            path = pointer(pointer("/skills", skill.id), "securityRequirements")
            yield from _alternatives(path, before[skill.id].requirements, skill.requirements)
    for name in sorted(old.schemes.keys() | new.schemes.keys()):
        path = pointer("/securitySchemes", name)
        was, now = old.schemes.get(name), new.schemes.get(name)
        if was is None:
            yield Change(path=path, message="scheme is new")
        elif now is None:
            yield Change(path=path, message="scheme is gone")  # weaker only where a requirement loses it
        elif was != now:
            yield Change(path=path, message="scheme authenticates in another way, or elsewhere", is_weaker=True)


def _alternatives(path: str, old: tuple[Requirement, ...], new: tuple[Requirement, ...]) -> Iterator[Change]:
    """A caller must meet one alternative: each new one must ask for all that some old one asked for."""
    if old and not new:
        yield Change(path=path, message="nothing is required any more", is_weaker=True)
        return
    for requirement in new:
        if requirement in old:
            continue
        is_weaker = bool(old) and not any(_covers(requirement, each) for each in old)
        yield Change(path=path, message=f"alternative is new: {_words(requirement)}", is_weaker=is_weaker)
    for requirement in old:
        if requirement not in new:
            yield Change(path=path, message=f"alternative is gone: {_words(requirement)}")


def _covers(requirement: Requirement, other: Requirement) -> bool:
    """Whether who meets `requirement` meets `other`."""
    mine = requirement.schemes
    return all(name in mine and scopes <= mine[name] for name, scopes in other.schemes.items())


def _words(requirement: Requirement) -> str:
    if requirement.is_open:
        return "nothing at all"
    each = (
        f"{name} ({', '.join(sorted(scopes))})" if scopes else name
        for name, scopes in sorted(requirement.schemes.items())
    )
    return " and ".join(each)


def _places(old: AgentCard, new: AgentCard) -> Iterator[Change]:
    before, after = ({each.origin or each.url for each in card.interfaces} for card in (old, new))
    for origin in sorted(after - before):
        yield Change(path="/supportedInterfaces", message=f"answers at {origin} as well", is_weaker=True)
    for origin in sorted(before - after):
        yield Change(path="/supportedInterfaces", message=f"does not answer at {origin} any more")
    if before == after and old.interfaces != new.interfaces:
        yield Change(path="/supportedInterfaces", message="interfaces changed, at the same origins")


def _freshness(old: AgentCard, new: AgentCard) -> Iterator[Change]:
    was, now = IdentityBinding.of(old), IdentityBinding.of(new)
    path = "/capabilities/extensions"
    if was is not None and now is None:
        yield Change(path=path, message="does not say any more who it is about", is_weaker=True)
    elif was is not None and now is not None:
        if was.spiffe_id != now.spiffe_id:
            yield Change(path=path, message=f"is about {now.spiffe_id}, was {was.spiffe_id}", is_weaker=True)
        if now.serial < was.serial or (now.serial == was.serial and now != was):
            yield Change(path=path, message=f"serial {now.serial} does not follow {was.serial}", is_weaker=True)
        if weaker := was.proofs - now.proofs:
            yield Change(path=path, message=f"does not take {', '.join(sorted(weaker))} any more")
        if more := now.proofs - was.proofs:
            yield Change(path=path, message=f"takes {', '.join(sorted(more))} as well", is_weaker=True)


def _rest(old: AgentCard, new: AgentCard) -> Iterator[Change]:
    told = {"securitySchemes", "securityRequirements", "supportedInterfaces"}
    for name in sorted((old.members.keys() | new.members.keys()) - told):
        if name == "skills":
            yield from _skills(old, new)
        elif name == "capabilities":
            yield from _capabilities(old.members[name], new.members[name])
        elif old.members.get(name) != new.members.get(name):
            yield Change(path=f"/{name}", message="changed")


def _skills(old: AgentCard, new: AgentCard) -> Iterator[Change]:
    before, after = ({each["id"]: each for each in card.members["skills"]} for card in (old, new))
    for each in sorted(after.keys() - before.keys()):
        yield Change(path=pointer("/skills", each), message="skill is new")
    for each in sorted(before.keys() - after.keys()):
        yield Change(path=pointer("/skills", each), message="skill is gone")
    for each in sorted(after.keys() & before.keys()):
        was, now = (
            {key: value for key, value in side[each].items() if key != "securityRequirements"}
            for side in (before, after)
        )
        if was != now:
            yield Change(path=pointer("/skills", each), message="skill is described in other words")


def _capabilities(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted((old.keys() | new.keys()) - {"extensions"}):
        if old.get(name) != new.get(name):
            yield Change(path=f"/capabilities/{name}", message=f"is {new.get(name)}, was {old.get(name)}")
    before, after = ({each.get("uri", ""): each for each in side.get("extensions", ())} for side in (old, new))
    for uri in sorted(before.keys() | after.keys()):
        if bool(before.get(uri, {}).get("required")) and not after.get(uri, {}).get("required"):
            message = f"extension {uri} is not required any more"
            yield Change(path="/capabilities/extensions", message=message, is_weaker=True)
        elif (uri in before) != (uri in after):
            message = f"extension {uri} is {'new' if uri in after else 'gone'}"
            yield Change(path="/capabilities/extensions", message=message)
