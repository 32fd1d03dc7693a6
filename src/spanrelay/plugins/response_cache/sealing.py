"""Seals what a store keeps, so that what was broken, or put there by another, is not read.

With a key it is encrypted too: AES-256-GCM, by the package `cryptography`.
"""

from __future__ import annotations

import base64
import binascii
import os
from hashlib import blake2b
from typing import Any

from spanrelay.errors import ConfigurationError
from spanrelay.plugins.response_cache.stores import Store

_NONCE, _DIGEST = 12, 16


class Sealed:
    """A store whose data is bound to its key: an entry that was changed, or moved, is none.

    Args:
        store: What keeps the bytes.
        secret: 32 bytes to encrypt by, in base64; None for a digest alone, which shows what broke by itself.

    Raises:
        ConfigurationError: `secret` is none, or the package for it is not installed.
    """

    def __init__(self, store: Store, secret: str | None) -> None:
        self._store = store
        self.shared = store.shared
        self._cipher: Any = None if secret is None else _cipher_of(secret)

    def get(self, key: bytes) -> bytes | None:
        """Return what is kept by a key; None where the seal is broken."""
        data = self._store.get(key)
        if data is None:
            return None
        if self._cipher is None:
            return data[_DIGEST:] if data[:_DIGEST] == _digest(key, data[_DIGEST:]) else None
        from cryptography.exceptions import InvalidTag  # an extra, which is there where there is a cipher

        try:
            return self._cipher.decrypt(data[:_NONCE], data[_NONCE:], key)
        except (InvalidTag, ValueError):
            return None

    def put(self, key: bytes, data: bytes, ttl_seconds: float) -> None:
        """Keep `data`."""
        if self._cipher is None:
            sealed = _digest(key, data) + data
        else:
            nonce = os.urandom(_NONCE)
            sealed = nonce + self._cipher.encrypt(nonce, data, key)
        self._store.put(key, sealed, ttl_seconds)

    def close(self) -> None:
        """Let go of files and connections."""
        self._store.close()


def _digest(key: bytes, data: bytes) -> bytes:
    return blake2b(data, key=key, digest_size=_DIGEST).digest()


def _cipher_of(secret: str) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # an extra: only who encrypts needs it
    except ImportError:
        raise ConfigurationError(
            "encryption_key needs the package cryptography; pip install 'spanrelay[encryption]'"
        ) from None
    return AESGCM(key_in(secret))


def key_in(secret: str) -> bytes:
    """Return the 32 bytes in base64 that `secret` is.

    Raises:
        ConfigurationError: it is something else.
    """
    try:
        key = base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise ConfigurationError("encryption_key is not 32 bytes in base64; make one with `openssl rand -base64 32`")
    return key
