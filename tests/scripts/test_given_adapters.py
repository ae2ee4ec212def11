"""An adapter, or a packed model, is where its config reaches what takes it: Python itself says of every shape where it does."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

IMPORTS = """\
import argparse, json
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer
"""
LOAD = 'model = AutoModelForCausalLM.from_pretrained("gpt2")'
SWITCH = 'parser = argparse.ArgumentParser()\nparser.add_argument("--on", action="store_true")\non = parser.parse_args().on'
ASK = 'on = json.load(open("settings.json"))["on"]'
MAKE = "config = LoraConfig(r=4)"
TRAIN = "SFTTrainer(model, args=SFTConfig('out'), train_dataset=[]{}).train()"
GIVEN = TRAIN.format(", peft_config=config")
ALONE = TRAIN.format("")


def function(*lines, default=""):
    return "\n    ".join((f"def train(config{default}):", LOAD, *lines))


KEEPS = f"""class Run:
    def __init__(self, config=None):
        self.config = config

    def go(self):
        {LOAD}
        {TRAIN.format(", peft_config=self.config")}"""
WAYS = {
    "handed": (LOAD, MAKE, GIVEN),
    "shown alone": (LOAD, MAKE, "print(config)", ALONE),
    "of a name that a function has too": (function(GIVEN), MAKE, "train(config=None)"),
    "left to a default": (function(GIVEN, default="=None"), MAKE, "train()"),
    "given to a function": (function(GIVEN, default="=None"), MAKE, "train(config)"),
    "given to one of two calls": (function(GIVEN), MAKE, ASK, "train(config) if on else train(None)"),
    "made where none is given": (function("if config is None:\n        config = LoraConfig(r=4)", GIVEN, default="=None"), "train()"),
    "made where asked": (function(f"{ASK}\n    if on:\n        config = LoraConfig(r=4)", GIVEN, default="=None"), "train()"),
    "put on where a function has one": (function("if config is not None:\n        model = get_peft_model(model, config)", ALONE), MAKE, "train(None)"),
    "switched on": (LOAD, MAKE, SWITCH, "if on:\n    model = get_peft_model(model, config)", ALONE),
    "switched on for a trainer": (LOAD, MAKE, SWITCH, f"if on:\n    {GIVEN}\nelse:\n    {ALONE}"),
    "one of two values": (LOAD, MAKE, SWITCH, TRAIN.format(", peft_config=config if on else None")),
    "asked for": (LOAD, MAKE, ASK, "if on:\n    model = get_peft_model(model, config)", ALONE),
    "asked for, or read": (LOAD, MAKE, ASK, "if on:\n    model = PeftModel.from_pretrained(model, 'old', is_trainable=True)\nelse:\n    model = get_peft_model(model, config)", ALONE),
    "asked for, or by the trainer": (LOAD, MAKE, ASK, "if on:\n    model = get_peft_model(model, config)", GIVEN),
    "in a dict": (LOAD, MAKE, "told = {'peft_config': config}", TRAIN.format(", **told")),
    "none in a dict": (LOAD, MAKE, "told = dict(peft_config=None)", "print(config)", TRAIN.format(", **told")),
    "given back or not": ("def make(on):\n    config = LoraConfig(r=4)\n    return config if on else None", LOAD, SWITCH, TRAIN.format(", peft_config=make(on)")),
    "given back where asked": ("def make(on):\n    config = LoraConfig(r=4)\n    if on:\n        return config", LOAD, ASK, TRAIN.format(", peft_config=make(on)")),
    "left to the default of a constructor": (KEEPS, MAKE, "Run().go()"),
    "kept by a constructor": (KEEPS, MAKE, "Run(config).go()"),
    "one of a table": (LOAD, MAKE, SWITCH, "told = {'on': config, 'off': None}", TRAIN.format(", peft_config=told['on' if on else 'off']")),
    "of another kind, or none": (LOAD, "config = IA3Config()", SWITCH, TRAIN.format(", peft_config=config if on else None")),
    "of another kind, switched on": (LOAD, "config = IA3Config()", SWITCH, "if on:\n    model = get_peft_model(model, config)", ALONE),
    "left with a function": (LOAD, MAKE, "def merge(model, config):\n    print(model, config)", ALONE, "merge(model, config)"),
}  # fmt: skip
PACK = "config = BitsAndBytesConfig(load_in_4bit=True)"
PACKED = 'model = AutoModelForCausalLM.from_pretrained("gpt2"{})'
HANDED = PACKED.format(", quantization_config=config")
BY_DICT = PACKED.format(", **told")
PACKS = {
    "handed": (PACK, HANDED, ALONE),
    "never read": (PACK, LOAD, ALONE),
    "shown alone": (PACK, "print(config)", LOAD, ALONE),
    "of a name that a function has too": (f"def load(config=None):\n    {HANDED}\n    return model", PACK, "model = load()", ALONE),
    "given to a function": (f"def load(config=None):\n    {HANDED}\n    return model", PACK, "model = load(config)", ALONE),
    "in a dict": (PACK, "told = {'quantization_config': config}", BY_DICT, ALONE),
    "in a dict where switched on": (PACK, SWITCH, "told = {}\nif on:\n    told['quantization_config'] = config", BY_DICT, ALONE),
    "in a dict where asked": (PACK, ASK, "told = {}\nif on:\n    told['quantization_config'] = config", BY_DICT, ALONE),
    "put into a dict where asked": (PACK, ASK, "told = {}\nif on:\n    told.update(quantization_config=config)", BY_DICT, ALONE),
    "put into a dict by another where asked": (PACK, ASK, "told = dict()\nif on:\n    told.update(dict(quantization_config=config))", BY_DICT, ALONE),
    "put into a dict by another where switched on": (PACK, SWITCH, "told = {}\nif on:\n    told.update(dict(quantization_config=config))", BY_DICT, ALONE),
    "one of two values in a dict": (PACK, ASK, "told = dict(quantization_config=config if on else None)", BY_DICT, ALONE),
    "none in a dict": (PACK, SWITCH, "told = dict(quantization_config=config if on else None)", BY_DICT, ALONE),
    "given back or not": ("def make(on):\n    config = BitsAndBytesConfig(load_in_4bit=True)\n    return config if on else None", SWITCH, PACKED.format(", quantization_config=make(on)"), ALONE),
    "given back where asked": ("def make(on):\n    config = BitsAndBytesConfig(load_in_4bit=True)\n    return config if on else None", ASK, PACKED.format(", quantization_config=make(on)"), ALONE),
    "one of two that load": (PACK, ASK, f"if on:\n    {HANDED}\nelse:\n    {LOAD}", ALONE),
}  # fmt: skip


def of_python(lines, words):
    """Return whether what trains has an adapter, and whether it is packed, each for both answers to what is asked."""
    found = []
    for answer in (True, False):
        names = recorded(answer, words, trained := [])
        exec("\n".join(lines), names)
        found += trained
    adapted, packed = zip(*found, strict=True)
    return set(adapted), set(packed)


def recorded(answer, words, trained):
    """Return the names that a script imports, of things that note alone what they are given."""

    class Model:
        def __init__(self, name, config=None, quantization_config=None):
            self.has_adapter, self.is_packed = config is not None, quantization_config is not None

    class Base:
        from_pretrained = Model

    class Adapted:
        @staticmethod
        def from_pretrained(model, *_, **__):
            return put_on(model, object())

    class Trainer:
        def __init__(self, model, args=None, train_dataset=None, peft_config=None):
            trained.append((model.has_adapter or peft_config is not None, model.is_packed))

        def train(self):
            pass

    class Parser:
        def add_argument(self, *_, **__):
            pass

        def parse_args(self):
            return type("Parsed", (), {"on": "--on" in words})

    def put_on(model, config):
        model.has_adapter = config is not None
        return model

    class Asked:
        ArgumentParser = Parser

        @staticmethod
        def load(file):
            return {"on": answer}

    return {
        "LoraConfig": dict,
        "IA3Config": object,
        "BitsAndBytesConfig": dict,
        "SFTConfig": lambda *_: None,
        "PeftModel": Adapted,
        "get_peft_model": put_on,
        "AutoModelForCausalLM": Base,
        "SFTTrainer": Trainer,
        "argparse": Asked,
        "json": Asked,
        "open": str,
        "print": lambda *_: None,
    }


def is_there(plan, name):
    """Return the ways that a plan leaves for a field: with one, without, or both."""
    return {True, False} if name in opens(plan) else {getattr(plan, name) is not None}


@pytest.mark.parametrize("words", ["", " --on"], ids=["off", "on"])
@pytest.mark.parametrize("lines", WAYS.values(), ids=WAYS)
def test_an_adapter_is_there_where_its_config_reaches_what_takes_it(tmp_path, lines, words):
    plan = plan_of(tmp_path, f"python train.py{words}", {"train.py": "\n".join((IMPORTS, *lines))})
    adapted, _ = of_python(lines, words)

    assert adapted <= is_there(plan, "adapter")
    assert is_there(plan, "adapter") == adapted or lines in (WAYS["shown alone"], WAYS["left with a function"])  # fmt: skip


@pytest.mark.parametrize("words", ["", " --on"], ids=["off", "on"])
@pytest.mark.parametrize("lines", PACKS.values(), ids=PACKS)
def test_a_model_is_packed_where_it_is_loaded_with_the_config(tmp_path, lines, words):
    plan = plan_of(tmp_path, f"python train.py{words}", {"train.py": "\n".join((IMPORTS, *lines))})
    _, packed = of_python(lines, words)

    assert is_there(plan, "base_quantization") == packed
