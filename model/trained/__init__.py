"""What one does with a trained network: text from it, what a text costs it, taking parts out."""

__all__ = [
    "cost",
    "generate",
    "importance",
    "kept",
    "retrain",
    "sampling",
    "shrink",
    "speed",
    "text_loss",
]
