"""What a step of somebody's own takes of its model's logits, read of its text and counted by torch's allocator on the CPU.

The model makes logits and nothing else: of what a step allocates, only they and what is made of them is large.
"""

from __future__ import annotations

import ast
import gc
import json

import pytest
import torch

from preflight.scripts.uncounted.step_loss import File, step_loss

ROWS, LENGTH, VOCAB = 4, 32, 4096
LOG_PROBS = """
def log_probs(logits, labels):
    labels = labels[:, 1:].clone()
    logits = logits[:, :-1, :]
    picked = torch.gather(logits.log_softmax(-1), dim=2, index=labels.unsqueeze(2)).squeeze(2)
    return picked.sum(-1)
"""
STEPS = {
    "pairs, logits handed on": """
class Trained:
    def compute_loss(self, model, inputs, return_outputs=False):
        loss, shown = self.of_pairs(model, inputs)
        return (loss, shown) if return_outputs else loss

    def of_pairs(self, model, inputs):
        shown = {}
        first, second, of_first, of_second = self.both(model, inputs)
        loss = -F.logsigmoid(first - second - 0.5).mean()
        shown["logits"] = of_first.detach().mean().cpu()
        shown["others"] = of_second.detach().mean().cpu()
        return loss, shown

    def both(self, model, inputs):
        ids = inputs["ids"]
        half = ids.shape[0] // 2
        logits = model(ids, use_cache=False).logits
        scores = log_probs(logits, ids)
        return scores[:half], scores[half:], logits[:half], logits[half:]
""",
    "pairs beside a reference, which raises where there is none": """
class Trained:
    is_mean = False

    def scored(self, model, ids, is_reference=False):
        if is_reference:
            if isinstance(model, nn.parallel.DistributedDataParallel):
                logits = self.ref_model(ids, use_cache=False).logits
            elif isinstance(model, nn.Module):
                logits = self.ref_model(ids).logits
            else:
                raise AttributeError(f"{model} has no reference")
        else:
            logits = model(ids).logits
        scores = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
        if self.is_mean:
            scores = scores.mean(-1)
        else:
            scores = scores.sum(-1)
        return scores

    def compute_loss(self, model, inputs, return_outputs=False):
        ids = inputs["ids"]
        n = len(ids) // 2
        scores = self.scored(model, ids)
        with torch.no_grad():
            others = self.scored(model, ids, is_reference=True)
        loss = -F.logsigmoid(scores[:n] - scores[n:] - others[:n] + others[n:]).mean()
        return (loss, {}) if return_outputs else loss
""",
    "pairs and a cross entropy of the first half": """
class Trained:
    def compute_loss(self, model, inputs, return_outputs=False):
        ids = inputs["ids"]
        n = len(ids) // 2
        logits = model(ids).logits
        scores = log_probs(logits, ids)
        mine, labels = logits[:n][..., :-1, :].contiguous(), ids[:n][..., 1:].contiguous()
        loss = nn.CrossEntropyLoss()(mine.view(-1, mine.shape[-1]), labels.view(-1))
        return loss - F.logsigmoid(scores[:n] - scores[n:]).mean()
""",
    "pairs beside a reference": """
class Trained:
    def compute_loss(self, model, inputs, return_outputs=False):
        ids = inputs["ids"]
        n = ids.size(0) // 2
        outputs = model(input_ids=ids)
        with torch.no_grad():
            others = self.ref_model(input_ids=ids)
        ours, theirs = log_probs(outputs.logits, ids), log_probs(others.logits, ids)
        return -F.logsigmoid(ours[:n] - ours[n:] - theirs[:n] + theirs[n:]).mean()
""",
    "pairs beside the model itself in a function that makes no graph": """
class Trained:
    @torch.no_grad()
    def before(self, model, ids):
        return log_probs(model(input_ids=ids).logits, ids)

    def compute_loss(self, model, inputs, return_outputs=False):
        ids = inputs["ids"]
        n = ids.size(0) // 2
        ours = log_probs(model(input_ids=ids).logits, ids)
        theirs = self.before(model, ids)
        return -F.logsigmoid(ours[:n] - ours[n:] - theirs[:n] + theirs[n:]).mean()
""",
    "a loop that holds both": """
for batch in loader:
    ids = batch["ids"]
    n = ids.size(0) // 2
    outputs = model(input_ids=ids)
    with torch.no_grad():
        others = ref_model(input_ids=ids)
    ours, theirs = log_probs(outputs.logits, ids), log_probs(others.logits, ids)
    loss = -F.logsigmoid(ours[:n] - ours[n:] - theirs[:n] + theirs[n:]).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
""",
    "an object that is called with them": """
class Shown:
    def __init__(self):
        self.right = 0
    def __call__(self, logits, labels):
        return self.update(logits, labels)
    def update(self, logits, labels):
        with torch.no_grad():
            best = logits[..., :-1, :].argmax(dim=-1)
            self.right += (best == labels[..., 1:]).sum().item()
shown = Shown()
for batch in loader:
    ids = batch["ids"]
    outputs = model(input_ids=ids)
    loss = F.cross_entropy(outputs.logits.view(-1, outputs.logits.size(-1)), ids.view(-1))
    shown(outputs.logits, ids)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
""",
    "one after the other": """
class Trained:
    def compute_loss(self, model, inputs, return_outputs=False):
        ids = inputs["ids"]
        chosen = self.scored(model, ids[:2])
        rejected = self.scored(model, ids[2:])
        return -F.logsigmoid(chosen - rejected).mean()

    def scored(self, model, ids):
        return log_probs(model(input_ids=ids).logits, ids)
""",
    "in fp32, rolled": """
class Trained:
    def compute_loss(self, model, inputs, return_outputs=False):
        ids = inputs["ids"]
        scores = self.scores(model(input_ids=ids).logits, ids)
        mine, other = scores.chunk(2, dim=0)
        return -F.logsigmoid(mine - other).mean()

    @staticmethod
    def scores(logits, labels):
        logits = logits.to(torch.float32)
        safe = labels.clamp(min=0)
        return torch.gather(logits.log_softmax(-1), 2, safe.unsqueeze(2)).squeeze(2).sum(-1)
""",
    "a likelihood that weighs itself": """
class Trained:
    def compute_loss(self, model, inputs, return_outputs=False):
        labels = inputs["ids"]
        outputs = model(input_ids=labels)
        logits = outputs.logits.float()
        chances = F.log_softmax(logits, dim=-1)
        picked = chances.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        loss = -(picked.exp().detach() * picked).mean()
        return (loss, outputs) if return_outputs else loss
""",
    "an entropy beside a cross entropy": """
class Trained:
    def compute_loss(self, model, inputs, return_outputs=False):
        labels = inputs["ids"]
        logits = model(input_ids=labels).logits
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), labels.view(-1))
        log_chances = torch.log_softmax(logits, dim=-1)
        entropy = -(log_chances.exp() * log_chances).sum(-1).mean()
        return loss + 0.1 * entropy
""",
    "a softmax that is sharpened": """
class Trained:
    def compute_loss(self, model, inputs, return_outputs=False):
        labels = inputs["ids"]
        logits = model(input_ids=labels).logits / 0.7
        chances = torch.softmax(logits, dim=-1)
        picked = torch.gather(chances, 2, labels.unsqueeze(2)).squeeze(2)
        return (1 - picked).pow(2).mean()
""",
}  # fmt: skip
HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n" + LOG_PROBS


