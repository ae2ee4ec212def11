"""Training steps with a mark at every part: forward and backward of each layer, loss, clipping, optimizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from preflight.lazy_pattern import lazy_pattern
from preflight.trace.eight_bit import BITSANDBYTES, bitsandbytes_optimizer, is_paged
from preflight.trace.encoders import head_of, label_shape, mean_of
from preflight.trace.images import ROWS, seen_in
from preflight.trace.job import TraceJob
from preflight.trace.log import (
    CLIP,
    EMBEDDING_BACKWARD,
    END,
    GRADIENTS,
    HOST,
    INPUTS,
    LAYER_BACKWARD,
    LAYER_FORWARD,
    LOSS,
    LOSS_BACKWARD,
    OPTIMIZER,
    OPTIMIZER_STATES,
    OUTPUTS,
    PRELUDE,
    REGION_END,
    ZERO,
    AllocationLog,
    Part,
)
from preflight.trace.recorder import Recorder
from preflight.trace.stacks import first_embedding, has_both_stacks, hears

NUM_STEPS = 2
"""The first creates the optimizer's states; the second runs beside them, as all later ones do."""

WITHOUT_DECAY = lazy_pattern(
    r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE
)
"""Names that Trainer gives no weight decay (transformers/trainer.py get_decay_parameter_names, 5.24.0)."""

Stepping = Callable[[int], None]


