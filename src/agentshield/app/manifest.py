"""What should be registered, as files say it: YAML documents, each one object, checked before anything is done.

The members are those of the admin API. Documents beside them, such as key sets, are named by `…_file` and lie where the
file lies. What `agentshield … show -o yaml` prints can be read back: what only the server may say is left aside.
"""

import base64
import hashlib
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agentshield.app.failure import API_VERSION
from agentshield.app.manifest_values import check_value, holds_private_key
from agentshield.errors import InvalidInputError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.policy.errors import InvalidRuleError
from agentshield.policy.yaml_files import YamlMapping, load_yaml_documents

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_DOCUMENTS: Final = 1_000
_HEADER: Final = ("apiVersion", "kind")
_SECRET_WORDS: Final = ("secret", "password", "private_key", "token")


class InvalidManifestError(InvalidInputError):
    """A file does not say what should be registered. The message begins with file and line."""

    code = "invalid_manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of object. `key` names it; `files` are members that hold a document, by the member that names its file.

    `told` are members of the server's own, `agents` those that name an agent.
    """

    name: str
    path: str
    key: str
    members: Mapping[str, type]
    files: Mapping[str, str] = field(default_factory=dict)
    told: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    is_fixed: bool = False  # it can be made and deleted, not changed

    @property
    def known(self) -> frozenset[str]:
        """Every key that a document may have."""
        return frozenset((*_HEADER, *self.members, *self.files, *self.told))


_TOLD: Final = frozenset({"created_at", "created_by", "status", "status_reason"})

#: In the order in which each may need those before it.
KINDS: Final = (
    Kind(
        name="Blueprint",
        path="/v1/blueprints",
        key="name",
        members={"name": str, "owner": str, "sponsor": str, "scopes": dict, "risk": str, "description": str},
        told=_TOLD,
    ),
    Kind(
        name="Agent",
        path="/v1/agents",
        key="name",
        members={
            "name": str,
            "owner": str,
            "sponsor": str,
            "groups": list,
            "risk": str,
            "skills": dict,
            "blueprint": str,
        },
        told=_TOLD | {"spiffe_id"},
        is_fixed=True,
    ),
    Kind(
        name="Resource",
        path="/v1/resources",
        key="audience",
        members={
            "audience": str,
            "scopes": list,
            "server": str,
            "token_format": str,
            "algorithm": str,
            "lifetime": int,
        },
        told=_TOLD,
        agents=frozenset({"server"}),
    ),
    Kind(
        name="Issuer",
        path="/v1/issuers",
        key="name",
        members={
            "name": str,
            "preset": str,
            "issuer": str,
            "audiences": list,
            "scopes": list,
            "jwks_url": str,
            "sign_in": dict,
        },
        files={"jwks_file": "jwks", "ca_file": "ca_pem"},
        told=_TOLD | {"algorithms", "subject_profile", "jwks_sha256", "ca_sha256"},
    ),
    Kind(
        name="FederatedCredential",
        path="/v1/federated-credentials",
        key="name",
        members={
            "name": str,
            "agent": str,
            "issuer": str,
            "subject": str,
            "claims": dict,
            "audience": str,
            "description": str,
        },
        told=_TOLD,
        agents=frozenset({"agent"}),
    ),
    Kind(
        name="Client",
        path="/v1/clients",
        key="client_id",
        members={
            "client_id": str,
            "agent": str,
            "methods": list,
            "redirect_uris": list,
            "notification_endpoint": str,
            "tls_san_dns": str,
            "tls_san_uri": str,
        },
        files={
            "jwks_file": "jwks",
            "attester_jwks_file": "attester_jwks",
            "notification_ca_file": "notification_ca_pem",
            "tls_ca_file": "tls_ca",
        },
        told=_TOLD
        | {
            "secret_expires_at",
            "jwks_sha256",
            "attester_jwks_sha256",
            "notification_ca_sha256",
            "tls_ca_sha256",
        },
        agents=frozenset({"agent"}),
    ),
)
_BY_NAME: Final = {kind.name: kind for kind in KINDS}
_DIGESTS: Final = {
    "jwks": "jwks_sha256",
    "ca_pem": "ca_sha256",
    "attester_jwks": "attester_jwks_sha256",
    "notification_ca_pem": "notification_ca_sha256",
    "tls_ca": "tls_ca_sha256",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One object that should be there. `place` is file and line; `documents` are contents, by member."""

    kind: Kind
    key: str
    place: str
    members: Mapping[str, Any]
    documents: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def body(self) -> dict[str, Any]:
        """Return what the admin API takes."""
        encoded = {name: base64.b64encode(content).decode() for name, content in self.documents.items()}
        members = dict(self.members)
        if self.kind.name == "Agent" and "skills" in members:
            members["skills"] = [f"{name}={risk}" for name, risk in members["skills"].items()]
        return members | encoded

    def wanted(self, domain: TrustDomain) -> dict[str, Any]:
        """Return what the admin API would show of it, as far as the file says."""
        digests = {_DIGESTS[name]: hashlib.sha256(each).hexdigest() for name, each in self.documents.items()}
        return {name: self._shown(name, value, domain) for name, value in self.members.items()} | digests

    def _shown(self, name: str, value: Any, domain: TrustDomain) -> Any:
        if name in self.kind.agents and "://" not in value:
            return str(SpiffeId.of(domain, f"/agents/{value}"))
        if name == "sign_in":  # one thing, with the server's defaults for what is not said
            scopes = value.get("scopes", [])
            asked = sorted({"openid", *scopes}) if isinstance(scopes, list) else scopes
            return {"method": "private_key_jwt", "name_claim": None} | value | {"scopes": asked}
        return value


