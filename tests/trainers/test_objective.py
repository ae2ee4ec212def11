"""What a script trains for: read from TRL's names, from classes of the script's own, and from the heads that it loads."""

from __future__ import annotations

import pytest
from said_versions import named_libraries

from preflight.formulas.objective import takes_cross_entropy
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launch_facts import TrainerFacts
from preflight.trainers.arguments import read_trainer_arguments
from preflight.trainers.older_pairs import UNPAIRED

VERSIONS = {"trl": "1.16.0", "transformers": "5.24.0", "torch": "2.13.0"}
MADE = """
import sys
from transformers import AutoModelForCausalLM, HfArgumentParser
from trl import {name}Config, {name}Trainer
args, = HfArgumentParser({name}Config).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("org/model")
{more}
trainer = {name}Trainer(model=model, args=args, train_dataset=rows{given})
trainer.train()
"""
REFERENCE = 'reference = AutoModelForCausalLM.from_pretrained("org/{}")'


def read(text: str, folder, *words: str):
    (folder / "train.py").write_text(text)
    argv = ("python", "train.py", "--output_dir", "out", *words)
    command = LaunchCommand(argv, cwd=str(folder))
    return read_trainer_arguments(argv[2:], 2, command, named_libraries(VERSIONS), "train.py")


def value(arguments, name: str):
    setting = arguments.settings.get(name)
    return None if setting is None else setting.value


def unpriced(arguments) -> list[str]:
    return [notice.unpriced for notice in arguments.notices if notice.unpriced]


@pytest.mark.parametrize(
    ("name", "objective", "loss"),
    [
        ("DPO", "dpo", "chunked_linear"),
        ("KTO", "kto", "chunked_linear"),
        ("ORPO", "orpo", "full_logits"),
        ("CPO", "cpo", "full_logits"),
        ("Reward", "reward", "full_logits"),
        ("OnlineDPO", "online_dpo", "full_logits"),
    ],
)
def test_a_trainer_of_trl_says_what_it_trains_for(tmp_path, name, objective, loss):
    arguments = read(MADE.format(name=name, more="", given=""), tmp_path)

    assert value(arguments, "objective") == objective
    assert value(arguments, "loss") == loss
    assert not unpriced(arguments)


@pytest.mark.parametrize("name", ["PPO", "BCO", "PRM"])
def test_what_no_formula_holds_is_named(tmp_path, name):
    arguments = read(MADE.format(name=name, more="", given=""), tmp_path)

    assert value(arguments, "objective") in ("ppo", "bco", "prm")
    assert unpriced(arguments)


def test_a_reference_that_is_set_on_the_trainer_is_the_scripts(tmp_path):
    plain, later = (
        read(MADE.format(name="DPO", more="", given="") + more, tmp_path)
        for more in ("", "\ntrainer.ref_model = trainer.ref_model.float()\n")
    )

    assert not unpriced(plain)
    assert unpriced(later)


def test_a_loss_may_be_an_objective_of_its_own(tmp_path):
    ipo = read(MADE.format(name="DPO", more="", given=""), tmp_path, "--loss_type", "ipo")
    simpo = read(MADE.format(name="CPO", more="", given=""), tmp_path, "--loss_type", "simpo")

    assert value(ipo, "objective") == "ipo"
    assert value(simpo, "objective") == "simpo"


MORE = """
class Mine(DPOTrainer):
    def concatenated_forward(self, model, batch):
        return model(**batch).hidden_states
"""


def test_a_trainer_that_is_derived_from_trls_may_hold_more(tmp_path):
    text = MADE.format(name="DPO", more=MORE, given="")
    arguments = read(text.replace("trainer = DPOTrainer(", "trainer = Mine("), tmp_path)

    assert value(arguments, "objective") == "dpo"
    assert [n.takes for n in arguments.notices if n.unpriced] == ["either"]


