"""What schemathesis is told about the server: names below .localhost are this machine (RFC 6761)."""

import socket

_resolve = socket.getaddrinfo


def _local(host, *rest, **named):
    return _resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **named)


socket.getaddrinfo = _local