def read_manifests(texts: Iterable[tuple[str, str, Path]]) -> tuple[Manifest, ...]:
    """Read files, each given as its name, its text, and the directory that the files it names are in.

    Raises:
        InvalidManifestError: the first thing wrong, with file and line.
    """
    found: list[Manifest] = []
    places: dict[tuple[str, str], str] = {}
    for name, text, directory in texts:
        for document in _documents(name, text):
            manifest = _manifest(document, directory)
            before = places.setdefault((manifest.kind.name, manifest.key), manifest.place)
            if before != manifest.place:
                raise InvalidManifestError(
                    f"{manifest.place}: {manifest.kind.name} {manifest.key} stands in {before} already"
                )
            found.append(manifest)
    if len(found) > MAX_DOCUMENTS:
        raise InvalidManifestError(f"{len(found)} objects, at most {MAX_DOCUMENTS} are read at once")
    return tuple(sorted(found, key=lambda each: KINDS.index(each.kind)))


def _documents(name: str, text: str) -> tuple[YamlMapping, ...]:
    if len(text) > MAX_FILE_BYTES:
        raise InvalidManifestError(f"{name}: {len(text)} characters, at most {MAX_FILE_BYTES} are read")
    try:
        return load_yaml_documents(text, file=name)
    except InvalidRuleError as error:
        raise InvalidManifestError(str(error)) from None


def _manifest(document: YamlMapping, directory: Path) -> Manifest:
    kind = _kind(document)
    for key in document:
        if any(word in key.lower() for word in _SECRET_WORDS) and key not in kind.known:
            raise _refused(
                document,
                key,
                f"{key[:40]} looks like a secret, and no file holds one here",
                hint="agentshield client secret, for the client that can do no better yet",
            )
    try:
        document.check_keys(kind.known)
        for name in kind.members.keys() & document.keys():
            check_value(document, name, document[name])
    except InvalidRuleError as error:
        raise InvalidManifestError(str(error)) from None
    members = {name: _typed(document, name, of) for name, of in kind.members.items() if document.get(name) is not None}
    if kind.key not in members:
        raise _refused(document, "kind", f"{kind.name} has no {kind.key}")
    documents = {member: _content(document, name, directory) for name, member in kind.files.items() if name in document}
    return Manifest(
        kind=kind,
        key=members[kind.key],
        place=f"{document.file}:{document.line}",
        members=members,
        documents=documents,
    )


def _kind(document: YamlMapping) -> Kind:
    version, name = document.get("apiVersion", API_VERSION), document.get("kind")
    if version != API_VERSION:
        raise _refused(document, "apiVersion", f"apiVersion is {str(version)[:40]!a}, expected {API_VERSION}")
    kind = _BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None:
        raise _refused(document, "kind", f"kind is {str(name)[:40]!a}, expected one of {', '.join(_BY_NAME)}")
    return kind


def _typed(document: YamlMapping, name: str, of: type) -> Any:
    value = document[name]
    if type(value) is of or (of is dict and isinstance(value, YamlMapping)):
        return _plain(value)
    wanted = {str: "text", list: "a list", dict: "a mapping", int: "a whole number"}[of]
    raise _refused(document, name, f"{name} must be {wanted}, not {str(value)[:40]!a}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _content(document: YamlMapping, name: str, directory: Path) -> bytes:
    path: Path = directory / _typed(document, name, str)
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _refused(document, name, f"{path} cannot be read: {(error.strerror or 'failed').lower()}") from None
    if len(content) > MAX_FILE_BYTES:
        raise _refused(document, name, f"{path} has over {MAX_FILE_BYTES} bytes")
    if holds_private_key(content):
        raise _refused(document, name, f"{path} holds a private key", hint="only the public half belongs here")
    if name != "tls_ca_file":
        return content
    try:
        return ssl.PEM_cert_to_DER_cert(content.decode("ascii"))
    except ValueError:
        raise _refused(document, name, f"{path} is not one certificate in PEM") from None


def _refused(document: YamlMapping, key: str, message: str, *, hint: str | None = None) -> InvalidManifestError:
    return InvalidManifestError(str(document.refused(message, key=key)), hint=hint)
