"""Names of what a launch may hold that no formula counts whole: readers note them, bounds look them up, reports print them."""

from __future__ import annotations

# Models and copies beside the one that trains:
PAIRS = "a reference model and pairs of answers"
SCORES = "generation and the models that score it"
CRITIC = "a critic"
REWARD_MODEL = "a reward model"
"""What is said of verl's, whose size is its own."""
OTHER_REWARD_MODEL = "a reward model of another size"
"""What is said of TRL's that is not named as the policy is."""
OF_REWARDS = frozenset({REWARD_MODEL, OTHER_REWARD_MODEL})
"""What of these a launch that fits is shown with."""
TEACHER = "a teacher"
"""A second model whose whole distribution the one that trains is to match: TRL's GKD and
torchtune's recipes at most, others not at all."""
SECOND_MODEL = "a model beside the one that trains"
COPY = "a second copy of the model"
REPLICAS = "replicas of nn.DataParallel"
MADE_AGAIN = "a model that a loop makes while it holds the one before"
BESIDE_TEXT = "images or audio beside the text"
MADE_BY_NAME = "a model that the script makes by a name in its settings"
"""What Hydra's `instantiate`, or an import by a name, makes of a config that no reader follows."""

# What a model is made of:
OTHER_HEAD = "a head that is no language model's"
NOT_LORA = "an adapter that is not LoRA"
OWN_PEFT = "an adapter of a copy of PEFT"
UNLISTED = "an adapter on modules of other names"
ON_EXPERTS = "adapters on torchtune's experts"
"""Those of torchtune's own modules, which are bounded."""
BESIDE_ADAPTER = "what is trained beside the adapter"
PROJECTOR_BESIDE = "a projector that trains beside the adapter"
TUNED_BESIDE = "an embedding that trains with a projector alone"
FROZEN = "frozen parameters"
TAKEN_OFF = "layers that a script takes off its model"
NO_GRAPH = "a part that runs without a graph"
"""Of a module of the script's own whose forward runs a model under no_grad: it gets no gradient and keeps nothing."""
WIDE_WEIGHTS = "weights in 64 bits"
WIDE_PART = "parts that a script makes fp32"
"""Modules that it makes so one by one, all of the model at most."""
CAST_LOGITS = "logits that the head makes fp32"
"""What a module around the head casts: at most a copy of them, and of their gradient."""
STORED_DTYPE = "the dtype of the training"
"""That of the weights as they are stored, where a library trains them so."""
LEFT_WHOLE = "layers that a 4-bit copy leaves in 16 bits"
"""What nobody counts of a packed copy: never more than the model takes that is not packed at all."""
GPTQ_OR_AWQ = "weights that GPTQ or AWQ packs"
"""What a script asks for with their config: of a copy that is packed so, bounded as its name alone bounds it."""
PACKED_EXPERTS = "quantized experts"
"""Stacks of experts that are packed, where what they take was not counted: of 4 bits, at most."""
LOOPED_EXPERTS = "experts that are indexed one by one"
"""Stacks of which older releases of transformers take each expert by itself: its gradient is as large as all, at most."""
SCATTERED = "experts that scattermoe runs"
"""axolotl's kernels over packed stacks and their adapters: at most."""
FP8 = "fp8 matrices"
"""What Transformer Engine, or a library that is not named, computes with."""
FLOAT8 = "float8 linear layers"
"""What torchao's keep and make in passing, in the decoder's layers."""
FLOAT8_HEAD = "float8 linear layers and a float8 head"
CONVERTED_BY = "layers converted by "
"""How the name of layers begins that a converter of torchtitan's makes, whose name follows."""
FAKE_QUANTIZED = "fake-quantized copies"
"""What quantization-aware training keeps of inputs and weights of linear layers."""
QUANTIZED_WIDELY = "fake-quantized copies in fp32 too"
"""The same of formats whose layers go through fp32, as those of axolotl's `qat`."""
OTHERS_QAT = "copies that quantization-aware training makes"
"""Of formats whose layers nobody counted (nvfp4), or may be of these."""
RANDOM_LTD = "what convert_to_random_ltd makes of the model"
"""Layers of DeepSpeed's that run on some of their tokens: the whole rows beside those, at most."""
MIXTURE_OF_DEPTHS = "mixture of depths"
"""Every other layer on the tokens that its router chose: bounded as random-LTD is."""