class StepMarks:
    """Hooks that mark where each layer's forward and backward begin."""

    def __init__(self, log: AllocationLog, model: Any, layers: Any) -> None:
        self.log = log
        self.step = self.micro = 0
        self.is_forward = False
        """False while checkpointing runs a layer again."""
        self._last = len(layers) - 1
        self._handles = [
            handle
            for index, layer in enumerate(layers)
            for handle in (
                layer.register_forward_pre_hook(self._entering(index)),
                layer.register_forward_hook(self._leaving(index)),
            )
        ]
        embedding = first_embedding(model)
        self._handles.append(embedding.register_forward_hook(self._embedded))

    def mark(self, name: str, layer: int = -1) -> None:
        """Begin a part of the present micro step."""
        self.log.mark(Part(self.step, self.micro, name, layer))

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _entering(self, index: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if self.is_forward:
                self.mark(LAYER_FORWARD, index)

        return hook

    def _leaving(self, index: int) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            if not self.is_forward:
                return
            hidden = output[0] if isinstance(output, (tuple, list)) else output
            if hidden.requires_grad:
                hidden.register_hook(lambda _: self.mark(LAYER_BACKWARD, index))
            if index == self._last:
                self.mark(LOSS)

        return hook

    def _embedded(self, module: Any, inputs: Any, output: Any) -> None:
        # the words of a decoder beside an encoder are embedded behind the encoder, by the same table
        is_first = self.log.part.name == PRELUDE
        if self.is_forward and is_first and output.requires_grad:
            output.register_hook(lambda _: self.mark(EMBEDDING_BACKWARD))


def run_steps(
    job: TraceJob,
    model: Any,
    layers: Any,
    recorder: Recorder,
    stepping: Stepping,
    region: Callable[[], AbstractContextManager[Any]] = nullcontext,
    progress: Callable[[str], None] = lambda text: None,
    num_steps: int = NUM_STEPS,
) -> None:
    """Run optimizer steps, two by default; `stepping` clips, steps and forgets gradients."""
    import torch

    marks = StepMarks(recorder.log, model, layers)
    parameters = [p for p in model.parameters() if p.requires_grad]
    shape = (job.micro_batch_size, job.seq_len)
    answers = has_both_stacks(model.config)
    sounds = answers and hears(model.config)
    # Linear attention asks whether its mask masks anything, in a place that no patch reaches.
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    is_linear = "linear_attention" in kinds
    sound_dtype = torch.float32 if job.autocast else next(model.parameters()).dtype
    head = {"fused_lm_head": True} if job.loss == "chunked_linear" else {}
    objective = head_of(job.config)
    cache, is_bare = {} if objective else {"use_cache": False}, objective == "embedding"
    for step in range(num_steps):
        progress(f"step {step + 1} of {num_steps}")
        marks.step = step
        for micro in range(job.micro_steps):
            marks.micro = micro
            is_last = micro == job.micro_steps - 1
            if job.engine == "fsdp2" and job.micro_steps > 1:
                model.set_requires_gradient_sync(job.sync_each_batch or is_last)
            marks.mark(INPUTS)
            ids = mask = None
            read: dict[str, Any]
            if sounds:  # in fp32, but where 16-bit weights ask for their own
                frames = (shape[0], model.config.num_mel_bins, 2 * shape[1])
                read = {
                    "input_features": torch.zeros(frames, dtype=sound_dtype, device=recorder.device)
                }
            else:
                ids = torch.zeros(shape, dtype=torch.long, device=recorder.device)
            if not sounds and (job.has_padding or not is_linear):
                mask = torch.ones(shape, dtype=torch.long, device=recorder.device)
            of_labels = (shape[0], job.target_len) if answers else label_shape(job.config, *shape)
            labels = torch.zeros(of_labels, dtype=torch.long, device=recorder.device)
            learns = {} if is_bare else {"labels": labels}
            seen = seen_in(job, model.config, recorder.device) if job.image_rows else {}
            marks.mark(PRELUDE)
            marks.is_forward = True
            with region():
                if not sounds:
                    read = {"input_ids": ids, "attention_mask": mask}
                outputs = model(**read, **seen, **learns, **cache, **head)
                seen.pop(ROWS, None)
                loss = mean_of(outputs, mask) if is_bare else outputs.loss
                if job.autocast:
                    marks.mark(REGION_END)
            if job.autocast and not head:
                marks.mark(OUTPUTS)
                # accelerate wraps forward so that 16-bit outputs become fp32 (accelerator.py:1791, 1.15.0).
                name = "last_hidden_state" if is_bare else "logits"
                outputs[name] = outputs[name].float()
            if not job.keeps_outputs:
                del outputs  # a loop that keeps them does so until the next forward is done
            marks.is_forward = False
            marks.mark(LOSS_BACKWARD)
            loss.backward()
            if job.keeps_outputs == "backward" or (job.keeps_outputs == "step" and not is_last):
                del outputs
            for parameter in parameters:
                if parameter.grad is not None:
                    recorder.hold(parameter.grad, GRADIENTS, "backward")
            marks.mark(END)
            del loss, ids, mask, labels, learns, read, seen
        stepping(step)
        if job.keeps_outputs == "step":
            marks.mark(END)
            del outputs
    marks.mark(END)
    marks.remove()


def forget_gradients(
    model: Any, log: AllocationLog, trained: set[str], keeps_gradients: bool
) -> Stepping:
    """Return a stepping that only drops gradients: the shallow model's, whose optimizer is traced elsewhere.

    It adds the names of parameters that got one to `trained`: a text batch leaves an image tower without.
    """

    def stepping(step: int) -> None:
        log.mark(Part(step, 0, ZERO))
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                trained.add(name)
            if not keeps_gradients:
                parameter.grad = None

    return stepping


def step_optimizer(
    job: TraceJob,
    named: list[tuple[str, Any]],
    recorder: Recorder,
    embeddings: frozenset[str],
) -> Stepping:
    """Return a stepping that clips, runs the plan's optimizer over some parameters, and drops gradients."""
    optimizer = optimizer_alone(job, named, recorder, embeddings)

    def stepping(step: int) -> None:
        if job.clips:
            clip(named, recorder, step)
        optimizer(step)

    return stepping


def clip(named: list[tuple[str, Any]], recorder: Recorder, step: int) -> None:
    """Clip gradients to a norm, as Trainer does before every step."""
    import torch

    recorder.log.mark(Part(step, 0, CLIP))
    trainable = [p for _, p in named if p.requires_grad]
    torch.nn.utils.clip_grad_norm_(trainable, 1.0, foreach=True)


def optimizer_alone(
    job: TraceJob,
    named: list[tuple[str, Any]],
    recorder: Recorder,
    embeddings: frozenset[str],
) -> Stepping:
    """Return a stepping that does not clip."""
    trainable = [(name, p) for name, p in named if p.requires_grad]
    optimizer = _optimizer(job, trainable, [p for name, p in trainable if name in embeddings])
    log = recorder.log

    def stepping(step: int) -> None:
        log.mark(Part(step, 0, OPTIMIZER))
        optimizer.step()
        _hold_states(job, optimizer, recorder)
        log.mark(Part(step, 0, ZERO))
        optimizer.zero_grad(set_to_none=not job.keeps_gradients)

    return stepping


def step_in_backward(job: TraceJob, named: list[tuple[str, Any]], recorder: Recorder) -> Stepping:
    """Give each parameter an optimizer that steps when its gradient is there; return a stepping with nothing left to do."""

    def hook_of(optimizer: Any) -> Callable[[Any], None]:
        def hook(parameter: Any) -> None:
            recorder.hold(parameter.grad, GRADIENTS, "backward")
            optimizer.step()
            _hold_states(job, optimizer, recorder)
            optimizer.zero_grad()

        return hook

    for name, parameter in named:
        if parameter.requires_grad:
            hook = hook_of(_optimizer(job, [(name, parameter)]))
            parameter.register_post_accumulate_grad_hook(hook)
    return lambda step: recorder.log.mark(Part(step, 0, ZERO))


def _hold_states(job: TraceJob, optimizer: Any, recorder: Recorder) -> None:
    import torch

    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                is_counter = name == "step" and job.kernel != "fused"
                on_host = is_counter or is_paged(value)
                recorder.hold(value, HOST if on_host else OPTIMIZER_STATES, "optimizer")


def _optimizer(
    job: TraceJob, trainable: list[tuple[str, Any]], embeddings: Iterable[Any] = ()
) -> Any:
    import torch

    groups: list[dict[str, Any]] = [{"params": [p for _, p in trainable]}]
    if job.has_groups:
        decayed = [p for name, p in trainable if not WITHOUT_DECAY.search(name)]
        others = [p for name, p in trainable if WITHOUT_DECAY.search(name)]
        groups = [{"params": group} for group in (decayed, others) if group]
    if job.optimizer in BITSANDBYTES:
        return bitsandbytes_optimizer(job.optimizer, groups, embeddings if job.has_groups else ())
    if job.optimizer == "adafactor":
        from transformers import optimization

        # as Trainer makes it (transformers/trainer_optimizer.py, 5.24.0)
        make: Any = optimization.Adafactor
        return make(groups, lr=1e-3, scale_parameter=False, relative_step=False)
    kernels: dict[str, Any] = {"foreach": job.kernel == "foreach", "fused": job.kernel == "fused"}
    if job.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=1e-3, foreach=kernels["foreach"])
    if job.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=1e-3, **kernels)
    if job.optimizer == "adagrad":
        return torch.optim.Adagrad(groups, lr=1e-3, **kernels)
    return torch.optim.AdamW(groups, lr=1e-3, **kernels)


def deep_parameters(
    named: list[tuple[str, Any]], prefix: str, stand_ins: tuple[int, ...]
) -> Iterator[tuple[str, Any]]:
    """Yield (name, parameter of the shallow model that is alike) in the deep model's order."""
    by_layer: dict[int, list[tuple[str, Any]]] = {}
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.(.*)")
    for name, parameter in named:
        found = pattern.fullmatch(name)
        if found:
            by_layer.setdefault(int(found[1]), []).append((found[2], parameter))
    is_done = False
    for name, parameter in named:
        if not pattern.fullmatch(name):
            yield name, parameter
        elif not is_done:
            is_done = True
            for layer, stand_in in enumerate(stand_ins):
                for rest, own in by_layer.get(stand_in, ()):
                    yield f"{prefix}.{layer}.{rest}", own
