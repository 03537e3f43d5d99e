"""Keep secrets out of logs, reports and everything else that is written down."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

MASK = "***"

# "token" counts only as the last word: token_list, token_type and tokenizer are no secrets, and
# neither are the special tokens of a vocabulary.
_SECRET_KEY = re.compile(
    r"(?:^|[_.\- ])token$|password|passwd|passphrase|secret|api_?key|access_?key|private_?key"
    r"|credential"
)
_SPECIAL_TOKEN = re.compile(r"(?:bos|eos|sos|pad|unk|blank|mask|sep|cls|space)_token$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]+(?=@)")
# Shorter values would blot out innocent text wherever they happen to occur in it.
_SHORTEST_VALUE = 6


def is_secret_key(key: str) -> bool:
    """Return whether a value under ``key`` is to be hidden: ``hf_token``, ``apiKey``, ..."""
    words = _CAMEL.sub("_", key).lower().replace("-", "_")
    return bool(_SECRET_KEY.search(words)) and not _SPECIAL_TOKEN.search(words)


def mask_secrets(container: Any) -> Any:
    """Return a copy of plain containers in which secrets read ``***``.

    Hidden are: every value whose key looks like a secret, whatever its type (``None`` and booleans
    stay); the same text where it turns up under another key, as resolved interpolations make it
    do; values of environment variables with such names; passwords inside URLs.

    Args:
        container: Plain dicts, lists and scalars (``OmegaConf.to_container`` makes them).

    Returns:
        The masked copy. Not guaranteed: a secret under a harmless key that nothing gives away.
    """
    secrets = {value for name, value in os.environ.items() if is_secret_key(name)}
    _collect(container, False, secrets)
    longest_first = sorted((s for s in secrets if len(s) >= _SHORTEST_VALUE), key=len, reverse=True)
    return _masked(container, longest_first)


def mask_argument(argument: str) -> str:
    """Return a command-line argument with the value of a secret ``key=value`` hidden."""
    key, equals, value = argument.partition("=")
    if equals and value and is_secret_key(key):
        return f"{key}={MASK}"
    return str(mask_secrets(argument))


def mask_url(url: str) -> str:
    """Return a URL as it may be shown: user, password and whatever its query holds are hidden."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    place = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{place}{parts.path}" if parts.scheme else parts.path
    return f"{shown}?{MASK}" if parts.query else shown


def _collect(node: Any, secret: bool, into: set[str]) -> None:
    if isinstance(node, dict):
        for key, child in node.items():
            _collect(child, secret or is_secret_key(str(key)), into)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _collect(child, secret, into)
    elif secret and isinstance(node, str):
        into.add(node)


def _masked(node: Any, secrets: list[str]) -> Any:
    if isinstance(node, dict):
        return {
            key: MASK if _hides(key, child) else _masked(child, secrets)
            for key, child in node.items()
        }
    if isinstance(node, (list, tuple)):
        return [_masked(child, secrets) for child in node]
    if isinstance(node, str):
        for secret in secrets:
            node = node.replace(secret, MASK)
        return _URL_PASSWORD.sub(rf"\1:{MASK}", node)
    return node


def _hides(key: Any, value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and is_secret_key(str(key))
