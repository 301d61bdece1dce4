"""What a server is started with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from softprompt.errors import ConfigError

__all__ = ["ServerSettings"]


@final
@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings of a server; those of its engine are the engine's.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        keys: File of hashed keys, as `softprompt keys new` writes it, one of which each request must bring; None lets
            everybody of this machine in.
        admin_keys: File of hashed keys for changing what is served; None turns those routes off.
        max_body_bytes: Largest body of a request.
        max_prompt_bytes: Largest prompt that may be uploaded.
        body_timeout_s: Seconds within which a request's head, and then its body, have to be there.
        request_timeout_s: Seconds within which an answer has to be complete.
        shutdown_timeout_s: Seconds that requests in flight get when the server is told to stop.
        max_connections: Most connections at a time.
        max_new_tokens: Longest answer that may be asked for.
        max_texts: Most texts that a request may ask for: its inputs times `n`.
        watch_s: Look every so many seconds whether prompts in memory have changed on disk; None does not.
        log_inputs: Whether inputs and answers stand in the log.
        tls_certificate: File of the certificate, for https.
        tls_key: File of its key.

    Raises:
        ConfigError: If a number is out of range, a file of keys is missing, or others than this machine's users could
            reach a server that asks for no keys.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: str | None = None
    admin_keys: str | None = None
    max_body_bytes: int = 2**20
    max_prompt_bytes: int = 2**26
    body_timeout_s: float = 20.0
    request_timeout_s: float = 120.0
    shutdown_timeout_s: float = 30.0
    max_connections: int = 512
    max_new_tokens: int = 1024
    max_texts: int = 128
    watch_s: float | None = None
    log_inputs: bool = False
    tls_certificate: str | None = None
    tls_key: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_prompt_bytes", "max_connections", "max_new_tokens", "max_texts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected at least 1.")
        for name in ("body_timeout_s", "request_timeout_s", "shutdown_timeout_s", "watch_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}={value}: expected seconds above 0.")
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"port={self.port}: expected 0 to 65535.")
        for name in ("keys", "admin_keys", "tls_certificate", "tls_key"):
            value = getattr(self, name)
            if value is not None and not Path(value).is_file():
                raise ConfigError(f"{name}={value}: no such file.")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("https needs both tls_certificate and tls_key.")
        if self.keys is None and not self.is_local:
            raise ConfigError(
                f"host={self.host} can be reached from other machines, and no keys are asked for; make some with "
                "softprompt keys new, and give their file as keys."
            )

    @property
    def is_local(self) -> bool:
        """Whether this machine alone can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