# What a step does:
OWN_LOSS = "a loss of its own"
NARROW_LOSS = "a cross entropy in the bits of the logits"
"""transformers' own makes fp32 of them first (loss/loss_utils.py ForCausalLMLoss, 5.24): it takes more."""
LABEL_SMOOTHING = "label smoothing"
"""A loss that Trainer takes of logits itself, bounded by that of the model and what it makes more."""
Z_LOSS = "a loss that keeps sums of the logits small"
"""OLMo-core's z_loss_multiplier where nothing is compiled: a copy of the logits in fp32, and its gradient, at most."""
STRIDED = "blocks that strided EBFT samples"
"""What axolotl's `rl: ebft` in its mode `strided` trains on, in the place of rows as they are."""
SECOND_FORWARD = "a second forward pass"
OF_STEP = frozenset({OWN_LOSS, NARROW_LOSS, PAIRS, SECOND_FORWARD})
"""Signs of a step that takes its loss of logits itself."""
PROMPT_LOGITS = "logits of prompts"
"""What models make for GRPO in releases of transformers that TRL cannot ask for completions alone: of all rows at most."""
OUTPUTS = "outputs of every layer"
GENERATES = "generation within a step"
GROWN = "rows that a step makes longer, or more of"
GROWN_BY_COLLATOR = "rows that a collator makes more of"
GRAPHS = "graphs of several batches"
KEPT_OF_EACH = "a tensor of every parameter that a loop keeps"
LARGE = "a tensor of the script's own"
COPY_OF_ADAPTER = "a frozen copy of the adapter"
"""Whole on every rank, and as large as the adapter that trains at most."""
GRADIENTS_STAY = "gradients that stay between steps"
"""Zeros that a script may leave of the step before, as large as all gradients at most."""
WATCHED = "histograms of gradients"
"""What `wandb.watch` counts of each gradient on the card, now and then."""
FREED_EARLY = "gradients that are freed early"
"""Of an optimizer that steps over a parameter as soon as its gradient is there."""
IN_TURNS = "activations of layers that take turns"
"""Of BAdam's, estimated as if the lowest layer trained, and the head had a gradient: they take less."""
SVD_WORKSPACE = "the workspace of an SVD"
"""Of the gradient of a matrix, of which GaLore takes its projector: at most."""
IN_SHARDS = "an optimizer that ZeroRedundancyOptimizer divides"
CUDA_GRAPH = "the pool of a CUDA graph"
"""What forward and backward that were captured keep to themselves, beside what the steps before left."""
GRAPH_STEP = "a step that is traced as one graph"
"""What torchtitan's graph trainer keeps beyond torchtitan's own: products of matrices, and gradients beside those that wait."""

# What comes between steps:
GENERATES_BESIDE = "generation in an evaluation"
GENERATES_TO_EVALUATE = "generation in a trainer's own evaluation"
"""Of a method that Trainer runs where it evaluates or predicts, and nowhere else."""
GRAPH_TO_EVALUATE = "what a trainer's own evaluation with a graph keeps"
FORWARD_BESIDE = "a forward pass in a callback"
KEPT_LOGITS = "logits that a loop keeps"
GATHERED_LOGITS = "logits that an evaluation gathers"
UNCUT_EVALUATION = "rows of an evaluation that nothing cuts"
LONGER_EVALUATION = "rows that an evaluation makes longer"
"""By a callback that has the collator cut later while it runs."""
GATHERED = "a model that a script gathers whole"
STATE_DICT_ON_CARD = "a state dict of a whole model on the card"
"""What a script asks a divided model for: whole of FSDP1, and the shards of other engines."""