class Made:
    """What a model returns."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


class Head(torch.autograd.Function):
    """Makes logits, and nothing of their gradient."""

    @staticmethod
    def forward(ctx, weight, ids):
        return torch.zeros(*ids.shape, VOCAB, dtype=weight.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros(1, dtype=gradient.dtype), None


class Model(torch.nn.Module):
    """Returns logits of some dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=dtype))

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Made:
        return Made(Head.apply(self.weight, input_ids))


def read(step: str):
    text = HEAD + step
    return step_loss([File("train.py", ast.parse(text), frozenset(range(1, text.count("\n") + 2)))])


def peaks(step: str, dtype: torch.dtype, path, has_graph: bool = True) -> dict[str, float]:
    """Return bytes per logit that the allocator had out at most, before the gradient and while it was taken."""
    gc.collect()  # what others left would be freed while it is counted
    model, reference = Model(dtype), Model(dtype)
    ids = torch.randint(0, VOCAB, (ROWS, LENGTH))
    step = step.replace("float32", "float64").replace(".float()", ".double()")
    names: dict = {"model": model, "ref_model": reference}
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as made:
        with torch.profiler.record_function("begins"):
            torch.empty(8)
        if "for batch" in step:
            setup = (
                HEAD + "class _:\n def step(s): pass\n def zero_grad(s): pass\noptimizer = _()\n"
            )
            marked = step.replace(
                "    loss.backward()",
                '    torch.profiler.record_function("back").__enter__()\n    loss.backward()',
            )
            exec(setup + marked, {**names, "loader": [{"ids": ids}]})
        else:
            exec(HEAD + step, names)
            trained = names["Trained"]()
            trained.ref_model = reference
            with torch.set_grad_enabled(has_graph):
                loss = trained.compute_loss(model, {"ids": ids}, return_outputs=not has_graph)
            if has_graph:
                with torch.profiler.record_function("back"):
                    loss.backward()
    made.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    began = min((e["ts"] for e in events if e.get("name") == "back"), default=float("inf"))
    allocated = [
        (e["ts"], e["args"]["Total Allocated"]) for e in events if e.get("name") == "[memory]"
    ]
    at_first = min(allocated)[1]
    entries = 2 * ROWS * LENGTH * VOCAB
    return {
        "forward": (max(n for at, n in allocated if at <= began) - at_first) / entries,
        "backward": (max((n for at, n in allocated if at > began), default=0) - at_first) / entries,
    }


