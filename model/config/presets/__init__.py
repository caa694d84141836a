"""Recipes under a name: settings that a published run used, as far as its source gives them.

A preset is no setting: its settings are written out first, then given ones replace them. What a
source leaves open stays at its default; where our settings only come near it, `notes` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model.config import MULTIPLIER, VOCABULARIES, ConfigError, Value, did_you_mean
from model.config.presets import kim, nanogpt, slowrun

TIMESCALE = "optim.decay_timescale"
SAME = {MULTIPLIER: TIMESCALE, TIMESCALE: MULTIPLIER}  # weight decay, said in two ways


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One recipe and where it is from."""

    reproduces: str
    source: str
    settings: Mapping[str, Value]
    vocabulary: int = VOCABULARIES["gpt2"]  # of the published run
    published: str = ""  # its parameters, as the source writes them
    notes: str = ""


def preset(name: str) -> Preset:
    """The preset called `name`; raises ConfigError if there is none."""
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS) or "; `sweep presets` lists them"
        raise ConfigError([f"{name}: no such preset{hint}"])
    return PRESETS[name]


def overridden(settings: Mapping[str, object], chosen: Mapping[str, object]) -> dict[str, object]:
    """`chosen` settings before others; decay given in one way replaces it in the other."""
    kept = {name: value for name, value in settings.items() if SAME.get(name) not in chosen}
    return {**kept, **chosen}


# Ours, for minutes on a CPU: what helped Slowrun's records, as far as it does at this size.
CPU: Mapping[str, Value] = {
    "data.tokenizer": "bytes",
    "gpt.head_width": 32,
    "gpt.embedding_norm": True,
    "gpt.norm": "rms",
    "gpt.bias": False,
    "gpt.positions": "rotary",
    "gpt.qk_norm": True,
    "gpt.head_gates": True,
    "gpt.value_residual": "projection",
    "gpt.mlp": "swiglu",
    "gpt.mlp_expansion": 8 / 3,
    "gpt.mlp_multiple": 32,
    "gpt.x0": True,
    "gpt.unet": True,
    "gpt.tied_head": False,
    "gpt.softcap": 15.0,
    "gpt.dropout": 0.0,
    "optim.name": "muon",
    "optim.lr": 0.02,
    "optim.rest_lr": 0.008,
    "optim.cautious_decay": "all",
    "optim.schedule": "constant_linear",
    "optim.warmup": 0.0,
    "train.shuffle": "documents",
}
CPU_TINY: Mapping[str, Value] = {
    **CPU,
    "data.train_tokens": 262_144,
    "gpt.layers": 4,
    "gpt.width": 128,
    "gpt.context": 64,
    "train.batch_tokens": 1024,
    "train.epochs": 4,
}
CPU_SMALL: Mapping[str, Value] = {
    **CPU,
    "data.train_tokens": 1_048_576,
    "gpt.layers": 6,
    "gpt.width": 256,
    "gpt.context": 128,
    "train.batch_tokens": 4096,
    "train.epochs": 8,
}

# Ours, on a GPU: a record's parts but for two. Its notes say what those were measured to be worth.
SWEEP_TINY: Mapping[str, Value] = {
    **slowrun.TINY,
    "gpt.key_offset": "unturned",
    "optim.cautious_decay": "all",
}

SLOWRUN = (
    "The embedding is kept in fp32, not bf16. Rows overlap by one token, and every validation "
    "target counts, where the record leaves out up to 16 of 4,880 rows."
)
DOCUMENTS = "Documents are shuffled in the first epoch too."
SKIPS = (
    "Stochastic depth draws once a step, where the record draws in each pass and micro-batch, and "
    "never skips the block of later tokens, as the record does with chance 0.052."
)
NANOGPT = "Validation reads all of its split, where nanoGPT draws 200 batches."
STEPS = "Whole epochs: 606,606 steps, not 600,000."
RATE = "The rate is GPT-3's at this size (2005.14165); nanoGPT gives none."
CHARACTERS = (
    "A text file has two tokens more than characters, one for those that train lacks and one that "
    "begins a document: 67 for Shakespeare. Parameters are counted for nanoGPT's 65, which its own "
    "folder gives, and without positions."
)
LLAMA = (
    "Trained on GPT-2's tokens, not on the 128,256 of Llama 3 that the parameters are counted for; "
    "RMSNorm without gains. First weights are ours. The rate of the first step is not zero."
)
KIM = "Kim et al. 2509.14786, marin"

