"""What layers that attend to images are handed: what a tower and its projector made of them, and who sees which."""

from __future__ import annotations

from typing import Any

from preflight.trace.job import TraceJob

ROWS = "cross_attention_states"


def seen_in(job: TraceJob, config: Any, device: str) -> dict[str, Any]:
    """Return rows of images, which ask for gradients as those of a projector do, and the mask of the processor: int64, by
    text token, image and tile (processing_mllama.py, transformers 5.24.0)."""
    import torch

    vision, batch = config.vision_config, job.micro_batch_size
    tiles = vision.max_num_tiles
    rows_of_tile = (vision.image_size // vision.patch_size) ** 2 + 1
    upcasts = (job.quantization or {}).get("upcast", "none") != "none"
    is_wide = not job.autocast and (upcasts or job.loaded_dtype == "fp32")
    dtype = torch.float32 if is_wide else torch.bfloat16
    made = (batch, job.image_rows, config.text_config.hidden_size)
    asks = torch.zeros((1, 1, 1), dtype=dtype, device=device, requires_grad=True)
    # the result of something, as a projector's is: nobody but who saved it holds on to it
    rows = asks + torch.zeros(made, dtype=dtype, device=device)
    shape = (batch, job.seq_len, job.image_rows // (tiles * rows_of_tile), tiles)
    return {
        ROWS: rows,
        "cross_attention_mask": torch.ones(shape, dtype=torch.long, device=device),
    }
