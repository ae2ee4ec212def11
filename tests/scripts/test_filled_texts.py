"""What Python makes of a text that is filled in, cut or joined, and of numbers that are rounded, is what a plan has of it."""

from __future__ import annotations

import ast
import json
import math

import pytest
from launch_of_script import plan_of

SCRIPT = """\
import argparse, ast, json, math
import os.path
from math import ceil
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--size")
parser.add_argument("--rows", type=int)
args = parser.parse_args()
size, rows = args.size, args.rows
model = AutoModelForCausalLM.from_pretrained({name})
training = TrainingArguments("out", per_device_train_batch_size={count})
Trainer(model=model, args=training).train()
"""


def read(tmp_path, name="'gpt2'", count="4"):
    files = {"train.py": SCRIPT.format(name=name, count=count)}
    return plan_of(tmp_path, "python train.py --size 7b --rows 3", files)


@pytest.mark.parametrize(
    "name",
    [
        "'llama-{}-hf'.format(size)",
        "'llama-{0}-{0}'.format(size)",
        "'{family}-{size}'.format(family='llama', size=size)",
        "'llama-%s' % size",
        "'%s/llama-%d-%s' % ('own', rows, size)",
        "'-'.join(['llama', size, 'hf'])",
        "('llama-' + size + '/').rstrip('/')",
        "('own/llama-' + size).rsplit('/', 1)[-1]",
        "('hf:llama-' + size).removeprefix('hf:')",
        "('llama-' + size + '@main').partition('@')[0]",
        "ast.literal_eval(\"['llama', 'opt']\")[0]",
        "json.loads('{\"name\": \"llama\"}')['name']",
        "os.path.join('own', 'llama-' + size)",
        "'llama' if 1 < rows <= 3 else 'opt'",
        "'llama' if 1 < rows < 3 else 'opt'",
    ],
)
def test_a_text_is_what_python_makes_of_it(tmp_path, name):
    told = {"ast": ast, "json": json, "os": __import__("os"), "size": "7b", "rows": 3}

    assert read(tmp_path, name=name).model == eval(name, told)


@pytest.mark.parametrize(
    "name",
    ["'{:>99}'.format(size)", "'%99s' % size", "'{0[0]}'.format(size)", "'llama-{}'.format(args)"],
)
def test_one_that_is_as_wide_as_it_says_is_not_known(tmp_path, name):
    assert read(tmp_path, name=name).model is None


@pytest.mark.parametrize(
    "name",
    [
        "'a'" + ".replace('a', 'aa')" * 60,
        "'{0}{0}'.format('{0}{0}'.format('{0}'.format('" + "a" * 9000 + "')))",
        "ast.literal_eval('" + "-" * 10_000 + "1')",
        "json.loads('" + "[" * 10_000 + "')",
    ],
)
def test_one_that_would_fill_memory_is_not_made(tmp_path, name):
    assert read(tmp_path, name=name).model is None


@pytest.mark.parametrize(
    "count",
    ["math.ceil(7 / rows)", "ceil(7 / rows)", "math.floor(7 / rows)", "round(7 / rows)", "sum([1, rows])"],
)  # fmt: skip
def test_a_number_is_what_python_makes_of_it(tmp_path, count):
    told = {"math": math, "ceil": math.ceil, "rows": 3}

    assert read(tmp_path, count=count).micro_batch_size == eval(count, told)
