"""The process that holds the checkpoint key, and nothing else: `python -m agentshield.audit.signer_process`.

It is started by `signer_client.ChildSigner`, which hands it one end of a socket pair. It ends when the other end is
closed, which the kernel does when its parent dies, however it dies.
"""

import argparse
import resource
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from agentshield.audit.errors import SignerUnavailableError
from agentshield.audit.signer import CheckpointSigner
from agentshield.audit.signer_directory import SignerDirectory
from agentshield.audit.signer_messages import (
    MAX_LINE,
    error_answer,
    from_line,
    last_answer,
    read_sign_question,
    to_line,
)
from agentshield.errors import AgentShieldError


def main() -> None:
    """Serve one client until it goes away."""
    arguments = _arguments()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the key
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which still wants a last signature
    with (
        suppress(BrokenPipeError, ConnectionResetError),  # the parent died while we had something to say
        socket.socket(fileno=arguments.fd) as connection,
        connection.makefile("rwb") as stream,
    ):
        _serve_from(stream, arguments.directory, arguments.origin)


def _serve_from(stream: BufferedIOBase, path: Path, origin: str) -> None:
    try:
        directory = SignerDirectory(path)
    except AgentShieldError as error:
        stream.write(to_line(error_answer(error)))
        return
    serve(stream, CheckpointSigner(origin=origin, private_key=directory.private_key, memory=directory))


def serve(stream: BufferedIOBase, signer: CheckpointSigner) -> None:
    """Answer questions until the stream ends."""
    answer: Mapping[str, Any] = last_answer(signer.key, signer.last_signed)
    while True:
        stream.write(to_line(answer))
        stream.flush()
        line = stream.readline(MAX_LINE)
        if not line:
            return
        answer = _answer(line, signer)


def _answer(line: bytes, signer: CheckpointSigner) -> Mapping[str, Any]:
    try:
        question = from_line(line)
        match question["ask"]:
            case "last":
                return last_answer(signer.key, signer.last_signed)
            case "sign":
                return {"note": signer.sign(*read_sign_question(question))}
            case _:
                raise ValueError("unknown question")
    except AgentShieldError as error:
        return error_answer(error)
    except OSError as error:
        return error_answer(SignerUnavailableError(f"signer cannot remember what it signs: {error.strerror}"))
    except (ValueError, KeyError, TypeError) as error:
        return error_answer(SignerUnavailableError(f"signer was asked a malformed question ({type(error).__name__})"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--origin", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
