"""The allocations of whole training steps in their order, without a trace: what the closed form is held against.

Losses, FSDP and optimizers as in hooks/memory_loss.py, memory_sharding.py and memory_optimizer_step.py.
Streams are those of torch/distributed/fsdp (2.13): gathers, and the shards of gradients that a
reduce-scatter leaves, each in a pool of their own.
"""

from __future__ import annotations

from caching_allocator import Event
from layer_events import DEFAULT, GATHER, REDUCE, Layers, Saved

from preflight.formulas.optimizers import state_bytes, step_bytes_per_element
from preflight.formulas.sharding import (
    HeldTensor,
    held_tensors,
    local_elements,
    quantized_bytes,
    reduces_beside,
    shards_quantized_base,
)
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm
from preflight.model import ModelSpec, ModelUnit
from preflight.units import ceil_div, dtype_bytes
from preflight.versions.transformers import LOSS_PADS_LABELS

GATHERS_OF_FIRST_FORWARD = 2
GATHERS = 3
"""Layers that FSDP1 has gathered or still reads, as the rate limiter waits for events (test_fsdp1_gathers.py)."""
GRADIENTS_STILL_READ = 1


class Steps(Layers):
    """One rank: its tensors, and the operations that allocate."""

    def __init__(self, plan: LaunchPlan, model: ModelSpec, terms: tuple[MemoryTerm, ...]) -> None:
        super().__init__(plan, model)
        self.fsdp = plan.is_fsdp and (plan.shard_degree > 1 or plan.mixed_precision != "no")
        mixed = plan.mixed_precision != "no"
        self.gathered = self.c if mixed else self.precision.bytes_of("frozen")
        self.reduced = dtype_bytes(plan.reduce_dtype) if plan.reduce_dtype else self.gathered
        self.by_unit: dict[str, list[HeldTensor]] = {}
        for held in held_tensors(plan, model):
            self.by_unit.setdefault(held.unit.name, []).append(held)
        self.others = [u for u in model.units if u.role != "layer"]
        by_name = {term.name: term.num_bytes for term in terms}
        entries = max(1, self.tokens * model.vocab_size)
        self.forward_per_entry = by_name.get("logits and loss, forward", 0) // entries
        self.backward_per_entry = by_name.get("logits and loss, backward", 0) // entries
        self.shifts_logits = (
            not LOSS_PADS_LABELS.holds_in(plan.versions)
            and plan.trainer not in ("torchtitan", "torchtune", "litgpt")
            and (plan.micro_batch_size or 1) > 1
        )
        self.gradients: list[int] = []
        self.states: list[int] = []
        self.fsdp1 = self.fsdp and plan.engine == "fsdp1"
        self.root_last = self.fsdp1 or plan.trainer in ("torchtitan", "torchtune")
        self.freed_gathers: list[int] = []
        self.freed_gradients: list[list[int]] = []
        """What the host freed under FSDP1 and the device still reads, the oldest first."""
        self.most_gathers = GATHERS_OF_FIRST_FORWARD

    def run(self, num_steps: int) -> list[Event]:
        """Return the events of loading and of some steps."""
        for unit in (*self.others, *self.layers):
            for held in self.by_unit.get(unit.name, ()):
                self.tape.take(self.stored_bytes(held))
        for _ in range(num_steps):
            self.step()
        return self.tape.events

    def stored_bytes(self, held: HeldTensor) -> int:
        if held.quantized:
            share = self.plan.shard_degree if shards_quantized_base(self.plan) else 1
            return ceil_div(quantized_bytes(self.plan, held.tensor.num_params), share)
        size = self.precision.bytes_of("trainable" if held.trains else "frozen")
        return size * local_elements(self.plan, held)

    def step(self) -> None:
        tape, tokens = self.tape, self.tokens
        mode = self.plan.activation_checkpointing
        root = self.gather(self.others) if self.fsdp else []
        hidden = tape.take(tokens * self.residual)
        kept: list[tuple[ModelUnit, int, Saved]] = []
        waiting: list[int] = []
        for number, unit in enumerate(self.layers):
            gathered = self.gather([unit]) if self.fsdp else []
            self.free_gathered(waiting)
            keeps = mode == "none" or (mode == "selective_every_2" and number % 2 == 1)
            share = "saved" if keeps else "selective" if mode == "selective_op" else "none"
            out, saved = self.layer_forward(unit, share)
            if keeps:
                tape.drop(hidden)  # nothing but a checkpoint keeps a layer's input
                hidden = tape.take(0)
            kept.append((unit, hidden, saved))
            hidden = out
            waiting = gathered
            if self.fsdp1:
                self.free_gathered(waiting)
                waiting = []
        self.free_gathered(waiting)
        gradient = self.loss(hidden)
        tape.drop(hidden)
        prefetched = self.gather([kept[-1][0]]) if self.fsdp1 else []
        self.most_gathers = GATHERS
        for number in range(len(kept) - 1, -1, -1):
            unit, entered, saved = kept[number]
            gathered = prefetched
            if self.fsdp1:
                prefetched = self.gather([kept[number - 1][0]], len(gathered)) if number else []
            elif self.fsdp:
                gathered = self.gather([unit])
            if mode in ("full", "selective_op") or (
                mode == "selective_every_2" and number % 2 == 0
            ):
                tape.drop(*saved.attention, *saved.mlp)
                out, saved = self.layer_forward(unit, "saved")
                tape.drop(out)
            gradient = self.layer_backward(unit, saved, gradient)
            tape.drop(entered)
            self.free_gathered(gathered)
        last = (
            self.others
            if self.fsdp and self.root_last
            else [u for u in self.others if u.role == "embedding"]
        )
        self.weight_gradients(last)
        tape.drop(gradient, *root)
        self.wait()
        self.optimizer_step()
        tape.drop(*self.gradients)
        self.gradients = []
        self.wait()

    def wait(self) -> None:
        """Let the device get to where the host is."""
        self.tape.drop(*self.freed_gathers, *[n for pair in self.freed_gradients for n in pair])
        self.freed_gathers, self.freed_gradients = [], []
        self.tape.wait()

    def free_gathered(self, buffers: list[int]) -> None:
        if self.fsdp1:
            self.freed_gathers += buffers
        else:
            self.tape.drop(*buffers)

    def gather(self, units: list[ModelUnit], num_in_use: int = 0) -> list[int]:
        while self.fsdp1 and len(self.freed_gathers) + num_in_use >= self.most_gathers:
            self.tape.drop(self.freed_gathers.pop(0))
        elements = sum(
            held.count // max(1, held.unit.count) * self._gathered_elements(held)
            for unit in units
            for held in self.by_unit.get(unit.name, ())
        )
        buffer = self.tape.take(self.gathered * elements, GATHER)
        if self.plan.engine == "fsdp1":
            return [buffer]
        copies = [
            self.tape.take(self.gathered * self._gathered_elements(held))
            for unit in units
            for held in self.by_unit.get(unit.name, ())
        ]
        self.tape.drop(buffer)
        return copies

    def _gathered_elements(self, held: HeldTensor) -> int:
        if held.quantized:
            if not shards_quantized_base(self.plan):
                return 0
            return quantized_bytes(self.plan, held.tensor.num_params) // 2
        return held.tensor.num_params

    def weight_gradients(self, units: list[ModelUnit]) -> None:
        """Make the gradients of some units; under FSDP reduce them to shards."""
        tape = self.tape
        trained = [h for u in units for h in self.by_unit.get(u.name, ()) if h.trains]
        if not self.fsdp:
            size = self.precision.bytes_of("gradient")
            self.gradients += [tape.take(size * local_elements(self.plan, h)) for h in trained]
            return
        whole = [tape.take(self.gathered * h.tensor.num_params) for h in trained]
        elements = sum(h.tensor.num_params for h in trained)
        if self.fsdp1:
            while len(self.freed_gradients) > GRADIENTS_STILL_READ:
                tape.drop(*self.freed_gradients.pop(0))
            flat = tape.take(self.gathered * elements)
            tape.drop(*whole)
            cast = self.reduced * elements if self.reduced != self.gathered else 0
            self.freed_gradients.append([flat, tape.take(cast, REDUCE)])
            inputs = tape.take(0)
        else:
            inputs = tape.take(
                self.reduced * elements, REDUCE if reduces_beside(self.plan) else DEFAULT
            )
            tape.drop(*whole)
        shard = self.precision.bytes_of("gradient") * sum(
            local_elements(self.plan, h) for h in trained
        )
        self.gradients.append(tape.take(shard, REDUCE))
        tape.drop(inputs)

    def loss(self, hidden: int) -> int:
        """Run norm, head and loss forward and backward; return the gradient of the last hidden state."""
        tape, tokens, plan = self.tape, self.tokens, self.plan
        h, c = self.model.hidden_size, self.c
        entries = tokens * self.model.vocab_size
        wide = tape.take(4 * tokens * h)
        normed = tape.take(c * tokens * h)
        if (plan.loss or "full_logits") != "full_logits":
            tile = tape.take(min(256 * 1024**2, entries * c))
            tape.drop(tile)
        else:
            self._logits(entries)
        if not (self.fsdp and self.root_last):  # there the root unit has them all, and is last
            self.weight_gradients([u for u in self.others if u.role in ("lm_head", "final_norm")])
        gradient = tape.take(tokens * self.residual)
        tape.drop(wide, normed)
        return gradient

    def _logits(self, entries: int) -> None:
        """Logits, their copies and what the loss makes of them, in the sizes of hooks/memory_loss.py."""
        tape, size = self.tape, self.precision.bytes_of("logits")
        total, after = self.forward_per_entry, self.backward_per_entry
        wide = size if total == 4 * size and size != 4 else 4
        sizes = [size]
        while total - sum(sizes) >= wide:
            sizes.append(size if (total - sum(sizes)) % wide else wide)
        made = [(tape.take(part * entries), part) for part in sizes]
        result = made.pop()[0]
        # beside the loss's own output and two gradients, backward still holds one of them in some loops
        keep = max(0, after - 3 * wide)
        kept = [number for number, part in made if part == keep][:1]
        tape.drop(*[number for number, _ in made if number not in kept])
        scattered = tape.take(wide * entries)
        gradient = tape.take(wide * entries)
        tape.drop(scattered, result)
        if self.shifts_logits:
            padded = tape.take(wide * entries)
            tape.drop(gradient)
            gradient = padded
        narrow = tape.take(size * entries if size != wide else 0)
        tape.drop(*kept, gradient, narrow)

    def optimizer_step(self) -> None:
        """Create the states once, and make the foreach temporaries."""
        tape = self.tape
        trained = [h for tensors in self.by_unit.values() for h in tensors if h.trains]
        sizes = [(h, local_elements(self.plan, h)) for h in trained for _ in range(h.count)]
        if not self.states and self.plan.offload_optimizer == "none":
            for held, elements in sizes:
                both = state_bytes(self.plan, self.precision, held.tensor, elements)
                self.states += [tape.take(both // 2), tape.take(both - both // 2)]
        copies = step_bytes_per_element(self.plan) * self.precision.bytes_of("optimizer_state")
        passing = [tape.take(copies * elements) for _, elements in sizes]
        tape.drop(*passing)


def step_events(
    plan: LaunchPlan, model: ModelSpec, terms: tuple[MemoryTerm, ...], num_steps: int = 2
) -> list[Event]:
    """Return the allocations and frees of loading and of some training steps of one rank."""
    return Steps(plan, model, terms).run(num_steps)
