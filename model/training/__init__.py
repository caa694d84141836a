"""The loop that trains, its checkpoints and averages, and what comes of a trained network."""

__all__ = [
    "checkpoint",
    "checksums",
    "device",
    "document_losses",
    "evaluate",
    "export",
    "log_probs",
    "machine",
    "mixture",
    "predictions",
    "release",
    "run",
    "saved",
    "sealed_split",
    "timing",
    "train",
    "trained",
    "weights",
]
