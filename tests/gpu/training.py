"""One training of the kit, in a process of its own: `python -m tests.gpu.training` with a job as JSON on stdin.

The last line of stdout is the result as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import threading
from dataclasses import asdict
from typing import Any

from .cases import Case

NUM_STEPS = 3
SAMPLE_S = 0.01
TORCH_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


class DevicePeak(threading.Thread):
    """The most that the driver shows in use, looked at a hundred times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self.look()

    def look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, in_use())

    def stop(self) -> None:
        self._done.set()
        self.join()
        self.look()


def in_use() -> int:
    """Return the bytes that the driver shows in use on this device, of every process."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return int(total) - int(free)


def model_of(case: Case, config: dict[str, Any], device: str) -> Any:
    """Return the model with random weights, on the host unless bitsandbytes has packed it."""
    import torch
    import transformers

    values = dict(config)
    dtype = getattr(torch, TORCH_DTYPES[case.load_dtype])
    kind = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    old = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = transformers.AutoModelForCausalLM.from_config(
            kind, attn_implementation=case.attention
        )
    finally:
        torch.set_default_dtype(old)
    model = model.to(dtype)
    if case.quantization:
        model = packed(model, case, device)
    model.config.use_cache = False
    return adapted(model, case)


def packed(model: Any, case: Case, device: str) -> Any:
    """Return the model as `from_pretrained` loads it with bitsandbytes: by way of a folder."""
    import torch
    import transformers

    is_4bit = case.quantization == "nf4"
    how = transformers.BitsAndBytesConfig(
        load_in_4bit=is_4bit,
        load_in_8bit=not is_4bit,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        del model
        gc.collect()
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            quantization_config=how,
            torch_dtype=torch.bfloat16,
            attn_implementation=case.attention,
            device_map={"": device},
        )


def adapted(model: Any, case: Case) -> Any:
    """Return the model with the case's adapter."""
    if not case.adapter:
        return model
    import peft

    if case.activation_checkpointing == "full":
        model.enable_input_require_grads()
    settings = peft.LoraConfig(
        r=16,
        lora_alpha=32,
        lora_dropout=0.0,
        target_modules=case.targets,
        use_dora=case.adapter == "dora",
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, settings)


def trainer_of(case: Case, model: Any, vocab_size: int, shape: tuple[int, int], device: str) -> Any:
    """Return Trainer over random tokens, every sequence as long as the next."""
    import torch
    import transformers

    micro, length = shape
    generator = torch.Generator().manual_seed(0)
    num_rows = micro * case.gradient_accumulation_steps * NUM_STEPS
    rows = torch.randint(4, vocab_size, (num_rows, length), generator=generator)
    dataset = [{"input_ids": row, "labels": row} for row in rows]
    arguments = transformers.TrainingArguments(
        output_dir=tempfile.mkdtemp(prefix="preflight-kit-"),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=case.gradient_accumulation_steps,
        max_steps=NUM_STEPS,
        optim=case.optimizer,
        bf16=case.mixed_precision == "bf16",
        gradient_checkpointing=case.activation_checkpointing == "full",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        use_liger_kernel=case.loss == "fused_linear",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=device == "cpu",
        dataloader_pin_memory=False,
    )
    return transformers.Trainer(model=model, args=arguments, train_dataset=dataset)


def on_gpu(case: Case, job: dict[str, Any]) -> dict[str, Any]:
    """Train on the GPU; return the three peaks, and what context and cuBLAS take."""
    import torch

    before = int(job["in_use_before_bytes"])
    torch.zeros(1, device="cuda")
    context = max(0, in_use() - before - torch.cuda.memory_reserved())
    held = torch.cuda.memory_allocated()
    small = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16)
    product = small @ small
    torch.cuda.synchronize()
    cublas = torch.cuda.memory_allocated() - held - small.nbytes - product.nbytes
    del small, product
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    if job.get("snapshot"):
        torch.cuda.memory._record_memory_history(max_entries=200_000)
    watch = DevicePeak()
    watch.start()
    outcome = "value"
    try:
        train(case, job, "cuda")
    except torch.cuda.OutOfMemoryError:
        outcome = "oom"
    watch.stop()
    if job.get("snapshot"):
        torch.cuda.memory._dump_snapshot(job["snapshot"])
    outside = max(0, in_use() - before - torch.cuda.memory_reserved())
    return {
        "outcome": outcome,
        "counter": "allocated",
        "peak_bytes": torch.cuda.max_memory_allocated(),
        "reserved_peak_bytes": torch.cuda.max_memory_reserved(),
        "device_peak_bytes": watch.peak_bytes - before,
        "context_bytes": context,
        "outside_torch_bytes": outside,
        "cublas_workspace_bytes": cublas,
    }


def on_cpu(case: Case, job: dict[str, Any]) -> dict[str, Any]:
    """Rehearse on the CPU: live storages alone are counted, by preflight itself."""
    from preflight.embedded.counters import CpuCounters

    counters = CpuCounters()
    train(case, job, "cpu", counters)
    return {"outcome": "value", "counter": "allocated", "peak_bytes": counters_peak(counters)}


def counters_peak(counters: Any) -> int:
    """Return the peak that a count saw, and end it."""
    peak = counters.take()["allocated"]
    counters.stop()
    return int(peak)


def train(case: Case, job: dict[str, Any], device: str, counters: Any = None) -> None:
    """Train three steps, and generate where the case does."""
    import torch

    config = job["config"]
    shape = (job["shape"][0], job["shape"][1])
    model = model_of(case, config, device)
    if counters is not None:
        counters.start([model])
    trainer = trainer_of(case, model, int(config["vocab_size"]), shape, device)
    trainer.train()
    if case.generates:
        prompt = torch.full((shape[0], 32), 5, device=device)
        model.generate(input_ids=prompt, max_new_tokens=64, do_sample=False, use_cache=True)


def device_of(device: str) -> dict[str, Any]:
    """Return the device as a measured run has it."""
    import torch

    if device == "cpu":
        return {"name": "cpu", "memory_gb": 64}
    properties = torch.cuda.get_device_properties(0)
    return {"name": str(properties.name), "capacity_bytes": int(properties.total_memory)}


def main() -> None:
    """Run the job on stdin."""
    job = json.load(sys.stdin)
    case = Case(**{**job["case"], "needs": tuple(job["case"]["needs"])})
    device = job["device"]
    measured = on_cpu(case, job) if device == "cpu" else on_gpu(case, job)
    print(json.dumps({"measured": measured, "device": device_of(device)}), flush=True)


def job_of(case: Case, is_rehearsal: bool) -> dict[str, Any]:
    """Return the part of a job that a case says."""
    return {
        "case": asdict(case),
        "config": case.config(is_rehearsal),
        "shape": case.shape(is_rehearsal),
    }


if __name__ == "__main__":
    main()
