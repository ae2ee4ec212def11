"""The stable ids of what the `accelerate launch` reader says, with one line of manual text each.

PF1xx is the launch, PF2xx FSDP, PF3xx DeepSpeed. `preflight explain ID` prints the line.
"""

from __future__ import annotations

NOTICE_IDS: dict[str, str] = {
    "PF101": "A key inside a section of the accelerate config that accelerate does not know: it is ignored without a word, and the default is used.",
    "PF102": "A top-level key of the accelerate config that is read and then never applied; only its command line flag works.",
    "PF103": "A key that is written twice in one file: YAML and JSON keep the last one without a word.",
    "PF104": "The accelerate config is the default one of this account (`accelerate config` wrote it), not one that the command names.",
    "PF105": "The number of ranks does not divide by the number of nodes: every node starts the rounded-down number.",
    "PF106": "One process is started although more were asked for: `distributed_type: NO` and `--cpu` start the script directly.",
    "PF107": "A mode flag on the command line drops the mode (FSDP, DeepSpeed) of the config file; its section is then unused.",
    "PF108": "A sharded or multi-GPU mode with a single rank: nothing is shared with anybody.",
    "PF109": "Several nodes without an address of the first one: workers wait for each other and never meet.",
    "PF110": "A YAML 1.1 word such as `no` or `off` without quotes: the launcher sees false, not text.",
    "PF111": "A value that the launcher refuses before it starts anything.",
    "PF112": "A value that makes every worker stop before training.",
    "PF113": "A section that is not a mapping: accelerate passes over it, or stops on it.",
    "PF114": "A section for a mode that this launch does not use.",
    "PF115": "The launcher takes the number of processes from the GPUs of the machine it runs on.",
    "PF116": "The environment of this shell decides something that the files do not say.",
    "PF117": "The parallelism sizes do not multiply to the number of ranks, or cannot be combined.",
    "PF120": "An argument of the script's own that sounds like quantization or an adapter and is not read as one; the estimate takes none.",
    "PF201": "A setting of the other FSDP version: it is read and has no effect.",
    "PF202": "No wrap policy: the whole model is one FSDP unit and is gathered at once.",
    "PF203": "Both FSDP's own activation checkpointing and the trainer's are on; transformers refuses to start.",
    "PF205": "The trainer's `--fsdp` flags replace the launcher's FSDP settings; values that they do not name come from the trainer's own defaults.",
    "PF301": "DeepSpeed without a section or file: accelerate's default is ZeRO stage 2 without offload.",
    "PF302": "Keys that must not stand beside `deepspeed_config_file`: every worker stops when it reads them.",
    "PF303": "The DeepSpeed config says something else than the trainer's arguments; transformers stops in every worker.",
    "PF304": "`zero3_init_flag: false` does not turn zero.Init off under transformers.",
    "PF305": "An NVMe path in the accelerate config is never handed to DeepSpeed.",
    "PF306": "bf16 is `auto` in the DeepSpeed file and no --bf16 is given: training runs in fp32.",
    "PF307": "Parameter offload is only used by ZeRO stage 3.",
    "PF308": "An `auto` that nothing fills: DeepSpeed drops it and uses its own default.",
    "PF309": "DeepSpeed does not know this key.",
}
"""Id -> what it means."""
