"""The shared GPT trainer. Usable alone; knows nothing of sweeps, Ray, Optuna or MLflow."""
