"""Settings under the names that other trainers and tuners give them: suggested, never mapped.

A batch of 64 sequences is not one of 64 tokens, and a decay of 0.1 is not a multiplier of 0.1: what
a foreign number means here its owner must say.
"""

from __future__ import annotations

from collections.abc import Iterable

from model.config.setting import did_you_mean

FOREIGN = {
    "learning_rate": "optim.lr",
    "max_lr": "optim.lr",
    "base_lr": "optim.lr",
    "matrix_lr": "optim.lr",
    "embed_lr": "optim.embedding_lr",
    "unembedding_lr": "optim.head_lr",
    "min_lr": "optim.final_rate (a fraction of the peak)",
    "weight_decay": "optim.weight_decay_multiplier (times 0.1)",
    "wd": "optim.weight_decay_multiplier (times 0.1)",
    "optimizer": "optim.name",
    "adam_beta1": "optim.beta1",
    "adam_beta2": "optim.beta2",
    "grad_norm": "optim.grad_clip",
    "max_grad_norm": "optim.grad_clip",
    "gradient_clip_val": "optim.grad_clip",
    "scheduler": "optim.schedule",
    "lr_scheduler": "optim.schedule",
    "lr_scheduler_type": "optim.schedule",
    "warmup_steps": "optim.warmup (a fraction of the run)",
    "warmup_iters": "optim.warmup (a fraction of the run)",
    "warmup_ratio": "optim.warmup",
    "warmup_tokens": "optim.warmup (a fraction of the run)",
    "cooldown": "optim.warmdown",
    "epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "n_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "max_epochs": "train.epochs",
    "max_iters": "train.epochs (whole passes)",
    "max_steps": "train.epochs (whole passes)",
    "batch_size": "train.batch_tokens (tokens, not sequences)",
    "per_device_train_batch_size": "train.batch_tokens (tokens, not sequences)",
    "total_batch_size": "train.batch_tokens",
    "device_batch_size": "train.micro_batch_tokens (tokens, not sequences)",
    "micro_batch_size": "train.micro_batch_tokens (tokens, not sequences)",
    "gradient_accumulation_steps": "train.micro_batch_tokens (tokens at once)",
    "accumulate_grad_batches": "train.micro_batch_tokens (tokens at once)",
    "ema": "train.ema_epochs (a horizon in epochs)",
    "ema_decay": "train.ema_epochs (a horizon in epochs)",
    "random_seed": "train.seed",
    "dtype": "train.precision",
    "n_layer": "gpt.layers",
    "n_layers": "gpt.layers",
    "num_layers": "gpt.layers",
    "num_hidden_layers": "gpt.layers",
    "depth": "gpt.layers",
    "n_embd": "gpt.width",
    "d_model": "gpt.width",
    "hidden_size": "gpt.width",
    "n_head": "gpt.head_width (their width, not their count)",
    "n_heads": "gpt.head_width (their width, not their count)",
    "num_heads": "gpt.head_width (their width, not their count)",
    "head_dim": "gpt.head_width",
    "block_size": "gpt.context",
    "seq_len": "gpt.context",
    "sequence_length": "gpt.context",
    "max_seq_len": "gpt.context",
    "context_length": "gpt.context",
    "drop_path": "gpt.stochastic_depth",
    "activation": "gpt.mlp",
    "dataset": "data.path",
    "train_data": "data.path",
    "vocab_size": "data.vocabulary",
}


def suggestion(name: str, settings: Iterable[str]) -> str:
    """What to put after "no such setting": the setting that `name` probably means, or nothing."""
    settings = list(settings)
    last = name.rpartition(".")[2].lower().replace("-", "_")
    if last in FOREIGN and FOREIGN[last].partition(" ")[0] in settings:
        return f"; did you mean {FOREIGN[last]}?"
    same = [setting for setting in settings if setting.rpartition(".")[2] == last]
    if len(same) == 1:
        return f"; did you mean {same[0]}?"
    group = [setting for setting in settings if setting.startswith(f"{name}.")]
    if group:
        return f"; it is a group: write {group[0]} and so on"
    return did_you_mean(name, settings)
