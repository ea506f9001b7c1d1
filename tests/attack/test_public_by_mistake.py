"""A stranger asks for the front page of an agent whose programmer meant to open one path, and wrote no list around it.

Who is hurt: the owner of what is at `/`, which nobody decided to show.
"""

import pytest

from agentshield.fastapi import protect
from agentshield.sdk.asgi import ShieldMiddleware

fastapi = pytest.importorskip("fastapi")


def test_one_text_in_place_of_a_list_is_refused():
    """Each letter would be a path of its own, and the first letter of a path is `/`."""
    with pytest.raises(TypeError, match="public is a list of paths, not '/health'"):
        ShieldMiddleware(lambda *_: None, public="/health")
    with pytest.raises(TypeError, match="public is a list of paths, not '/health'"):
        protect(fastapi.FastAPI(), public="/health")


def test_a_list_that_can_be_read_once_is_read_whole():
    """Paths with and without `/*` are in the same list."""
    door = ShieldMiddleware(lambda *_: None, public=(path for path in ("/health", "/docs/*")))
    assert [door._is_public(path) for path in ("/health", "/docs/a", "/", "/other")] == [True, True, False, False]
