"""What is not written down: passwords in addresses, signed links, keys that the environment has."""

from __future__ import annotations

import json
import os
import re
from typing import Any

HIDDEN = "***"
PASSWORD = re.compile(r"(://[^:/?#@\s]*:)[^/?#\s]+@")  # and what is before it
PARAMETER = re.compile(  # of an address, such as X-Amz-Signature or access_key
    r"([?&][\w.%-]*(?:token|secret|passw|signature|\bsig\b|credential|key)[\w.%-]*=)[^&#\s'\")]+",
    re.IGNORECASE,
)
# Words of which one stands in the name of a variable that holds a secret, as in HF_TOKEN.
WORDS = {"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS", "KEY", "APIKEY", "CREDENTIAL"}
WORDS |= {f"{word}S" for word in WORDS}
SHORTEST = 8  # characters of a variable's value that is taken for a secret


def without_password(uri: str) -> str:
    """`uri` with *** for its password, to be written down; what is no URI stays as it is."""
    return PASSWORD.sub(rf"\1{HIDDEN}@", uri)


def has_secret(text: str) -> bool:
    """Whether `text` is an address with a password, or with a key or a signature behind it."""
    return bool(PASSWORD.search(text) or ("://" in text and PARAMETER.search(text)))


def redacted(text: str) -> str:
    """`text` with *** for passwords and keys in addresses, and for secrets of the environment."""
    return _without(text, _values())


def without_secrets(data: Any) -> Any:
    """`data` with every text in it redacted; texts that are keys stay."""
    return _each(data, _values())


def _each(data: Any, values: list[str]) -> Any:
    if isinstance(data, str):
        return _without(data, values)
    if isinstance(data, dict):
        return {key: _each(value, values) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_each(value, values) for value in data]
    return data


def _without(text: str, values: list[str]) -> str:
    for value in values:
        text = text.replace(value, HIDDEN)
    return PARAMETER.sub(rf"\1{HIDDEN}", without_password(text)) if "://" in text else text


def may_hold_secrets(line: str) -> bool:
    """Whether JSON in one line is worth a closer look: most is not, and looking costs."""
    return "://" in line or any(json.dumps(value)[1:-1] in line for value in _values())


def _values() -> list[str]:
    """Secrets of the environment, longest first; not where a variable names a file that has one."""
    values = {
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST and WORDS & {*name.upper().split("_")} and not _is_file(value)
    }
    return sorted(values, key=len, reverse=True)


def _is_file(value: str) -> bool:
    return os.path.isabs(value) and os.path.exists(value)
