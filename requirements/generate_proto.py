# ruff: noqa: INP001 - a script, run by `make proto`
"""Generates sdk/wire/*_pb2.py and .pyi from our .proto files: `make proto`.

The compiler lives in a throw-away virtual environment. Its release is chosen for the code it writes: generated code
refuses a protobuf runtime older than itself, and 6.31 is the oldest that the packages our users have beside us accept.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

COMPILER = "grpcio-tools>=1.74,<1.75"  # protoc 31, so the generated code asks for protobuf 6.31.1 or newer
SOURCE = Path(__file__).resolve().parent.parent / "src"
PROTOS = sorted((SOURCE / "agentshield" / "sdk" / "wire").glob("*.proto"))


def main() -> None:
    """Compile every .proto file of sdk/wire in place."""
    with tempfile.TemporaryDirectory(prefix="agentshield-protoc-") as directory:
        venv.create(directory, with_pip=True)
        python = str(Path(directory) / "bin" / "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "-q", "install", "--only-binary", ":all:"]
        subprocess.run([*pip, COMPILER], check=True)  # noqa: S603 - our own words only
        compile_all(python)


def compile_all(python: str) -> None:
    """Run the compiler of the interpreter `python`, with names relative to src/ as imports need them."""
    protoc = [python, "-m", "grpc_tools.protoc", f"-I{SOURCE}", f"--python_out={SOURCE}", f"--pyi_out={SOURCE}"]
    names = [str(path.relative_to(SOURCE)) for path in PROTOS]
    subprocess.run([*protoc, *names], check=True, cwd=SOURCE)  # noqa: S603 - our own words only


if __name__ == "__main__":
    if sys.argv[1:]:
        compile_all(sys.argv[1])  # an interpreter that has the compiler already
    else:
        main()