# How a launch is divided over ranks:
OWN_ENGINE = "an engine that a trainer's own method makes"
"""Of a Trainer that makes its Accelerator, or wraps its model, in another way than the launch says."""
DIVIDED = "a sequence that is divided over ranks"
"""Whose activations are estimated as if every rank had all of it."""
SWIFT_SEQUENCES = "ms-swift's sequence parallelism"
SENT_TOKENS = "tokens that other ranks send"
"""Of experts that are divided over ranks: what a router gives one of them, of whose weights and states it has the same."""
ZEROPP_WEIGHTS = "weights that ZeRO++ quantizes"
"""Shards in 8 bits, or none, and what is gathered of them in 8 and in 16 bits at once, at most."""
UNWRAPPED = "gradients that no engine averages"
"""Of ranks that train a model as it is: they have none of DDP's buckets, which are as large as the gradients."""
COMM_HOOK = "what a hook on gradients keeps"
"""Of a hook that DDP hands its buckets to: an error of every gradient, and factors of them, at most."""
DEGREES = "degrees of a ParallelismConfig"
COPIES = "replicas of a ParallelismConfig"
MATRICES = "matrices divided over ranks by a tp_plan"
OF_PARALLELISM = frozenset({DEGREES, COPIES, MATRICES})
"""Signs that speak of a ParallelismConfig, and of nothing more where it is read."""

# What runs it:
UNSLOTH = "Unsloth's kernels"
"""What takes less than a model's own modules: its layers, its loss, and checkpoints that it moves to the host."""
AUTOMODEL = "activations of Automodel's model code"
"""What its own layers, and what its checkpointing keeps of them, take in place of transformers'."""
OLMO_LOOP = "a training loop of olmo_core"
"""One whose train module was not read."""
OLMO_CORE = "activations of OLMo-core's model code"
"""What its own layers and its optimizer take in place of transformers', where its train module was read."""
OLMO_PARTS = "modules of OLMo-core's blocks that are checkpointed one by one"
"""What stays between them: at most the input of each."""
PRIME_RL = "activations of prime-rl's model code"
"""What its own layers, compiled and with what they save on the host, and its losses take in place of transformers'."""
SGLANG = "SGLang's share of the card"
"""What its engine keeps beside weights, keys and values, and how much of the card it finds."""
ON_CPU = "training on the CPU"
"""In host memory, of which the estimate has the processes alone."""
OTHER_ACCELERATOR = "kernels of an accelerator that runs no CUDA"

TAKES_OF_CALLS = {
    BESIDE_ADAPTER: "more",
    PROJECTOR_BESIDE: "more",
    TUNED_BESIDE: "more",
    GENERATES: "more",
    GENERATES_BESIDE: "more",
    GENERATES_TO_EVALUATE: "more",
    GRAPH_TO_EVALUATE: "more",
    FORWARD_BESIDE: "more",
    MADE_AGAIN: "more",
    GROWN: "more",
    GRAPHS: "more",
    KEPT_OF_EACH: "more",
    NARROW_LOSS: "less",
    TAKEN_OFF: "less",
    WIDE_PART: "more",
    CAST_LOGITS: "more",
    LARGE: "more",
    NO_GRAPH: "less",
    f"the states of {IN_SHARDS}": "less",
    STATE_DICT_ON_CARD: "more",
    GATHERED: "more",
}
"""What scripts/uncounted/own_steps.py finds in calls -> what that takes beside the estimate, where it is not `either`."""

MAKES = " makes of the model"
"""How scripts/uncounted/own_steps.py ends what it says of a function or class that a model is put through."""


def adds_to_model(cls: str) -> str:
    """Return by which words a class of the script's own is told that makes the model."""
    return f"what {cls} adds to the model"
