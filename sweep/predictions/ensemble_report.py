"""An ensemble as text, and as data for --json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sweep.folder import ENSEMBLE
from sweep.format import table, time_text
from sweep.predictions.comparison_report import plain
from sweep.predictions.ensemble import Ensemble, Mix
from sweep.predictions.logits import LogitMix
from sweep.predictions.member_curve import MemberCurve

SHOWN = 12  # members of a curve, by twos from then on


def ensemble_text(its: Ensemble, logits: LogitMix | None = None) -> str:
    """What each way of mixing comes to, what more members would bring, what it is worth."""
    rows = [["", "members", "choosing", "val loss", f"less {its.best}", "± s.e.", "95 %"]]
    on_choosing, on_rest = its.best_losses
    rows.append([its.best, "1", f"{on_choosing:.4f}", f"{on_rest:.4f}", "-", "-", "-"])
    rows += [_row(mix) for mix in its.mixes]
    scored = [member.name for member in its.members if member.how != "kept"]
    parts = [
        f"{len(its.members)} candidates of {its.folder}: chosen on {its.choosing_tokens:,} tokens "
        f"of val, reported on the other {its.tokens:,}",
        table(rows)
        + f"\nErrors are those of paired differences over {its.chosen.against_best.stretches}, "
        "nats per token.",
        f"{its.chosen.how}: "
        + ", ".join(f"{weight:.0%} {name}" for name, weight in its.chosen.weights.items()),
        _without_network(its),
        _logits(its, logits),
        *(_curve(whose, curve) for whose, curve in its.curves),
    ]
    if scored:
        parts.append(f"Scored again from their checkpoints: {', '.join(scored)}")
    if its.missing:
        parts.append("\n".join(["Not among them:", *its.missing]))
    parts.append(_worth(its))
    return "\n\n".join(filter(None, parts))


def _row(mix: Mix) -> list[str]:
    its = mix.against_best
    return [
        mix.how,
        str(len(mix.weights)),
        f"{mix.choosing_loss:.4f}",
        f"{mix.loss:.4f}",
        f"{its.mean:+.4f}",
        f"{its.interval.error:.4f}",
        f"{its.interval.low:+.4f} to {its.interval.high:+.4f}",
    ]


def _logits(its: Ensemble, logits: LogitMix | None) -> str:
    if logits is None:
        return ""
    against, by = logits.against_best, logits.against_probabilities
    return (
        f"With logits averaged instead of probabilities: val loss {logits.loss:.4f}, "
        f"{against.mean:+.4f} ± {against.interval.error:.4f} from {its.best}, {by.mean:+.4f} ± "
        f"{by.interval.error:.4f} from the probabilities of the same.\n"
        f"It took {time_text(logits.seconds)}: {logits.networks} networks over {logits.tokens:,} "
        "tokens."
    )


def _without_network(its: Ensemble) -> str:
    """What `sweep sample` and `sweep page` of the ensemble will lack."""
    on_disk = [member.name for member, _ in its.trained()]
    gone = [name for name in its.chosen.weights if name not in on_disk]
    if not gone:
        return ""
    rest = f"go on with {', '.join(on_disk)} alone" if on_disk else "have none to go on with"
    return (
        f"{', '.join(gone)}: of these only predictions were kept, no network. Text, pages and "
        f"what else opens {ENSEMBLE} {rest}."
    )


def _curve(whose: str, curve: MemberCurve) -> str:
    n = len(curve.losses)
    shown = [k for k in range(1, n + 1) if k <= SHOWN or k == n]
    rows = [[f"any K of {whose}", *map(str, shown)]]
    rows.append(["val loss", *(f"{curve.losses[k - 1]:.4f}" for k in shown)])
    rows.append(["fitted", *(f"{curve.at(k):.4f}" for k in shown)])
    gain, left = curve.losses[0] - curve.limit, curve.losses[-1] - curve.limit
    return (
        f"{table(rows)}\n"
        f"{curve.limit:.4f} + {curve.fall:.4f} / K: endlessly many would gain {gain:.4f} "
        f"({curve.gain[0]:.4f} to {curve.gain[1]:.4f}) over one and {left:.4f} "
        f"({curve.left[0]:.4f} to {curve.left[1]:.4f}) over {n}"
    )


def _worth(its: Ensemble) -> str:
    if its.worth is None:
        return ""
    single, together = its.worth
    rows = [["", "val loss", "data, by lines", "by law"]]
    for name, worth in ((its.best, single), ("ensemble", together)):
        rows.append([name, f"{worth.val_loss:.4f}", str(worth.lines), str(worth.law or "-")])
    return (
        "How many times its unique tokens the plain baseline needs for the same loss (the "
        f"ensemble's is the best single's\non all of val, less what it gains):\n{table(rows)}"
    )


def ensemble_data(its: Ensemble, logits: LogitMix | None = None) -> dict[str, Any]:
    """Everything as plain data. Losses in nats per token; null stands for what is not finite."""
    single, together = its.worth or (None, None)
    data = {
        "folder": str(its.folder),
        "best": {
            "trial": its.best,
            "choosing_loss": its.best_losses[0],
            "loss": its.best_losses[1],
        },
        "choosing_tokens": its.choosing_tokens,
        "tokens": its.tokens,
        "candidates": [
            {"member": m.name, "val_loss": m.trial.val_loss, "predictions": m.how}
            if m.epoch is None
            else {"member": m.name, "epoch": m.epoch, "predictions": m.how}
            for m in its.members
        ],
        "missing": its.missing,
        "mixes": [asdict(mix) for mix in its.mixes],
        "chosen": its.chosen.how,
        "logits": asdict(logits) if logits else None,
        "curves": [{"of": whose, **asdict(curve)} for whose, curve in its.curves],
        "worth": {
            "best": asdict(single) if single else None,
            "ensemble": asdict(together) if together else None,
        },
    }
    return dict(plain(data))
