"""What changed in which release of accelerate."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "accelerate")

ZERO3_IS_ON_WITHOUT_INIT = _since(
    "1.0",
    "Accelerator tells transformers of ZeRO-3 whatever zero3_init_flag says; before only where that is true",
    "utils/dataclasses.py:1367 (1.16.0), 1273 (1.0.0), and 1167 (0.34.2), 897 (0.28.0) before",
    "1.16.0",
)
SAVES_FSDP2 = _since(
    "1.6",
    "what fully_shard sharded is loaded and saved",
    "utils/fsdp_utils.py:101 (1.15.0 and 1.16.0)",
    "1.16.0",
)
HAS_PARALLELISM_CONFIG = _since(
    "1.10",
    "there is a ParallelismConfig, with cp_size",
    "parallelism_config.py:72 (1.16.0), 73 (1.15.0); read in 1.10.0 too",
    "1.16.0",
)
KEEPS_LOADED_DTYPE = _since(
    "1.13",
    "FSDP2 leaves trainable weights in the dtype that they were loaded in: what it makes of them in fp32 is thrown away",
    "utils/fsdp_utils.py:740 (1.13.0: `param = param.to`), and 712 (1.12.0), 714 (1.14.0) around it; counted on gloo ranks",
    "1.13.0",
    until="1.14",
)
WRAPS_BOTH_ENDS = _since(
    "1.14",
    "FSDP2 has a unit for the embedding and one for the last norm and the head; before, both were in the root unit",
    "utils/fsdp_utils.py:751 (1.14.0), :857 (1.15.0), :876 (1.16.0); fsdp2_prepare_model of 1.13.0 wraps layers and the model alone",
    "1.16.0",
)
KEEPS_OUTPUT_DTYPE = _since(
    "1.16",
    "FSDP2's policy of mixed precision casts no output: an fp16 loss stays in the fp32 that the model computed it in",
    "utils/dataclasses.py:2005 set_mixed_precision (1.16.0: no output_dtype), and 2141 (1.15.0) before; run on gloo ranks",
    "1.16.0",
)
