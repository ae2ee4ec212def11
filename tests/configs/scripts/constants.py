"""Settings of sibling_constants.py."""
BASE_MODEL = "google/gemma-2-2b"
DTYPE = "bfloat16"
CONTEXT = 4 * 1024
MICRO_BATCH = 2
GLOBAL_BATCH = 64
STEPS = GLOBAL_BATCH // MICRO_BATCH
LORA = {"r": 128, "lora_alpha": 256, "lora_dropout": 0.0, "target_modules": "all-linear"}
