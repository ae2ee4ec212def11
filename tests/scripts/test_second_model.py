"""A model that a script loads beside the one that it trains is not priced, and is named."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.unpriced_names import SECOND_MODEL

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Trainer, TrainingArguments, pipeline

tokenizer = AutoTokenizer.from_pretrained("gpt2")
generation = GenerationConfig.from_pretrained("gpt2")
{load}
args = TrainingArguments(output_dir="o", per_device_train_batch_size=1)
trainer = Trainer(model=model, args=args, train_dataset=rows)
trainer.train()
{after}
"""
LOAD = 'model = AutoModelForCausalLM.from_pretrained("gpt2")'


def beside(folder, load=LOAD, after=""):
    files = {"train.py": SCRIPT.format(load=load, after=after)}
    plan = plan_of(folder, "python train.py", files)
    return plan.script_facts.uncounted.get(SECOND_MODEL)


@pytest.mark.parametrize(
    "load",
    [
        LOAD + '\nteacher = AutoModelForCausalLM.from_pretrained("gpt2-xl")',
        LOAD + '\nfixed = AutoModelForCausalLM.from_pretrained("gpt2-xl").eval()',
        LOAD + '\nif ready():\n    judge = AutoModelForCausalLM.from_pretrained("gpt2-xl")',
        LOAD + '\nclip = CLIPModel.from_pretrained("openai/clip")',
        LOAD + '\nself.vae = AutoencoderKL.from_pretrained("vae")',
        LOAD + '\nscore = pipeline("text-classification", model="some/reward")',
        LOAD + "\nfrom trl import create_reference_model\nfixed = create_reference_model(model)",
        LOAD + '\nimport timm\nseen = timm.create_model("vit_large_patch16_224")',
        LOAD
        + '\nimport open_clip\nseen, _, cut = open_clip.create_model_and_transforms("ViT-H-14")',
        LOAD + '\nimport evaluate\nscores = evaluate.load("bertscore")',
        LOAD + '\nfrom detoxify import Detoxify\nmild = Detoxify("original", device="cuda")',
        LOAD + '\nfrom kit.scores import Scorer\nscore = Scorer("large", device="cuda:0")',
        LOAD + '\nfixed = type(model).from_pretrained("gpt2-xl")',
        LOAD + '\nkind = AutoModelForCausalLM\nfixed = kind.from_pretrained("gpt2-xl")',
        LOAD + "\nfixed = AutoModelForCausalLM.from_config(model.config)",
        LOAD + '\nscorer = build_scoring_model().to("cuda")',
        LOAD + '\nscorer = torch.load("scorer.pt").cuda()',
        LOAD + "\nfrom torch import nn\nlast = nn.Linear(4096, 128256).to(device)",
        LOAD + "\nlast = torch.nn.Sequential(*layers()).cuda()",
        LOAD + "\nclass Big(torch.nn.Module):\n    pass\nbig = Big().to(device)",
        LOAD + f"\ndef load(name):\n    return {LOAD.partition(' = ')[2]}\nfixed = load('gpt2-xl')",
        f"def load(name):\n    return {LOAD.partition(' = ')[2]}\nmodel = load('gpt2')\nfixed = load('b')",
    ],
)
def test_a_model_that_does_not_train_is_found(tmp_path, load):
    assert beside(tmp_path, load) is not None


@pytest.mark.parametrize(
    ("load", "after"),
    [
        (LOAD, ""),
        (f"if ready():\n    {LOAD}\nelse:\n    {LOAD}", ""),
        (LOAD + '\nmodel = PeftModel.from_pretrained(model, "adapter")', ""),
        (LOAD, 'pipe = pipeline("text-generation", model=model)'),
        (LOAD, 'del model, trainer\nbase = AutoModelForCausalLM.from_pretrained("gpt2")'),
        (LOAD + '\nrows = collate(tokenizer("text")).to("cuda")', ""),
        (LOAD + "\nmodel = model.to(device)\nweights = torch.load('optimizer.pt')", ""),
        (f"def load(name):\n    return {LOAD.partition(' = ')[2]}\nmodel = load('gpt2')", ""),
        (LOAD + '\nimport evaluate\nscores = evaluate.load("accuracy")', ""),
        (LOAD + '\nfrom kit.scores import Scorer\nscore = Scorer("large", device="cpu")', ""),
        (LOAD + "\ndiffers = torch.nn.CrossEntropyLoss().to(device)", ""),
        (LOAD + '\nnoise = torch.Generator(device="cuda")', ""),
        (LOAD + "\nscheduler = DDPMScheduler.from_config(read())", ""),
        (LOAD + '\nif False:\n    teacher = AutoModelForCausalLM.from_pretrained("x")', ""),
    ],
)
def test_one_model_in_several_ways_is_one(tmp_path, load, after):
    assert beside(tmp_path, load, after) is None


