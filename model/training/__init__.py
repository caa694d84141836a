"""The loop that trains, its checkpoints and averages, and what comes of a trained network."""

__all__ = [
    "checkpoint",
    "device",
    "document_losses",
    "export",
    "generate",
    "log_probs",
    "mixture",
    "predictions",
    "release",
    "sealed_split",
    "timing",
    "train",
]
