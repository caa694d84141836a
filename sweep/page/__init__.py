"""A page on which trained networks continue a prompt, served here or written as a Space."""

__all__ = ["export", "offered", "serve"]
