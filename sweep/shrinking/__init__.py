"""Which parts of a trained network to take out, what that costs, what a fine-tune gives back."""
