"""Names by which a script speaks of what decides a plan, of what no formula counts, and of the rows that it makes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from preflight import unpriced_names as unpriced
from preflight.lazy_pattern import lazy_pattern
from preflight.own_tables import table_beside
from preflight.scripts.uncounted.uncounted import UNCOUNTED
from preflight.versions.peft import PREPARING

SIGNS = {
    "engine": r"fully_shard|FullyShardedDataParallel|\bFSDP\w*|fsdp_plugin|deepspeed|init_device_mesh|parallelize|\blightning\b|pytorch_lightning|\bparallel_strategy\b",
    "world_size": r"\bmp\.spawn|multiprocessing\.spawn|\bmp\.Process\(|notebook_launcher|debug_launcher|\bScalingConfig\(",
    "adapter": r"\bpeft\b|get_peft_model|[Ll]o[Rr][Aa]\w*|FastLanguageModel|adapter_name",
    "base_quantization": r"BitsAndBytes|load_in_[48]bit|\bbnb\b|k?bit_training|FastLanguageModel|\bhqq\b|quantize",
    "activation_checkpointing": r"checkpoint_wrapper|(?:gradient|activation)_checkpoint|torch\.utils\.checkpoint|"
    r"grad_checkpoint|use_reentrant",
    "load_dtype": r"torch_dtype|\bdtype\s*=|\.half\(\)|\.bfloat16\(\)|\.to\(torch\.(?:bfloat16|float16|half)",
    "mixed_precision": r"autocast|GradScaler|MixedPrecision|mixed_precision|deepspeed\.initialize|\bamp\.|\b[bf][fp]16\b",
    "attention": r"attn_implementation|flash_attn|flash_attention|xformers",
    "loss": r"[Ll]iger|cut_cross_entropy|fused_linear|linear_cross_entropy",
    "optimizer": r"8bit|Adafactor|Muon\b|\bLion|[Gg]a[Ll]ore|optim\.(?!AdamW?\b|lr_scheduler)\w+\(",
}
"""Plan field -> names that a script uses which decides it."""


UNPRICED = {
    unpriced.PAIRS: (
        r"\b(?:DPO|ORPO|CPO|SimPO|KTO|BCO)Trainer\b|\bref(?:erence)?_(?:model|logps|log_?probs)\b"
        r"|(?<![^\W_])(?:chosen|rejected)_(?:logits|log_?p(?:rob)?s)\b|CollatorWith\w*DPO\b",
        "more",
    ),
    unpriced.SCORES: (
        r"\b(?:PPO|PPOv2|GRPO|RLOO|OnlineDPO|NashMD|XPO)Trainer\b|\breward_(?:model|engine)\b|\bcritic_(?:model|engine)\b",
        "more",
    ),
    "an inference engine's share of the card": (
        r"\bfrom\s+(?:vllm|sglang)\b(?!\s+import\s+SamplingParams[ \t]*(?:\n|\Z))|\bimport\s+(?:vllm|sglang)\.|\bimport\s+sglang\b"
        r"|\bvllm\.(?!SamplingParams\b|__version__)\w|\bimport\s+vllm\s+as\b|\bfast_inference\s*=(?!\s*(?:False\b|fast_inference\b(?=(?s:.)*\bfast_inference\s*=\s*False\b)))",
        "more",
    ),
    unpriced.TEACHER: (r"\b(?:GKD|Distillation)Trainer\b|\bteacher_model\b", "more"),
    unpriced.OTHER_HEAD: (
        r"(?<!Collator)For(?:Sequence|Token)Classification\b|\b(?:Reward|PRM)Trainer\b|(?:SentenceTransformer|CrossEncoder|SparseEncoder|MultiVectorEncoder)\("
        r"|(?:Reward|Critic)Model\(|\bcreate_critic_model\b|(?<!['\"])\bv_head\b|\bvalue_head\b(?!\.(?:bin|safetensors))|WithValueHead\b",
        "either",
    ),
    unpriced.BESIDE_TEXT: (
        r"For(?:Vision2Seq|ImageTextToText)\b|process_vision_info|pixel_values|input_features|vision_tower"
        r"|\b(?:vision|visual|image|video|audio|speech)_(?:encoder|backbone)\b|\bQformer\b",
        "either",
    ),
    unpriced.OWN_LOSS: (
        r"def compute_loss\((?!(?s:(?!\n[ \t]*(?:def|class) ).)*?"
        r"(?:super\(.*?\)\.compute_loss|\.(?:logits|loss)\b|\[[\"'](?:loss|logits)[\"']\]))"
        r"|\bcompute_loss_func\s*=(?!\s*None\b)",
        "either",
    ),
    "attention by torch's own kernel for any device": (  # it keeps the scores, as eager attention does
        r"sdpa_kernel\(\s*(?:backends\s*=\s*)?\[?\s*(?:\w+\.)*SDPBackend\.MATH\s*\]?\s*\)"
        r"|enable_flash_sdp\(\s*(?:enabled\s*=\s*)?False(?=(?s:.)*enable_mem_efficient_sdp\(\s*(?:enabled\s*=\s*)?False)"
        r"|enable_mem_efficient_sdp\(\s*(?:enabled\s*=\s*)?False(?=(?s:.)*enable_flash_sdp\(\s*(?:enabled\s*=\s*)?False)"
        r"|sdp_kernel\((?=[^)]*enable_flash\s*=\s*False)(?=[^)]*enable_mem_efficient\s*=\s*False)",
        "more",
    ),
    unpriced.OLMO_LOOP: (
        r"\bfrom\s+olmo_core(?:\s+import\s+train\b|\.train\b)",
        "either",
    ),
    unpriced.UNSLOTH: (r"(?m)^[ \t]*(?:from|import)[ \t]+unsloth\b", "less"),
    "an embedding on the host": (r"\boffload_embedding\s*=(?!\s*False\b)", "less"),
    unpriced.DIVIDED: (
        r"(?i)ring_(?:flash_)?attn|zigzag|ulysses|seq(?:uence)?_parallel|(?<!maybe_)context_parallel",
        "less",
    ),
    unpriced.FROZEN: (
        r"requires_grad_\((?!True\b|\))|requires_grad\s*=(?!\s*True\b|=)",
        "less",
    ),
    **UNCOUNTED,
}
"""What a script trains or holds that no formula counts -> names that it uses for it, and what it then takes beside
the estimate: `more`, `less` or `either`."""

WORDS_BESIDE_TEXT = r"(?i)\bimages?\b|pixel|(?<![a-z])vision|AutoProcessor|audio|multi_?modal"
"""Words of a script that may train on more than text."""

PATTERNS = {
    **SIGNS,
    **{name: found for name, (found, _) in UNPRICED.items()},
    "": WORDS_BESIDE_TEXT,
}
"""Of every sign; of words beside text that of no name."""


def signs_in(text: str) -> Iterator[str]:
    """Yield the names of the signs that a text has."""
    needed = table_beside(__file__, "needed_texts.json")["signs"]
    folded = text.casefold()
    for name, pattern in PATTERNS.items():
        texts = needed.get(name)
        if (texts is None or any(each in folded for each in texts)) and re.search(pattern, text):
            yield name


LOOKS_AT_ROWS = lazy_pattern(
    r"\A(?![\s\S]*okenizer)[\s\S]*\b(?:SFT|DPO|GRPO|RLOO|KTO|CPO|ORPO|Reward)Trainer\("
)
"""A script that leaves its tokenizer to a trainer of TRL's, which takes the model's processor and shows it the images of
rows that have some, without a word of the script (AutoProcessor in trl/trainer/grpo_trainer.py from 0.21, sft_trainer.py from 0.22, dpo_trainer.py from 0.24)."""

CUTS = lazy_pattern(
    r"truncat|(?<![A-Za-z_])max_(?:\w+_)?len(?:gth)?\b|block_size|cutoff|chunk|seq_len"
    r"|\[[^\[\]:\n]{0,80}:[^\[\]\n]{0,80}(?:max|len|limit|size)\w{0,40}[ \t]?\]",
    re.IGNORECASE,
)
"""Words of a script that cuts rows; that its tokenizer knows a `model_max_length` cuts none."""

HANDS_LENGTH_ON = lazy_pattern(
    r"\bmodel_max_length[ \t]*=(?!=)|[\"']model_max_length|(?<!okenizer)(?<!\btok)\.model_max_length\b"
    r"|okenizer\w*\.from_pretrained\([^)]*\*\*"
)
"""Words of a script that gives a tokenizer an argument `model_max_length`, or reads one of its own of that name: a tokenizer
that is asked for its length has another, of its own, where neither is done."""

MAKES_ROWS = lazy_pattern(r"apply_chat_template|(?i:tokenizer|processor|tokenize)\(|\.encode\(")
"""Calls that make the rows, of a script whose data are its own."""

INFERS = r"\.generate\(|\.evaluate\(|\.inference\(|\.eval\(\)|\b(?:no_grad|inference_mode)\(|\.merge_and_unload\("
"""Calls of which a script that only evaluates, generates or merges has one."""

ASKS_INPUTS = lazy_pattern(
    r"require_grads|\brequires_grad_\(|\brequires_grad\s*=\s*True|\bFast(?:Language|Vision)?Model\b|"
    + "|".join(PREPARING)
)
"""Words of a script that may make the output of a frozen embedding ask for gradients."""

REDUCES_LOGITS = lazy_pattern(r"\bpreprocess_logits_for_metrics\s*=\s*(?!None\b)\w")
"""What Trainer calls on a batch's logits before it gathers them."""
