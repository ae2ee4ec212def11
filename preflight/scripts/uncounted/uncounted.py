"""What a script holds that no formula counts, told by names in its text; what is told by its calls is in own_steps.py."""

from __future__ import annotations

from preflight import unpriced_names as unpriced

UNCOUNTED = {
    unpriced.COPY: (
        r"\bdeepcopy\(\s*(?:\w+\.)*(?:unwrap_model\(\s*(?:\w+\.)*)?"
        r"(?:\w*model(?!_?(?:in|out)puts?\b|_?(?:kw|init_kw)?arg(?:ument)?s\b|_?(?:config|name|data)\w*)\w*|module|\w*engine|policy"
        r"|actor|student|net(?:work)?)(?:\.state_dict\(\))?\s*\)"
        r"|(?:state_dict|parameters)\(\)(?!.*\bcpu\b).*\.clone\(\)|(?<!cpu\(\))\.clone\(\)(?!\.cpu).*(?:state_dict|parameters)\(\)"
        r"|\bAveragedModel\(|\b(?:EMA)?WeightAveraging\(|\b(?:EMA|Ema|EMAModel|ModelEma|ModelEMA"
        r"|ExponentialMovingAverage)\(|(?:zeros|ones|empty|rand|randn|full)_like\(.*parameters\(\)",
        "more",
    ),
    "what hooks on its layers keep": (
        r"\bregister_(?:full_)?(?:forward|backward)(?:_pre)?_hook\((?![^()]{0,200}(?:requires?_grad|inputs_require|neftune|fp32))",
        "more",
    ),
    unpriced.WATCHED: (
        r"\b\w*(?:wandb|run)\.watch\((?![^()]*\blog\s*=\s*(?:None\b|[\"']parameters[\"']))",
        "more",
    ),
    unpriced.FREED_EARLY: (r"\bregister_post_accumulate_grad_hook\(", "less"),
    "what apex makes of model and optimizer": (r"\bamp\.initialize\(", "either"),
    unpriced.COMM_HOOK: (
        r"\bregister_comm_hook\((?!.*\b(?:fp16|bf16)_compress_hook|.*\ballreduce_hook)"
        r"|\bcomm_hook\s*=(?!\s*(?:None\b|DDPCommunicationHookType\.(?:NO|FP16|BF16)\b))",
        "more",
    ),
    unpriced.FLOAT8_HEAD: (r"convert_to_float8_training", "either"),
    unpriced.FP8: (
        r"fp8_autocast|fp8_model_init|\bte\.(?:Linear|LayerNorm\w*|Transformer\w*)\(",
        "either",
    ),
    unpriced.WIDE_WEIGHTS: (
        r"\bmodel\w*(?:\.module)?\.double\(\)",
        "more",
    ),
    "CUDA graphs": (
        r"mode\s*=\s*[\"'](?:reduce-overhead|max-autotune)[\"']|\bcuda\.graph\(|make_graphed_callables",
        "more",
    ),
    unpriced.NOT_LORA: (
        r"\b(?:AdaLora|Adamss|AdaptionPrompt|BOFT|BdLora|Beft|C3A|CPT|Cartridge|Deft|Delora|FourierFT|Frod|Glora"
        r"|Gralora|HRA|Hira|IA3|Kasa|LNTuning|Lily|LoHa|LoKr|Miss|Bone|Monteclora|MultitaskPromptTuning|OFT|OSF"
        r"|Peanut|Poly|PrefixTuning|PromptEncoder|PromptTuning|Psoft|Pvera|RandLora|Road|Shadow|Shira|Supertuning"
        r"|TinyLora|TrainableTokens|UniLora|VBLoRA|Velora|Vera|WaveFT|XLora)Config\(",
        "either",
    ),
    unpriced.GPTQ_OR_AWQ: (r"\b(?:Awq|GPTQ)Config\(", "either"),
    "weights stored by another scheme": (
        r"\b(?:Aqlm|AutoRound|BitNetQuant|CompressedTensors|Eetq|FPQuant|FbgemmFp8|FineGrainedFP8|FourOverSix"
        r"|GemmaQuantization|Gguf|Higgs|Hqq|Metal|Mxfp4|NVFP4|Quanto|Quark|Sinq|SpQR|TorchAo|Vptq)Config"
        r"\((?!\s*dequantize\s*=\s*True)",
        "either",
    ),
    unpriced.DEGREES: (r"\bParallelismConfig\(", "less"),
    unpriced.COPIES: (r"\bdp_replicate_size\s*=(?!\s*1\b)", "more"),
    "a model divided over the devices of one process": (
        r"\bdevice_map\s*=\s*[\"'](?:auto|balanced\w*|sequential)[\"']"
        r"|\w*(?:model|policy|encoder|decoder|net|lm|t5|gpt2?)\w*\.parallelize\("
        r"|\bdistributed_config\s*=|\bDistributedConfig\(",
        "less",
    ),
    unpriced.MATRICES: (r"\btp_plan\s*=", "less"),
    "tensor parallelism of the script's own": (r"\bparallelize_module\(", "either"),
    "a pass over data that an adapter begins with": (
        r"\bpreprocess_(?:loraga|corda)\(|\binitialize_lora_eva_weights\(",
        "more",
    ),
    "what hooks on saved tensors keep": (r"\bsaved_tensors_hooks\(", "either"),
    "a limit on the device's memory": (r"set_per_process_memory_fraction\(", "more"),
    unpriced.OTHER_ACCELERATOR: (
        r"(?m)^(?:from|import)\s+(?:optimum\.(?:habana|neuron|tpu)|habana_frameworks|torch_npu|torch_xla|torch_neuronx)\b",
        "either",
    ),
    unpriced.REPLICAS: (r"(?<![A-Za-z])DataParallel\(", "either"),
    unpriced.OUTPUTS: (
        r"output_(?:hidden_states|attentions)[\"']?\s*\]?\s*[=:,]\s*True",
        "more",
    ),
    "trials of a search of hyperparameters": (r"\.hyperparameter_search\(", "either"),
    "what another library holds on the card": (
        r"\binit_inference\(|CUDAExecutionProvider|\bindex_cpu_to_\w*gpu|\bStandardGpuResources\(|\bcupy\.(?!cuda\b|asnumpy\b)\w+\(",
        "more",
    ),
    "gradients of every row": (
        r"\bPrivacyEngine\(|\bmake_private\w*\(|\bGradSampleModule\(|\bDPTrainer\b",
        "more",
    ),
    "gradients of gradients": (r"create_graph\s*=\s*True", "more"),
    unpriced.GENERATES_BESIDE: (r"\b(?:WinRate|LogCompletions)Callback\(", "more"),
    "copies of the weights in BEMACallback": (r"\bBEMACallback\(", "more"),
    "a judge of pairs": (r"\bPairRMJudge\(", "more"),
    "derivatives that a script takes itself": (
        r"torch\.autograd\.(?:grad|functional)\b|\btorch\.func\b|\bfunctorch\b",
        "either",
    ),
    "a graph that is kept": (r"retain_graph\s*=\s*(?!False\b|None\b)\w", "more"),
    unpriced.GRADIENTS_STAY: (r"zero_grad\(\s*(?:set_to_none\s*=\s*)?False", "more"),
    unpriced.KEPT_LOGITS: (
        r"\.append\((?!.*(?:\bcpu\b|argmax|numpy|item\(|tolist|\bloss\b))[^\n]*\blogits\b",
        "more",
    ),
    "logits gathered from every rank": (
        r"(?:\b\w*acc\w*\.gather(?:_for_metrics)?|\ball_gather\w*)\((?!.*\bargmax\b)[^\n]*\blogits\b",
        "more",
    ),
    unpriced.GATHERED_LOGITS: (r"\bcompute_metrics\s*=\s*(?!None\b)\w", "more"),
}
"""What a script holds -> names that it uses for it, and what it takes beside the estimate (signs.UNPRICED)."""