BOUNDS = ("in fp32, rolled", "one after the other")
"""Steps of which some way, or another release of Python, takes less."""


@pytest.mark.parametrize("width", [4, 2])
@pytest.mark.parametrize("name", STEPS)
def test_what_a_step_takes_is_what_torch_allocates(name, width, tmp_path):
    loss = read(STEPS[name])
    counted = peaks(STEPS[name], {2: torch.float32, 4: torch.float64}[width], tmp_path / "t.json")
    taken = {2: loss.narrow, 4: loss.wide}[width]
    forward = max(taken.forward, taken.after)

    assert loss.is_exact is (name not in BOUNDS)
    if loss.is_exact:
        assert forward == pytest.approx(counted["forward"], rel=0.06)
        assert taken.backward == pytest.approx(counted["backward"], rel=0.06)
    assert counted["forward"] <= 1.01 * forward <= 1.4 * counted["forward"]
    assert counted["backward"] <= 1.01 * taken.backward <= 1.6 * counted["backward"]


@pytest.mark.parametrize("name", [name for name in STEPS if "for batch" not in STEPS[name]])
def test_a_step_without_a_graph_takes_what_torch_allocates(name, tmp_path):
    loss = read(STEPS[name])
    counted = peaks(STEPS[name], torch.float64, tmp_path / "t.json", has_graph=False)

    assert counted["forward"] <= 1.01 * loss.wide.evaluation <= 1.4 * counted["forward"]


def test_rows_are_counted_by_how_a_step_takes_them_apart():
    assert {name for name in STEPS if read(STEPS[name]).has_pairs} == {
        name for name in STEPS if "pairs" in name or "both" in name or name in BOUNDS
    }
    assert read(STEPS["one after the other"]).forwards == 2
    assert read(STEPS["a loop that holds both"]).wide.kept == 8


