"""The key that signs the issuer's tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ALGORITHM = "RS256"
BITS = 2048


class SigningKey:
    """An RSA key, known to others by its JWK thumbprint (RFC 7638)."""

    def __init__(self, private: rsa.RSAPrivateKey) -> None:
        self._private = private
        public: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        required = {name: public[name] for name in ("e", "kty", "n")}
        digest = hashlib.sha256(json.dumps(required, separators=(",", ":"), sort_keys=True).encode()).digest()
        self.kid = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        self.jwk = required | {"kid": self.kid, "use": "sig", "alg": ALGORITHM}

    def sign(self, claims: dict[str, Any], kind: str) -> str:
        """A signed token; `kind` is its `typ`, which tells an access token from an id token."""
        return jwt.encode(claims, self._private, algorithm=ALGORITHM, headers={"kid": self.kid, "typ": kind})

    def verify(self, token: str, *, issuer: str, audience: str, kind: str) -> dict[str, Any]:
        """The claims of a token that this key signed; `jwt.PyJWTError` when anything about it is wrong."""
        if jwt.get_unverified_header(token).get("typ") != kind:
            raise jwt.InvalidTokenError("another kind of token")
        claims: dict[str, Any] = jwt.decode(
            token,
            self._private.public_key(),
            algorithms=[ALGORITHM],
            issuer=issuer,
            audience=audience,
            options={"require": ["exp", "iat", "iss", "sub", "aud"]},
        )
        return claims


def load_or_make(path: Path) -> SigningKey:
    """The key in this 0600 file, made on the first call."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return _make(path)
    key = serialization.load_pem_private_key(data, password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{path} holds no RSA key")
    return SigningKey(key)


def _make(path: Path) -> SigningKey:
    private = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    data = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    new.replace(path)
    return SigningKey(private)