ONLINE = """\
from transformers import AutoModelForCausalLM, pipeline
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

def short(completions, **rest):
    return [-len(each) for each in completions]

{load}
{names}
trainer = GRPOTrainer(model=model, reward_funcs={rewards}, args=GRPOConfig("o", bf16=True), train_dataset=rows)
trainer.train()
"""


def online(folder, rewards, names="pass"):
    text = ONLINE.format(load=LOAD, names=names, rewards=rewards)
    return plan_of(folder, "python train.py", {"train.py": text})


@pytest.mark.parametrize(
    ("rewards", "names", "models"),
    [
        ("short", "pass", None),
        ("[short, lambda completions, **rest: 1]", "pass", None),
        ('"some/reward"', "pass", ("some/reward",)),
        ('[short, "some/reward"]', "pass", ("some/reward",)),
        ("scores", 'scores = ["some/reward", short]', ("some/reward",)),
        ("scores", 'name = "some/reward"\nscores = name', ("some/reward",)),
        ("scores", 'scores = [short]\nscores.append("some/reward")', ("some/reward",)),
    ],
)
def test_a_reward_that_is_named_is_a_model_wherever_its_name_stands(
    tmp_path, rewards, names, models
):
    text = ONLINE.format(load=LOAD, names=names, rewards=rewards)
    in_order = text.replace("model=model, reward_funcs=", "model, ")
    for each in (text, in_order):
        plan = plan_of(tmp_path, "python train.py", {"train.py": each})

        assert plan.reward_models == models
        assert SECOND_MODEL not in plan.script_facts.uncounted


@pytest.mark.parametrize(
    ("rewards", "names", "unpriced"),
    [
        ("scores", 'scores = ["some/reward", "another/reward"]', "several reward models"),
        (
            "lambda completions, **rest: score(completions)",
            'score = pipeline("text-classification", model="some/reward")',
            SECOND_MODEL,
        ),
        (
            "short",
            'judge = AutoModelForCausalLM.from_pretrained("gpt2-xl").cuda()',
            SECOND_MODEL,
        ),
    ],
)
def test_what_scores_and_no_plan_holds_is_named(tmp_path, rewards, names, unpriced):
    plan = online(tmp_path, rewards, names)

    assert unpriced in {each.unpriced for each in plan.notices}


@pytest.mark.parametrize(
    ("rewards", "names", "is_named"),
    [
        ("score", "from my_rewards import score", True),
        ("scores", "import my_rewards\nscores = [short]\nscores.append(my_rewards.score)", True),
        ("[scores[name] for name in args.names]", "from my_rewards import scores", True),
        ("score", "from beside import score", False),
        ("[short, partial(short, 2)]", "from functools import partial", False),
        ("scores", "from trl.rewards import think_format_reward as f\nscores = [f]\nscores = [*scores, short]", False),
    ],
)  # fmt: skip
def test_a_reward_of_a_module_that_is_not_here_may_load_a_model(tmp_path, rewards, names, is_named):
    (tmp_path / "beside.py").write_text(
        "def score(completions, **rest): return [1 for _ in completions]\n"
    )
    plan = online(tmp_path, rewards, names)

    assert (
        "a reward function that is not here" in {each.unpriced for each in plan.notices}
    ) is is_named


def test_beside_a_model_that_the_trainer_loads_by_its_name_every_other_is_one(tmp_path):
    names = 'fixed = AutoModelForCausalLM.from_pretrained("gpt2-xl")'
    for more, is_beside in ((names, True), ("pass", False)):
        text = ONLINE.format(load="", names=more, rewards="short").replace(
            "model=model", 'model="gpt2"'
        )
        plan = plan_of(tmp_path, "python t.py", {"t.py": text})

        assert plan.model == "gpt2"
        assert (SECOND_MODEL in {each.unpriced for each in plan.notices}) is is_beside


def test_a_reference_that_a_trainer_is_given_is_its_objectives(tmp_path):
    pair = 'DPOTrainer(model=model, {given}, args=DPOConfig("o", bf16=True), train_dataset=rows).train()'
    for given, is_beside in (("ref_model=fixed", False), ("train=fixed", True)):
        text = ONLINE.partition("trainer =")[0] + pair.format(given=given)
        names = 'fixed = AutoModelForCausalLM.from_pretrained("gpt2")'
        plan = plan_of(tmp_path, "python t.py", {"t.py": text.format(load=LOAD, names=names)})

        assert (SECOND_MODEL in {each.unpriced for each in plan.notices}) is is_beside
