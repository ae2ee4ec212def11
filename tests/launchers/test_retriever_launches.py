"""Modules of FlagEmbedding and Tevatron, which nobody has as files, say what they train by their arguments."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight import estimate
from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request

EMBEDDER = "FlagEmbedding.finetune.embedder.encoder_only.base"
OLDER = "FlagEmbedding.baai_general_embedding.finetune.run"
DECODER = "FlagEmbedding.finetune.embedder.decoder_only.base"
RERANKER = "FlagEmbedding.finetune.reranker.encoder_only.base"


def report_of(
    tmp_path,
    module: str,
    words: str,
    model: str = "BAAI/bge-large-en-v1.5",
    precision: str = "--fp16",
):
    argv = (
        f"torchrun --nproc_per_node 2 -m {module} --output_dir out --model_name_or_path {model}"
        f" --train_data a.jsonl {precision} --per_device_train_batch_size 4 {words}"
    )
    return check_launch(
        LaunchCommand(tuple(argv.split()), cwd=str(tmp_path)),
        load_plugins(),
        Request(device="h100-sxm-80"),
    )


@pytest.mark.parametrize(
    ("module", "words", "objective", "texts", "length"),
    [
        (EMBEDDER, "--train_group_size 2 --query_max_len 64 --passage_max_len 256", "embedding", 3, 256),
        (EMBEDDER, "--query_max_len 512", "embedding", 9, 512),
        (OLDER, "", "embedding", 9, 128),
        (RERANKER, "--query_max_len 128 --passage_max_len 256", "sequence_classification", 8, 384),
        ("FlagEmbedding.reranker.run", "--train_group_size 16", "sequence_classification", 16, 512),
        ("FlagEmbedding.reranker.run", "--max_len 256", "sequence_classification", 8, 256),
    ],
)  # fmt: skip
def test_texts_of_a_row_and_their_length_are_its_arguments(
    tmp_path, module, words, objective, texts, length
):
    report = report_of(tmp_path, module, words)

    assert (report.plan.objective, report.plan.texts_per_row) == (objective, texts)
    assert report.plan.seq_len == length
    assert report.final_verdict.answer.value == "fits"


@pytest.mark.parametrize("name", ["embedder.encoder_only.m3", "embedder.decoder_only.icl"])
def test_a_module_without_a_formula_is_named(tmp_path, name):
    report = report_of(tmp_path, f"FlagEmbedding.finetune.{name}", "")

    assert report.verdict.answer.value == "unknown"
    assert f"FlagEmbedding.finetune.{name}" in report.verdict.unpriced


def test_shorter_queries_and_ranks_that_share_negatives_are_seen(tmp_path):
    def bytes_of(name: str, words: str) -> int:
        report = report_of(tmp_path, EMBEDDER, f"--passage_max_len 256 {words}")
        return sum(term.num_bytes for term in report.estimate.terms if term.name == name)

    waiting, compared = "activations of texts that wait", "embeddings, compared"
    short, long = (bytes_of(waiting, f"--query_max_len {n}") for n in (32, 256))

    assert long == pytest.approx(8 * short, rel=0.1)
    assert bytes_of(compared, "") < bytes_of(compared, "--negatives_cross_device")


@pytest.mark.parametrize(
    ("module", "words", "adapter", "dtype"),
    [
        ("tevatron.retriever.driver.train", "--lora --bf16 --lora_target_modules q_proj,v_proj", (16, 2), "bf16"),
        ("tevatron.retriever.driver.train", "--bf16", None, "bf16"),
        ("tevatron.retriever.driver.train", "", None, "fp32"),
        (DECODER, "--bf16", (64, 7), None),
        (DECODER, "--bf16 --use_lora True --lora_rank 32 --target_modules q_proj k_proj v_proj o_proj", (32, 4), None),
        (DECODER, "--bf16 --use_lora False", None, None),
    ],
)  # fmt: skip
def test_a_decoder_is_adapted_and_loaded_as_the_module_does(
    tmp_path, module, words, adapter, dtype
):
    report = report_of(tmp_path, module, words, "mistralai/Mistral-7B-v0.1", "")
    found = report.plan.adapter

    assert (None if found is None else (found.rank, len(found.targets))) == adapter
    assert dtype in (None, report.plan.load_dtype)
    assert report.plan.objective == "embedding"
    assert not report.verdict.unpriced


@pytest.mark.parametrize(
    ("words", "length", "rank", "dtype"),
    [
        ("--bf16 --lora --rerank_max_len 256 --train_group_size 16", 256, 8, "bf16"),
        ("--bf16 --lora --lora_r 32 --train_group_size 16", 512, 32, "bf16"),
        ("--rerank_max_len 128 --train_group_size 16", 128, None, "fp32"),
        ("--rerank_max_len 196 --train_group_size 16", 208, None, "fp32"),
        ("--rerank_max_len 196 --train_group_size 16 --pad_to_multiple_of 64", 256, None, "fp32"),
    ],
)
def test_a_pair_that_a_decoder_scores_is_cut_and_loaded_as_tevatron_does(
    tmp_path, words, length, rank, dtype
):
    report = report_of(
        tmp_path, "tevatron.reranker.driver.train", words, "mistralai/Mistral-7B-v0.1", ""
    )
    plan = report.plan

    assert (plan.objective, plan.texts_per_row) == ("sequence_classification", 16)
    assert (plan.seq_len, plan.load_dtype) == (length, dtype)
    assert (None if plan.adapter is None else plan.adapter.rank) == rank
    assert not report.verdict.unpriced


def test_a_query_with_its_passages_takes_what_as_many_rows_take(tmp_path):
    words = "--bf16 --lora --rerank_max_len 256 --train_group_size 16 --gradient_checkpointing"
    report = report_of(
        tmp_path, "tevatron.reranker.driver.train", words, "mistralai/Mistral-7B-v0.1", ""
    )
    rows = replace(report.plan, micro_batch_size=16 * 4, texts_per_row=None)

    assert report.estimate is not None
    told = {term.name: term.num_bytes for term in report.estimate.terms}
    assert told == {term.name: term.num_bytes for term in estimate(rows).terms}


def test_a_deepspeed_file_that_is_not_in_this_folder_leaves_the_engine_open(tmp_path):
    report = report_of(tmp_path, EMBEDDER, "--deepspeed ../ds_stage0.json")

    assert len(report.plan.origins["engine"].may_be) > 1
    assert report.final_verdict.answer.value == "fits"
    assert "PF133" in {finding.id for finding in report.findings}