def step_of(*lines: str) -> str:
    body = "\n".join(f"        {line}" for line in lines)
    return f"class Trained:\n    def compute_loss(self, model, inputs, return_outputs=False):\n{body}\n"


NOT_READ = {
    "rows in a loop": ["logits = model(**inputs).logits", "loss = 0", "for row in logits:", "    loss += row.logsumexp(-1).mean()", "return loss"],
    "a mask as large as logits": ["logits = model(**inputs).logits", "return logits[logits > 0].mean()"],
    "a change in place": ["logits = model(**inputs).logits", "logits[:, 0] = 0", "return F.cross_entropy(logits, inputs['y'])"],
    "a function of a library": ["return chunked_loss(model(**inputs).logits, inputs['y'])"],
    "a teacher": ["a = model(**inputs).logits", "b = self.teacher_model(**inputs).logits", "return F.mse_loss(a, b)"],
    "hidden states": ["out = model(**inputs, output_hidden_states=True)", "return out.logits.logsumexp(-1).mean() + out.hidden_states[-1].mean()"],
    "attention scores": ["out = model(**inputs, output_attentions=True)", "return out.logits.logsumexp(-1).mean()"],
    "hidden states as it is told": ["out = model(**inputs, output_hidden_states=self.deep)", "return out.logits.logsumexp(-1).mean()"],
    "a longer row": ["ids = torch.cat([inputs['a'], inputs['b']], dim=1)", "return model(ids).logits.logsumexp(-1).mean()"],
    "three forwards": ["a, b = model(inputs['a']).logits, model(inputs['b']).logits", "c = model(inputs['c']).logits", "return (a.logsumexp(-1) + b.logsumexp(-1) + c.logsumexp(-1)).mean()"],
    "a loss of the library's": ["loss = super().compute_loss(model, inputs)", "return loss * 2"],
    "two kinds of dtype": ["logits = model(**inputs).logits.to(inputs['x'].dtype)", "return logits.logsumexp(-1).mean()"],
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_READ)
def test_a_step_that_does_what_is_not_known_is_given_up(name):
    assert read(step_of("return model(**inputs).logits.logsumexp(-1).mean()")) is not None
    assert read(step_of(*NOT_READ[name])) is None


def test_a_condition_that_takes_a_graph_away_is_tried_both_ways():
    """One that adds to a loss is taken to do so; one that ends a part of it is not."""
    lines = (
        "logits = model(**inputs).logits",
        "scores = logits.logsumexp(-1)",
        "first = F.cross_entropy(logits.view(-1, logits.size(-1)), inputs['y'])",
        "if self.adds:",
        "    first = {}",
        "return first.mean()",
    )
    most = read(step_of(*(each.format("first + scores.mean()") for each in lines)))
    ends = read(step_of(*(each.format("first.detach() + scores.mean()") for each in lines)))
    least = read(step_of(*lines[:3], "return first.mean()"))

    assert ends.wide.backward >= least.wide.backward
    assert most.wide.backward >= ends.wide.backward


def test_of_two_losses_none_is_taken():
    assert read(step_of("return model(**inputs).logits.logsumexp(-1).mean()") * 2) is None


EVALUATES = """
@torch.no_grad()
def evaluate(model, rows):
    total = 0
    for row in rows:
        total += model(row["ids"]).logits.log_softmax(-1).mean()
    return total

for batch in loader:
    logits = model(batch["ids"]).logits
    loss = F.cross_entropy(logits.view(-1, logits.size(-1)), batch["y"].view(-1))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if is_time(batch):
        print(evaluate(model, held_out))
"""


def test_an_evaluation_behind_a_step_is_no_part_of_it():
    alone = EVALUATES.replace("        print(evaluate(model, held_out))", "        print(1)")

    assert read(EVALUATES) == read(alone)
    assert read(alone).forwards == 1
