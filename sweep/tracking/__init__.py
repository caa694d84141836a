"""The journal as MLflow runs, published by a process of its own."""

__all__ = ["ensemble", "external", "process"]
