"""The step ``tls`` to a service."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from ..redaction import format_error
from .connecting import find_stranger, silence
from .ladder import Ladder, RungError

if TYPE_CHECKING:
    import socket


def wrap_tls(
    ladder: Ladder, connection: socket.socket, context: ssl.SSLContext, name: str
) -> ssl.SSLSocket:
    """Speak TLS on a connection; the step ``tls``.

    Args:
        ladder: The ladder.
        connection: The connection.
        context: What is demanded of the certificate.
        name: The host's name.

    Returns:
        The encrypted connection.

    Raises:
        RungError: The other side speaks no TLS, or its certificate is not accepted.
    """
    try:
        wrapped = context.wrap_socket(connection, server_hostname=name or None)
    except ssl.SSLCertVerificationError as error:
        reason = f"the certificate is not accepted: {error.verify_message or format_error(error)}"
        remedy = "Renew the certificate, or trust its authority (SSL_CERT_FILE, sslrootcert)"
        raise RungError("tls", reason, remedy) from None
    except TimeoutError:
        if not find_stranger(ladder):
            raise silence(ladder, "tls", "TLS handshake") from None
        raise _no_tls(ladder, "no TLS is spoken there") from None
    except OSError as error:
        spoken = "no TLS is spoken there" if _speaks_no_tls(error) else format_error(error)
        raise _no_tls(ladder, spoken) from None
    ladder.reached("tls", wrapped.version() or "ok")
    return wrapped


def _no_tls(ladder: Ladder, reason: str) -> RungError:
    remedy = f"Switch TLS on at {ladder.service}, or off in the URL"
    return RungError("tls", f"the TLS handshake failed: {reason}", remedy)


def _speaks_no_tls(error: OSError) -> bool:
    reason = getattr(error, "reason", "") or ""
    closed = isinstance(error, (ConnectionResetError, ssl.SSLEOFError))
    return closed or reason in {
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "UNEXPECTED_EOF_WHILE_READING",
    }
