"""What runs predicted, token by token: two of them compared, several mixed. Without torch."""

__all__ = ["comparison", "comparison_report", "ensemble", "ensemble_report", "logits", "students"]
