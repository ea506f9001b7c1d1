"""Checking a proof file with the verifier that strangers use, in a process of its own."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from agentshield.app.failure import failed


def check_proof_file(proof: Path, public_key: Path | None) -> int:
    """Run `verify_offline.py` on `proof`; return its exit code, 0 for verified and 3 for tampered.

    Raises:
        CommandError: no key was named; a key found beside the proof would prove nothing.
    """
    if public_key is None:
        raise failed(
            "a proof is only as good as the key it is checked with, and none was named",
            code="public_key_missing",
            family="invalid_input",
            next_step=f"agentshield audit verify {proof} --public-key checkpoint.pub",
        )
    verifier = Path(str(files("agentshield.audit").joinpath("verify_offline.py")))
    # -I: no environment variable and no current directory decide what the verifier imports
    command = [sys.executable, "-I", str(verifier), "--key", str(public_key), str(proof)]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - our own program on a file the user named
