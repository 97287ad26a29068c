"""AWS KMS with keys of ECC_SECG_P256K1: Sign over a digest, answered in DER, s in either half.

boto3 is imported here and nowhere else. Region and credentials are AWS's own
variables and roles. Each call is made once: a hidden retry could sign after a
stop has returned.
"""

import threading
import time
from typing import Any

import structlog
from eth_utils.crypto import keccak

from execution_app.errors import Refused
from execution_app.node.signing import ecdsa
from execution_app.node.signing.backends import SignerAwayError, SignerRefusedError

log = structlog.get_logger(__name__)
SPEC, USAGE, ALGORITHM = "ECC_SECG_P256K1", "SIGN_VERIFY", "ECDSA_SHA_256"
CONNECTIONS = 8
SERVER_ERROR = 500
# Codes of KMS and of AWS in general after which the same request may succeed.
PASSING = frozenset(
    {
        *("ThrottlingException", "Throttling", "RequestLimitExceeded", "LimitExceededException"),
        *("KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"),
        *("ServiceUnavailableException", "ServiceUnavailable", "InternalFailure", "RequestTimeout"),
        *("ExpiredTokenException", "ExpiredToken", "RequestExpired"),
    }
)


class KeyManagement:
    """Keys by id, ARN or alias; which wallet each is for is asked of KMS once, by its public key."""

    remote = True

    def __init__(self, key_ids: tuple[str, ...], timeout_s: float) -> None:
        self._key_ids = key_ids
        self._client = _client(timeout_s)
        self._timeout_s = timeout_s
        self._by_address: dict[str, str] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "<KeyManagement>"

    def require(self, address: str) -> None:
        self._key_of(address)

    def addresses(self) -> list[str]:
        return sorted(self._address(key_id) for key_id in self._key_ids)

    def sign(self, address: str, payload: bytes, deadline_s: float) -> ecdsa.Numbers:
        key_id = self._key_of(address)
        # Its timeouts are the client's, so what is not begun in time is not begun.
        if deadline_s - time.monotonic() < self._timeout_s:
            raise SignerAwayError("no time is left to ask KMS")
        answer = self._call(
            "sign",
            KeyId=key_id,
            Message=keccak(payload),
            MessageType="DIGEST",
            SigningAlgorithm=ALGORITHM,
        )
        try:
            return ecdsa.Numbers(*ecdsa.read_der(bytes(answer["Signature"])))
        except (ValueError, KeyError, TypeError):
            raise SignerRefusedError(
                f"the signature that KMS answered for wallet {address} is none"
            ) from None

    def _key_of(self, address: str) -> str:
        wanted = address.lower()
        with self._lock:
            for key_id in self._key_ids:
                if wanted in self._by_address:
                    break
                if key_id in self._by_address.values():
                    continue
                try:
                    self._by_address[self._address(key_id)] = key_id
                except SignerRefusedError as problem:
                    # One unfit key must not keep the others from signing.
                    log.error("a key of SIGNER_KMS_KEYS cannot be used", key=key_id, problem=str(problem))  # noqa: TRY400
            found = self._by_address.get(wanted)
        if found is None:
            raise SignerRefusedError(f"no usable key of SIGNER_KMS_KEYS is wallet {address}'s")
        return found

    def _address(self, key_id: str) -> str:
        answer = self._call("get_public_key", KeyId=key_id)
        if (answer.get("KeySpec"), answer.get("KeyUsage")) != (SPEC, USAGE):
            raise SignerRefusedError(f"a key of SIGNER_KMS_KEYS is not {SPEC} for {USAGE}")
        try:
            return ecdsa.address_of(bytes(answer["PublicKey"])).lower()
        except (ValueError, KeyError, TypeError):
            raise SignerRefusedError("a public key that KMS answered is none of secp256k1") from None

    def _call(self, verb: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            HTTPClientError,
            NoCredentialsError,
            PartialCredentialsError,
        )

        try:
            answer: dict[str, Any] = getattr(self._client, verb)(**arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))[:60]
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if code in PASSING or status >= SERVER_ERROR:
                raise SignerAwayError(f"KMS does not {verb} now ({code})") from None
            raise SignerRefusedError(f"KMS refuses to {verb} ({code})") from None
        except (NoCredentialsError, PartialCredentialsError):
            raise SignerRefusedError("there are no AWS credentials for KMS") from None
        except (HTTPClientError, BotoCoreError, OSError) as error:
            raise SignerAwayError(f"KMS does not answer ({type(error).__name__})") from None
        return answer


def _client(timeout_s: float) -> Any:
    """Raises Refused where the package or AWS's own settings are missing."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise Refused(
            "SIGNER_BACKEND=kms needs the Python package boto3, which cannot be imported here"
        ) from None
    config = Config(
        connect_timeout=timeout_s / 2,
        read_timeout=timeout_s / 2,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
    )
    try:
        return boto3.client("kms", config=config)
    except (BotoCoreError, ValueError) as error:
        raise Refused(f"the settings of AWS do not suffice for KMS ({type(error).__name__})") from None
