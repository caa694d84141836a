"""What one does with a trained network: text from it, and what a text costs it."""

__all__ = ["cost", "generate", "sampling", "text_loss"]
