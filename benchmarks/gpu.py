"""What one GPU makes of the trainer, in a table; under ten minutes on one H200.

    python benchmarks/gpu.py                                # everything
    python benchmarks/gpu.py --sections peak attention      # these
    python benchmarks/gpu.py --device cpu --quick           # proves that it runs, says nothing else

Each section is a process of its own with a limit in seconds: one that fails, hangs or runs out of
memory leaves the rows that it had, says why it ended, and does not stop the others. It needs torch,
numpy and pyarrow, no corpus: tokens are drawn at random, so that losses say nothing of text.

peak        the fastest bf16 product and a copy; shares below are of that product
tiny        the preset slowrun-tiny, 317M parameters, eager and compiled: a micro-batch forward and
            backward, a step of its optimizers, and what both come to in tokens/s at its batch;
            peak memory beside our estimate of it (model/config/memory.py)
large       the preset slowrun-one-hour, 1.44B parameters, the same
attention   forward and backward at both presets' shapes, whole, in windows, and with documents
            apart: the kernels that the trainer uses, and flex attention, which it does not
optimizers  one step of the 317M: AdamW in three forms, our Muon as it is and compiled, torch's
sharing     two trials on one GPU at once (trial.gpus: 0.5) beside one alone
readings    what `gpu_percent` and memory say (sweep/run/resource_meter.py), idle and busy
losses      the same steps in fp32 and in bf16, eager and compiled, and in fp32 from another seed
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

LIMITS = {  # seconds of a section
    "peak": 30,
    "tiny": 110,
    "large": 160,
    "attention": 80,
    "optimizers": 60,
    "sharing": 60,
    "readings": 30,
    "losses": 60,
}
COLUMNS = ("section", "variant", "milliseconds", "rate", "of peak", "beside")
Row = Mapping[str, str | float]


def main() -> None:
    asked = arguments()
    if asked.child:
        import gpu_sections

        for row in gpu_sections.SECTIONS[asked.child](asked.device, asked.quick, asked.peak):
            print(json.dumps({"section": asked.child, **row}), flush=True)
        return
    rows, begun = [], time.monotonic()
    peak = asked.peak
    with asked.out.open("w") if asked.out else nullcontext() as file:
        for name in asked.sections:
            command = [sys.executable, __file__, "--child", name, "--device", asked.device]
            command += ["--peak", str(peak)] + ["--quick"] * asked.quick
            for row in measured(name, command, LIMITS[name]):
                peak = max(peak, float(row.get("flops", 0.0)) if name == "peak" else 0.0)
                rows.append(row)
                if file is not None:
                    file.write(json.dumps(row) + "\n")
                print(line(row), file=sys.stderr, flush=True)
    print(table(rows))
    print(f"\n{time.monotonic() - begun:.0f} s; `of peak` is of the fastest bf16 product above.")
    sys.exit(any("failed" in row for row in rows))


def measured(name: str, command: list[str], limit: float) -> Iterator[Row]:
    """The rows of a section that `command` prints as JSON; the last says why, if it failed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, env=environment, check=False
        )
        output, code, errors = done.stdout, done.returncode, done.stderr
    except subprocess.TimeoutExpired as expired:  # its text is bytes, whatever was asked
        output, errors = ((part or b"").decode() for part in (expired.stdout, expired.stderr))
        code = None
    yield from (json.loads(text) for text in output.splitlines() if text.startswith("{"))
    seconds = time.monotonic() - begun
    if code is None:
        yield {"section": name, "variant": "-", "failed": f"stopped at its limit of {limit:g} s"}
    elif code:
        last = (errors.strip().splitlines() or ["no message"])[-1]
        yield {"section": name, "variant": "-", "failed": f"exit code {code}: {last[:200]}"}
    print(f"{name}: {seconds:.0f} of {limit:g} s", file=sys.stderr)


def table(rows: list[Row]) -> str:
    """As Markdown, for benchmarks/README.md."""
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"
    return "\n".join([head, *map(line, rows)])


def line(row: Row) -> str:
    if "failed" in row:
        return f"| {row['section']} | {row['variant']} | failed: {row['failed']} | | | |"
    numbers = {
        "milliseconds": f"{row['milliseconds']:,.2f}" if "milliseconds" in row else "",
        "rate": str(row.get("rate", "")),
        "of peak": f"{row['of peak']:.1%}" if row.get("of peak") else "",
        "beside": str(row.get("beside", "")),
    }
    return f"| {row['section']} | {row['variant']} | {' | '.join(numbers.values())} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sections", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing compiled")
    parser.add_argument("--out", type=Path, help="a file for the rows, as JSON lines")
    parser.add_argument("--peak", type=float, default=0.0, help="FLOP/s, where peak is not run")
    parser.add_argument("--child", choices=list(LIMITS), help=argparse.SUPPRESS)
    return parser.parse_args()


ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    main()
