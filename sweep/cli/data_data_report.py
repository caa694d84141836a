"""What is told about a token table, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TEXTS = ("data.path", "data.column", "data.digest")  # settings that may look like numbers


def describe_table(path: Path, about: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    """What the table at `path` recorded, and the settings that lead to it."""
    commit = f" at commit {about['commit']}" if about["commit"] else ""
    imported = f", tokens of {about['imported']}" if "imported" in about else ""
    coded = about["tokenizer"]
    unsure = imported and coded["name"] != "meta.pkl"
    by_whom = "; data.tokenizer says so, the files do not tell" if unsure else ""
    first, last = about["choose"]
    lines = [
        f"{path}  {path.stat().st_size / 1e6:,.1f} MB",
        f"source      {about['source']}{commit}{imported}",
        f"tokenizer   {coded['name']}, {coded['vocabulary']:,} tokens, {coded['digest'][:16]}"
        f"{by_whom}",
        f"splits      {about['rule']}",
    ]
    for name, tokens in about["tokens"].items():
        size, documents = about["text_bytes"][name], about["documents"][name]
        per_token = f"{size / tokens:.3f} bytes each" if tokens else ""
        lines.append(
            f"{name:<12}{tokens:>15,} tokens {documents:>10,} documents  {per_token:<18}"
            f"{about['digests'][name][:16]}"
        )
    lines.append(f"choose      val[{first:,}:{last:,}], to choose ensemble members on")
    for name, count in about.get("duplicates", {}).items():
        lines.append(f"duplicates  {name}: {count:,} documents")
    if "val_passages_in_train" in about:
        lines.append(f"overlap     {about['val_passages_in_train']:.2%} of val's passages in train")
    lines += ["in a space, or each with --set:", "fixed:"]
    return "\n".join([*lines, *(f"  {_line(*setting)}" for setting in settings.items())])


def _line(name: str, text: str) -> str:
    """A setting as a line of YAML: quoted where that would read something else."""
    line = f"{name}: {text}"
    try:
        read = yaml.safe_load(line)
    except yaml.YAMLError:
        read = None
    as_typed = read == {name: text} or (text.isdecimal() and name not in TEXTS)
    return line if as_typed else f"{name}: {json.dumps(text, ensure_ascii=False)}"


def describe_duplicates(found: Mapping[str, Any]) -> str:
    """What was recorded about duplicates, and what was looked for now."""
    lines = [
        f"exact duplicates, {name}: {count:,} documents"
        for name, count in found["recorded"].items()
    ]
    for split in ("val", "test"):
        share = found[f"{split}_passages_in_train"]
        lines.append(f"{split}: {share:.2%} of its passages of 64 tokens are also in train")
    for pair in found.get("near", ()):
        lines.append(
            f"{pair['split']} document {pair['document']} and train's {pair['other']}: "
            f"{pair['similarity']:.2f} alike"
        )
    if found.get("near") == []:
        lines.append("no held-out document is so like one of train")
    return "\n".join(lines)