@pytest.mark.parametrize("name", ["TPO", "SDPO", "AsyncGRPO", "MiniLLM"])
def test_a_trainer_of_trls_that_nobody_prices_is_named_and_bounds_nothing(tmp_path, name):
    arguments = read(MADE.format(name=name, more="", given=""), tmp_path)
    (named,) = (notice for notice in arguments.notices if notice.unpriced)

    assert value(arguments, "objective") is None
    assert (named.unpriced, named.takes) == (f"the trainer {name}Trainer", "either")


def test_a_trainer_of_trls_that_is_only_imported_changes_nothing(tmp_path):
    text = MADE.format(name="SFT", more="from trl.experimental.tpo import TPOTrainer", given="")

    assert not unpriced(read(text, tmp_path))


def test_a_keyword_that_the_newest_release_has_no_more_is_read(tmp_path):
    text = MADE.format(name="DPO", more="args = DPOConfig('o', rpo_alpha=1.0)", given="")
    text = text.replace("args, = HfArgumentParser(DPOConfig).parse_args_into_dataclasses()", "")
    (tmp_path / "train.py").write_text(text)
    argv = ("python", "train.py")
    libraries = named_libraries({"trl": "0.19.1", "transformers": "4.53.3", "torch": "2.7.0"})
    command = LaunchCommand(argv, cwd=str(tmp_path))
    arguments = read_trainer_arguments((), 2, command, libraries, "train.py")

    assert unpriced(arguments) == ["a cross entropy beside log-probabilities"]


def test_one_of_several_trainers_is_not_told(tmp_path):
    text = MADE.format(name="DPO", more="if sft:\n    SFTTrainer(model=model)\n", given="")
    arguments = read(text, tmp_path)

    assert value(arguments, "objective") is None
    assert unpriced(arguments)


@pytest.mark.parametrize(
    ("more", "given", "reference", "is_known"),
    [
        ("", "", None, True),
        ("", ", ref_model=None", None, True),
        (REFERENCE.format("model"), ", ref_model=reference", "same", True),
        (REFERENCE.format("other"), ", ref_model=reference", None, False),
        ("reference = build()", ", ref_model=reference", None, False),
        ("reference = create_reference_model(model)", ", ref_model=reference", "same", True),
        ("reference = create_reference_model(other)", ", ref_model=reference", None, False),
        ("reference = None", ", ref_model=reference", None, True),
        # beside an adapter there is none, and whether there is one says which
        (f"reference = None\nif full:\n    {REFERENCE.format('model')}", ", ref_model=reference", None, True),
        (REFERENCE.format("model"), ", ref_model=None if args.peft else reference", None, True),
    ],
)  # fmt: skip
def test_a_reference_of_the_same_name_is_a_second_copy(tmp_path, more, given, reference, is_known):
    text = MADE.format(name="DPO", more=more, given=given)
    second = given.replace(" ref_model=", "")
    in_order = MADE.format(name="DPO", more=more, given="").replace(
        "model=model,", f"model{second},"
    )
    collected = MADE.format(
        name="DPO", more=f"{more}\nmore = dict(model=model{given})", given=", **more"
    )
    for each in (text, in_order, collected.replace("model=model, args", "args")):
        arguments = read(each, tmp_path)

        assert value(arguments, "reference_model") == reference
        assert bool(unpriced(arguments)) is not is_known


NAMED = """
from transformers import HfArgumentParser
from trl import DPOConfig, DPOTrainer
args, own = HfArgumentParser((DPOConfig, ModelArguments)).parse_args_into_dataclasses()
model = own.model_name_or_path
ref_model = model
{more}
DPOTrainer(model, ref_model, args=args, train_dataset=rows, model_init_kwargs=settings{given}).train()
"""
BESIDE = "if own.use_peft is True:\n    ref_model = None"


