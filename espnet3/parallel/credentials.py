"""Throw-away TLS credentials: one key pair for each cluster, made by its driver and gone with it.

Dask runs what it is sent, so whoever may speak to a worker runs code as its user. The certificate
signs itself and is the only one that the cluster's processes accept: they know each other by having
the same key, in both directions of every connection.
"""

import datetime
import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, BinaryIO, Self

from espnet3.errors import ConfigError
from espnet3.parallel.engine.disk import explained
from espnet3.parallel.engine.owner import decode, describe_process, encode, is_dead

if TYPE_CHECKING:
    from distributed import Security

BACK = datetime.timedelta(days=1)
"""By so much the clock of another host may be behind."""
LIFE = datetime.timedelta(days=365)

_PREFIX = ".tls-"


@dataclass(frozen=True)
class Credentials:
    """A key pair.

    Attributes:
        certificate: PEM text, or the path of a file that has it.
        key: the same of the private key, which is not encrypted.
    """

    certificate: str
    key: str = field(repr=False)

    def security(self) -> "Security":
        """For Dask: every connection is encrypted, and both ends show this certificate."""
        from distributed import Security

        ends = ("client", "scheduler", "worker")
        return Security(
            require_encryption=True,
            tls_ca_file=self.certificate,
            **{f"tls_{end}_cert": self.certificate for end in ends},
            **{f"tls_{end}_key": self.key for end in ends},
        )

    def as_line(self) -> bytes:
        """To be read by `read_line` in another process."""
        return json.dumps([self.certificate, self.key]).encode() + b"\n"

    @classmethod
    def read_line(cls, stream: BinaryIO) -> Self:
        """What another process sends.

        Raises:
            EOFError: if it ends first.
        """
        line = stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the TLS credentials did not come on stdin")
        return cls(*json.loads(line))


def make_credentials() -> Credentials:
    """A new key pair, as PEM texts. (Workers get one; only the driver loads `cryptography`.)"""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "espnet3")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK)
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Credentials(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


class KeyFiles:
    """Credentials in files that only this user can read, for jobs on other hosts.

    They are removed by `remove`, or else when this process ends; if it is killed, by the next one
    that makes some in the same place. Until then they open nothing: the cluster that took them has
    died, too.

    Args:
        place: a directory that all hosts see; made if it is missing.

    Raises:
        ConfigError: if its path cannot stand in a job script.
        RunStopped: if files cannot be written there.
    """

    def __init__(self, place: Path) -> None:
        if any(c.isspace() for c in str(place)):
            raise ConfigError(
                f"job scripts cannot name the TLS key in {str(place)!r}, as that has spaces; "
                "choose another output directory, or set parallel.options.shared_temp_directory"
            )
        with explained(place):
            place.mkdir(parents=True, exist_ok=True)
            _remove_those_of_the_dead(place)
            self._directory = tempfile.TemporaryDirectory(  # with mode 0700
                prefix=_PREFIX, dir=place, ignore_cleanup_errors=True
            )
            self.credentials = _write(make_credentials(), Path(self._directory.name))

    @staticmethod
    def stand_in(place: Path) -> Credentials:
        """Where they would be, with a name that nobody can foresee left open."""
        path = place / f"{_PREFIX}<key>"
        return Credentials(str(path / "certificate.pem"), str(path / "key.pem"))

    def remove(self) -> None:
        """Remove the files; no worker can start with them any more."""
        self._directory.cleanup()


def _write(credentials: Credentials, directory: Path) -> Credentials:
    files = Credentials(str(directory / "certificate.pem"), str(directory / "key.pem"))
    for path, text in (
        (directory / "owner", encode(describe_process()).decode()),
        (Path(files.certificate), credentials.certificate),
        (Path(files.key), credentials.key),
    ):
        path.touch(mode=0o600)
        path.write_text(text)
    return files


def _remove_those_of_the_dead(place: Path) -> None:
    here = describe_process()
    for path in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody else's
            if is_dead(decode((path / "owner").read_bytes()), here):
                rmtree(path, ignore_errors=True)
