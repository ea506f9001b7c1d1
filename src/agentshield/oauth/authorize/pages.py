"""The two pages that humans see: what is asked of them, and that something is over. No script, nothing from elsewhere.

What others wrote is escaped, isolated from the text around it, and shown with whatever in it cannot be seen. There is
one template a page; a template engine comes with the console, which has many.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from datetime import timedelta
from html import escape
from typing import Final

from agentshield.oauth.authorize.consent import ALLOW, DENY, ConsentView
from agentshield.oauth.settings import CONSENT_PATH

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}"
    "body,button{color:#111;background:#fff}"
    "dt{font-weight:600;margin-top:.75rem}dd{margin:0;overflow-wrap:anywhere}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f3f3f3;padding:.75rem;margin:0}"
    "button{font:inherit;padding:.6rem 1.4rem;margin:1.5rem .75rem 0 0;border:2px solid #111}"
    "button:focus{outline:3px solid #06c;outline-offset:2px}"
)
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_IPV6: Final = re.compile(r"\[[0-9a-f:]+\]")
#: Printable by their category, and yet nothing is seen of them.
_BLANK: Final = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")

_HTML: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>{title}</title><style>{style}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>"
)


def policy(*form_targets: str) -> str:
    """Return the Content-Security-Policy of a page whose form may lead to `form_targets` (CSP 3).

    Browsers hold the redirect that answers a form against `form-action` as well, so the client's origin is in it. CSP
    cannot spell an IPv6 address (3, 2.3.1): of one that is loopback only the port is held on to.
    """
    targets = " ".join(_IPV6.sub("*", target) for target in form_targets) or "'none'"
    return (
        f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; form-action {targets}; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def visible(text: str) -> str:
    """Return text in which nothing hides: what is not printed, or turns the order round, stands there by its number."""
    return "".join(each if each.isprintable() and each not in _BLANK else f"⟨U+{ord(each):04X}⟩" for each in text)


def consent_page(view: ConsentView) -> bytes:
    """Return the page that asks."""
    agent = f"{_value(view.agent_name)}, which {_value(view.agent_owner)} owns<br>{_value(view.agent)}"
    rows = [
        ("You are", f"{_value(view.human.name)}<br>{_value(view.human.subject)} at {_value(view.human.issuer)}"),
        ("The agent", agent),
        ("Asking as", _value(view.client_id)),
        ("Would act for you at", _value(view.resource)),
        ("And may there", _scopes(view.scopes)),
        *(("In detail", f"<pre>{_detail(each)}</pre>") for each in view.details),
        ("For how long", _duration(view)),
        ("Afterwards you are sent to", _value(view.returns_to)),
    ]
    listed = "".join(f"<dt>{name}</dt><dd>{shown}</dd>" for name, shown in rows)
    hidden = f"{_hidden('request', view.request_id)}{_hidden('csrf', view.csrf)}"
    buttons = f"{_button(DENY, 'Do not allow')}{_button(ALLOW, 'Allow')}"
    form = f'<form method="post" action="{CONSENT_PATH}" autocomplete="off">{hidden}{buttons}</form>'
    note = "<p>Whatever it does is on record as done by this agent, for you. If you did not begin this, say no.</p>"
    return _page("An agent asks to act for you", f"<dl>{listed}</dl>{note}{form}")


def over_page(request_id: str) -> bytes:
    """Return the page of whoever comes with what leads nowhere. It says nothing of why: the log does."""
    return _page(
        "This cannot be continued",
        "<p>The request is over, has been used, or was begun in another browser. Go back to where you came from and "
        f"begin again.</p><p>Reference: {_value(request_id)}</p>",
    )


def _page(title: str, body: str) -> bytes:
    return _HTML.format(title=title, style=_STYLE, body=body).encode()


def _value(text: str) -> str:
    """Somebody else's text, on its own: what runs right to left in it turns nothing round it (HTML, 4.5.24)."""
    return f"<bdi>{escape(visible(text))}</bdi>"


def _scopes(scopes: Iterable[str]) -> str:
    return "<br>".join(map(_value, scopes)) or "only what stands below in detail"


def _detail(detail: object) -> str:
    """As JSON, with every character outside ASCII by its number: one that looks like another is not taken for it."""
    return escape(json.dumps(detail, indent=2, sort_keys=True))


def _duration(view: ConsentView) -> str:
    each = f"{_spoken(view.token_lifetime)} at a time"
    if view.lasts is None:
        return f"{_spoken(view.token_lifetime)}, once"
    return f"{each}, renewed without asking you again for up to {_spoken(view.lasts)}"


def _spoken(duration: timedelta) -> str:
    seconds = int(duration.total_seconds())
    for unit, name in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds % unit == 0 and seconds >= unit:
            count = seconds // unit
            return f"{count} {name}" + ("" if count == 1 else "s")
    return "no time"


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{escape(value)}">'


def _button(decision: str, label: str) -> str:
    return f'<button name="decision" value="{decision}">{label}</button>'