PRESETS: dict[str, Preset] = {
    "slowrun-tiny": Preset(
        reproduces="Slowrun in 15 minutes on 8 GPUs: val loss 3.295",
        source="slowrun, tiny, #99",
        settings=slowrun.TINY,
        published="317M",
        notes="With train.meta_step 0 it is the record before (#94: 3.307). "
        f"{SLOWRUN} {DOCUMENTS} The head is in fp32 too; products are bf16 where the "
        "record has fp8, and the softmax leaves out the 47 columns that pad the head. Later tokens "
        "are not predicted across the ends of rows (0.0012 of an objective of 8.5 nats at first).",
    ),
    "slowrun-day-one": Preset(
        reproduces="Slowrun's first baseline: val loss 3.402",
        source="slowrun at 0d49316",
        settings=slowrun.DAY_ONE,
        published="2.69B",
        notes=f"{SLOWRUN} Whole epochs: 2,280 steps, not 2,288.",
    ),
    "slowrun-one-hour": Preset(
        reproduces="Slowrun in an hour on 8 GPUs: val loss 3.183",
        source="slowrun, limited, #98",
        settings=slowrun.ONE_HOUR,
        published="1.444B",
        notes="With train.meta_step 0, gpt.dropout 0.1 and gpt.stochastic_depth 0.05 it is the "
        f"record before (#82: 3.195). {SLOWRUN} {DOCUMENTS} Whole epochs: 2,090 steps, not 2,097.",
    ),
    "slowrun-two-hour": Preset(
        reproduces="Slowrun in two hours on 8 GPUs: val loss 3.139",
        source="slowrun, two_hour, #96",
        settings={
            **slowrun.hours(22, cycles=8, replay_epoch=14, average=11),
            "train.average_recency": True,
        },
        published="1.444B",
        notes="Windows do not grow over the run, nor YaRN with them (#86: 0.006); the last short "
        "window is 1,024, not 1,280, and the last scale of softmax 1, not 1.2. "
        f"{SLOWRUN} {DOCUMENTS} {SKIPS} Whole epochs: 4,180 steps, not 4,194.",
    ),
    "slowrun-unlimited": Preset(
        reproduces="one member of Slowrun's ensemble, whose val loss is 2.987",
        source="slowrun, unlimited, #90",
        settings=slowrun.UNLIMITED,
        published="1.87B",
        notes="One cycle of 32 epochs (#47), where the record has 96 cycles of 2 epochs, each "
        "taught by the one before with noise on its weights, and mixes hundreds of snapshots "
        "(settings here: optim.cycles, optim.cycle_noise, train.chain_after, "
        "train.average_cycles). "
        "Batches do not vary. Nothing is set aside of train to choose members on. "
        f"{SLOWRUN} {DOCUMENTS}",
    ),
    "sweep-tiny": Preset(
        reproduces="nothing: slowrun-tiny with two parts of ours",
        source="ours, from slowrun, tiny, #99",
        settings=SWEEP_TINY,
        notes="Decay is cautious for embedding and head too, and L layers take the features of "
        "keys that never turn one token later. In a small run (4 layers of width 96, bytes) the "
        "first gained 0.027 +- 0.009 nats on the record's way, the second 0.020 +- 0.009; at "
        "this size neither was measured.",
    ),
    "gpt2-124m": Preset(
        reproduces="GPT-2 small",
        source="nanoGPT, config/train_gpt2.py",
        settings=nanogpt.gpt2(12, 768, 6e-4),
        published="124M",
        notes=f"{NANOGPT} {STEPS}",
    ),
    "gpt2-350m": Preset(
        reproduces="GPT-2 medium",
        source="nanoGPT, model.py",
        settings=nanogpt.gpt2(24, 1024, 3e-4),
        published="350M",
        notes=f"{RATE} {NANOGPT} {STEPS}",
    ),
    "gpt2-774m": Preset(
        reproduces="GPT-2 large",
        source="nanoGPT, model.py",
        settings=nanogpt.gpt2(36, 1280, 2.5e-4),
        published="774M",
        notes=f"{RATE} {NANOGPT} {STEPS}",
    ),
    "gpt2-1.5b": Preset(
        reproduces="GPT-2 XL",
        source="nanoGPT, model.py",
        settings=nanogpt.gpt2(48, 1600, 2e-4),
        published="1558M",
        notes=f"{RATE} {NANOGPT} {STEPS}",
    ),
    "gpt2-finetune": Preset(
        reproduces="GPT-2 XL fine-tuned on Shakespeare's plays",
        source="nanoGPT, config/finetune_shakespeare.py",
        settings=nanogpt.FINETUNE,
        published="1558M",
        notes="Begins with the weights of gpt2-xl (gpt.init), by the tanh formula of the GELU that "
        f"they were trained with, where nanoGPT has the exact one. {NANOGPT} Whole epochs: 18 "
        "steps, not 20. For a smaller one: gpt.init, gpt.layers, gpt.width.",
    ),
    **{
        name: Preset(
            reproduces="regularised optimum at 200M tokens",
            source=KIM,
            settings=settings,
            vocabulary=128_256,
            published=name.removeprefix("kim-").upper(),
            notes=LLAMA,
        )
        for name, settings in (
            ("kim-150m", kim.KIM_150M),
            ("kim-300m", kim.KIM_300M),
            ("kim-600m", kim.KIM_600M),
            ("kim-1.4b", kim.KIM_1_4B),
        )
    },
    "nanogpt-char": Preset(
        reproduces="nanoGPT on Shakespeare's characters: val loss 1.4697",
        source="nanoGPT, config/train_shakespeare_char.py",
        settings=nanogpt.CHARACTERS_GPU,
        vocabulary=65,
        published="10.65M",
        notes=f"{CHARACTERS} {NANOGPT} Its 1.4697 is the best of such evaluations, ours the last. "
        "Whole epochs: 5,002 steps, not 5,000.",
    ),
    "nanogpt-char-cpu": Preset(
        reproduces="the same on a CPU: val loss 1.88",
        source="nanoGPT, README",
        settings=nanogpt.CHARACTERS_CPU,
        vocabulary=65,
        published="0.80M",
        notes=f"{CHARACTERS} {NANOGPT} Whole epochs: 2,614 steps, not 2,000.",
    ),
    "picogpt": Preset(
        reproduces="PicoGPT on Shakespeare",
        source="PicoGPT, train.py",
        settings=nanogpt.PICO,
        vocabulary=VOCABULARIES["picogpt"],
        published="6.34M",
        notes="Learns from every window, where PicoGPT's loss is of the last of ten alone; its "
        "first window is the one that may be short, ours the last. Its rate would reach the end "
        "of the cosine after 600,000 iterations, ours does at the end of the run; its default flag "
        "holds it at 1e-5 instead, an earlier version at 3e-5. Whole epochs: 150,038 steps, not "
        "150,000. Validation reads all of its split, where PicoGPT draws 500 batches. That count "
        "leaves out positions.",
    ),
    "cpu-tiny": Preset(
        reproduces="nothing: today's parts in a minute on two cores",
        source="ours",
        settings=CPU_TINY,
        vocabulary=VOCABULARIES["bytes"],
    ),
    "cpu-small": Preset(
        reproduces="nothing: today's parts in some minutes on two cores",
        source="ours",
        settings=CPU_SMALL,
        vocabulary=VOCABULARIES["bytes"],
    ),
}