@pytest.mark.parametrize(
    ("more", "given", "reference", "is_priced"),
    [
        ("", ", ref_model_init_kwargs=settings", "same", True),
        (BESIDE, ", ref_model_init_kwargs=settings", None, True),  # as there is an adapter or not
        ("", "", None, False),  # loaded in fp32
        ("ref_model = own.reference", ", ref_model_init_kwargs=settings", None, False),
    ],
)
def test_a_reference_by_the_models_own_name_is_a_second_copy(
    tmp_path, more, given, reference, is_priced
):
    text = NAMED.format(more=more, given=given)
    (tmp_path / "train.py").write_text(text)
    command = LaunchCommand(("python", "train.py"), cwd=str(tmp_path))
    releases = named_libraries({**VERSIONS, "trl": "0.8.6"})
    arguments = read_trainer_arguments((), 2, command, releases, "train.py")

    assert value(arguments, "reference_model") == reference
    assert (not unpriced(arguments)) is is_priced


@pytest.mark.parametrize("copy", ["deepcopy(model)", "trl.create_reference_model(model)"])
def test_a_reference_that_is_a_copy_of_the_model_is_a_second_one(tmp_path, copy):
    text = MADE.format(name="DPO", more=f"ref_model = {copy}", given=", ref_model=ref_model")
    arguments = read(text, tmp_path)

    assert value(arguments, "reference_model") == "same" and not unpriced(arguments)


OWN = """
from trl import DPOTrainer
class OwnTrainer(DPOTrainer):
    def {method}(self, *given):
        return given
"""


@pytest.mark.parametrize("is_beside", [True, False])
@pytest.mark.parametrize(
    ("method", "is_plain"),
    [
        ("tokenize_row", True),
        ("_get_train_sampler", True),
        ("dpo_loss", True),
        ("compute_loss", False),
    ],
)
def test_a_trainer_of_ones_own_that_only_prepares_rows_is_the_one_below(
    tmp_path, method, is_plain, is_beside
):
    own = OWN.format(method=method)
    (tmp_path / "own.py").write_text(own)
    taken = "from own import OwnTrainer" if is_beside else own
    text = MADE.format(name="DPO", more="", given="").replace(
        "DPOTrainer(model", "OwnTrainer(model"
    )
    arguments = read(f"{taken}\n{text}", tmp_path)

    assert value(arguments, "objective") == "dpo"
    assert (not unpriced(arguments)) is is_plain


BUILT = {
    "by the same call": ("get_model(named, args)", "get_model(named, args)", "same"),
    "by another call": ("get_model(named, args)", "get_model(other, args)", None),
    "and one of them anew": (
        "get_model(named, args)\nmodel = wrapped(model)",
        "get_model(named, args)",
        None,
    ),
    "by nothing that is called": ("held", "held", None),
}


@pytest.mark.parametrize(("model", "reference", "is_copy"), BUILT.values(), ids=BUILT)
@pytest.mark.parametrize(
    "given", ["model, reference, args=args", "model=model, ref_model=reference"]
)
def test_a_reference_that_a_helper_builds_alike_is_a_second_copy(
    tmp_path, model, reference, is_copy, given
):
    text = MADE.format(name="DPO", more=f"ref_model = {reference}", given="")
    text = text.replace('AutoModelForCausalLM.from_pretrained("org/model")', model)
    text = text.replace("model=model, args=args", given.replace("reference", "ref_model"))
    arguments = read(text, tmp_path)

    assert value(arguments, "reference_model") == is_copy
    assert bool(unpriced(arguments)) is (is_copy is None)


def test_a_reference_that_is_computed_before_is_none(tmp_path):
    text = MADE.format(name="DPO", more="", given="")
    arguments = read(text, tmp_path, "--precompute_ref_log_probs", "true")

    assert value(arguments, "reference_model") == "none"


