"""Numbers as people write them: 1e-4, 1_000, 100M, 1.5B, 2h, 1h30min, 5%, 20GB."""

from __future__ import annotations

import re
from decimal import Decimal

COUNTS = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
BYTES = {
    **{f"{prefix}B": 1000**power for power, prefix in enumerate(["", "k", "M", "G", "T"])},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate(["K", "M", "G", "T"], 1)},
}
TIMES = {
    "seconds": 1,
    "minutes": 60,
    "hours": 3600,
    "days": 86_400,
}  # units of settings, in seconds
DIGITS = r"[+-]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d{1,4})?"
ONE = re.compile(rf"({DIGITS})\s*([A-Za-z%]*)", re.ASCII)
SPAN = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:d|h|min|s)\s*)+", re.ASCII)
PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|s)", re.ASCII)


def read_number(text: str, unit: str = "", *, share: bool = False) -> float:
    """The number that `text` means where `unit` is expected.

    unit    a setting's: times (seconds, hours, GPU-hours) take s, min, h, d; bytes take MB, GiB and
            the like; anything takes k, M, B (10^9) and T, decimally
    share   whether a percentage makes sense

    Raises ValueError saying why not; its text is empty where `text` is no number at all.
    """
    text = text.strip()
    time = TIMES.get(re.split(r"[\s-]", unit)[-1])
    if time and SPAN.fullmatch(text):
        parts = PART.findall(text)
        return float(sum(Decimal(n) * SECONDS[suffix] for n, suffix in parts) / time)
    match = ONE.fullmatch(text)
    if not match:
        comma = re.fullmatch(r"\d{1,3}(,\d{3})+", text)
        raise ValueError(f"write {text.replace(',', '_')}" if comma else "")
    number, suffix = Decimal(match[1].replace("_", "")), match[2]
    if not suffix:
        return float(number)
    if suffix == "%" and share:
        return float(number / 100)
    if unit == "bytes" and suffix in BYTES:
        return float(number * BYTES[suffix])
    if suffix in COUNTS:
        return float(number * COUNTS[suffix])
    raise ValueError(_why_not(suffix, unit, bool(time)))


def _why_not(suffix: str, unit: str, is_time: bool) -> str:
    if suffix == "%":
        return "a percentage is of something; this is not a share"
    if is_time and suffix == "m":
        return "m may be minutes or months; write min"
    if is_time:
        return f"{suffix} is no unit of time; s, min, h and d are"
    if suffix in SECONDS:
        return f"{suffix} is a time, but this is in {unit}" if unit else f"{suffix} is a time"
    if suffix == "m":
        return "m may be minutes, thousandths or millions; write M for millions"
    understood = "kB, MB, GB, TB, KiB, MiB, GiB" if unit == "bytes" else "k, M, B and T"
    return f"{suffix} is not understood; {understood} are"