@pytest.mark.parametrize(
    ("head", "objective"),
    [("ForTokenClassification", "token_classification"), ("ForMaskedLM", "masked_lm")],
)
def test_a_head_that_is_loaded_says_what_is_trained(tmp_path, head, objective):
    text = f"""
from transformers import AutoModel{head}, HfArgumentParser, Trainer, TrainingArguments
args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModel{head}.from_pretrained("org/model", num_labels=9)
Trainer(model=model, args=args, train_dataset=rows).train()
"""

    assert value(read(text, tmp_path), "objective") == objective


def test_rows_that_a_loss_of_the_scripts_own_pairs_are_not_counted_as_one(tmp_path):
    text = """
from transformers import AutoModelForSequenceClassification, HfArgumentParser, Trainer, TrainingArguments
class Pairs(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
        chosen = model(**inputs["chosen"]).logits
        return (model(**inputs["rejected"]).logits - chosen).mean()
args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForSequenceClassification.from_pretrained("org/model", num_labels=1)
Pairs(model=model, args=args, train_dataset=rows).train()
"""

    assert value(read(text, tmp_path), "objective") == "scored_in_turn"


def test_an_older_release_that_saves_logits_refuses_nothing(tmp_path):
    text = MADE.format(name="DPO", more=MORE, given="")
    text = text.replace("trainer = DPOTrainer(", "trainer = Mine(")
    arguments = read(text, tmp_path, "--padding_free", "true")

    assert {notice.takes for notice in arguments.notices if notice.unpriced} == {"either"}


def test_a_script_that_is_only_named_after_a_trainer_is_not_priced_as_it(tmp_path):
    argv = ("python", "dpo_tune.py", "--bf16", "true", "--warmup_ratio", "0.1")
    command = LaunchCommand(argv, cwd=str(tmp_path))
    arguments = read_trainer_arguments(
        argv[2:], 2, command, named_libraries(VERSIONS), "dpo_tune.py"
    )

    assert value(arguments, "objective") == "dpo"
    assert unpriced(arguments)


@pytest.mark.parametrize(
    ("words", "trl", "named"),
    [
        ("", "0.24.0", []),
        ("", "1.12.0", []),
        ("--use_liger_kernel true", "1.12.0", []),
        ("--use_liger_loss true", "0.24.0", []),
        ("--use_logits_to_keep true", "0.24.0", ["logits of completions alone"]),
        ("--padding_free true", "0.24.0", []),
        ("--padding_free true --use_liger_kernel true", "0.24.0", []),
        ("--padding_free true --use_liger_loss true", "0.24.0", [UNPAIRED.name]),
        ("--padding_free true --use_liger_kernel true", "0.28.0", [UNPAIRED.name]),
        ("--padding_free true", "1.12.0", []),
        ("--rpo_alpha 1.0", "0.24.0", ["a cross entropy beside log-probabilities"]),
        ("--loss_type sft sigmoid", "1.12.0", ["a cross entropy beside log-probabilities"]),
    ],
)
def test_what_an_older_dpo_reads_beside_whole_logits_is_named(tmp_path, words, trl, named):
    argv = ("trl", "dpo", "--model_name_or_path", "a/b", "--output_dir", "out", *words.split())
    libraries = named_libraries({**VERSIONS, "trl": trl})
    arguments = read_trainer_arguments(
        argv[2:], 2, LaunchCommand(argv, cwd=str(tmp_path)), libraries, "trl.scripts.dpo"
    )

    assert unpriced(arguments) == named


@pytest.mark.parametrize(
    ("argv", "takes"),
    [((), True), (("--cpo_alpha", "0"), False), (("--cpo_alpha", "0.05"), True)],
)
def test_simpo_of_trl_has_a_cross_entropy_unless_cpo_alpha_is_0(tmp_path, argv, takes):
    text = MADE.format(name="CPO", more="", given="")
    arguments = read(text, tmp_path, "--loss_type", "simpo", *argv)
    facts = TrainerFacts("cpo", {**arguments.raw, **arguments.arguments})
    plan = LaunchPlan(objective="simpo", trainer="trl", trainer_facts=facts)

    assert takes_cross_entropy(plan) is takes
