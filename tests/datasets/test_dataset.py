"""How long the rows of real files are, and what the longest batch of them is for a plan."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from datasets import Dataset, Features, Image, Value
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from preflight.datasets.lengths import RowLengths, read_lengths, with_longest_batch
from preflight.errors import BadInput
from preflight.launch import LaunchPlan

TEMPLATE = "{% for m in messages %}{{ m.role + ' ' + m.content + ' ' }}{% endfor %}"


def json_lines(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def ids(*lengths: int) -> list[dict]:
    return [{"input_ids": list(range(length))} for length in lengths]


def problems_of(*paths: str, **options) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as error:
        read_lengths(paths, **options)
    return [
        (Path(p.where).name, p.message.removeprefix(f"{p.where} ")) for p in error.value.problems
    ]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    """A tokenizer of words: text is as many tokens as it has words, and one for its end."""
    words = {word: i for i, word in enumerate(["<unk>", "</s>", "a", "b", "user", "assistant"])}
    model = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tmp_path_factory.mktemp("tokenizer")
    made = PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token="</s>", unk_token="<unk>", chat_template=TEMPLATE
    )
    made.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet", "arrow", "feather"])
def test_every_format_gives_the_same_lengths(tmp_path, ending):
    rows = ids(3, 700, 20, 20)
    path = str(tmp_path / f"train.{ending}")
    if ending == "jsonl":
        json_lines(Path(path), *rows)
    elif ending == "jsonl.gz":
        Path(path).write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    elif ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif ending == "feather":
        pyarrow.feather.write_feather(pyarrow.Table.from_pylist(rows), path, "uncompressed")
    else:
        Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
        path = str(next((tmp_path / "saved").glob("*.arrow")))
    lengths = read_lengths((path,))

    assert lengths.counts == {3: 1, 700: 1, 20: 2}
    assert (lengths.longest_row, lengths.longest_tokens, lengths.num_rows) == (2, 700, 4)
    assert lengths.counted == "the length of input_ids"


def test_rows_of_many_batches_are_numbered_through(tmp_path):
    rows = [{"num_tokens": 10} for _ in range(9000)]
    rows[8765] = {"num_tokens": 11}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    told = []
    for path in (
        json_lines(tmp_path / "a.jsonl", *rows),
        str(tmp_path / "a.parquet"),
    ):
        lengths = read_lengths((path,), progress=lambda path, share: told.append(share))

        assert (lengths.num_rows, lengths.longest_row) == (9000, 8766)
    assert told and all(0 < share <= 1 for share in told)


def test_several_files_are_one_dataset(tmp_path):
    first = json_lines(tmp_path / "1.jsonl", *ids(5, 6))
    second = json_lines(tmp_path / "2.jsonl", *ids(1, 9, 2))
    lengths = read_lengths((first, second))

    assert (lengths.num_rows, lengths.longest_path, lengths.longest_row) == (5, second, 2)


def test_token_ids_count_before_a_number_that_somebody_wrote_down(tmp_path):
    path = json_lines(tmp_path / "a.jsonl", {"length": 99, "input_ids": [1, 2]})

    assert read_lengths((path,)).longest_tokens == 2
    assert read_lengths((path,), column="length").longest_tokens == 99


def test_text_is_counted_by_the_tokenizer_with_the_end_that_trl_adds(tmp_path, tokenizer):
    path = json_lines(tmp_path / "a.jsonl", {"text": "a b a"}, {"text": "a b </s>"})
    lengths = read_lengths((path,), tokenizer)

    assert lengths.counts == {4: 1, 3: 1}
    assert lengths.counted == "the tokens of text"


def test_prompt_and_completion_are_one_text(tmp_path, tokenizer):
    path = json_lines(tmp_path / "a.jsonl", {"prompt": "a b", "completion": " a b a"})

    assert read_lengths((path,), tokenizer).longest_tokens == 6


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_conversations_are_counted_by_the_chat_template(tmp_path, tokenizer, ending):
    messages = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "a"}]
    rows = [{"messages": messages}]
    path = tmp_path / f"a.{ending}"
    if ending == "jsonl":
        json_lines(path, *rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)

    assert read_lengths((str(path),), tokenizer).longest_tokens == 5


def test_old_names_of_a_conversation_are_read_too(tmp_path, tokenizer):
    said = [{"from": "user", "value": "a b"}, {"from": "assistant", "value": "a"}]
    path = json_lines(tmp_path / "a.jsonl", {"conversations": said})

    assert read_lengths((path,), tokenizer).longest_tokens == 5


def test_lengths_are_those_that_trl_trains_on(tmp_path, tokenizer):
    """TRL prepares the same rows itself: its input_ids are as long as we say."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    rows = [{"text": "a b a b"}, {"text": "b </s>"}, {"text": "a"}]
    path = json_lines(tmp_path / "a.jsonl", *rows)
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    trainer = SFTTrainer(
        LlamaForCausalLM(config),
        SFTConfig(output_dir=str(tmp_path), max_length=64, use_cpu=True, bf16=False, report_to=[]),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tokenizer, pad_token="</s>"),
    )
    trained_on = sorted(len(row["input_ids"]) for row in trainer.train_dataset)
    counts = read_lengths((path,), tokenizer).counts

    assert trained_on == sorted(n for n, rows in counts.items() for _ in range(rows))


def test_every_broken_line_is_told_with_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"length": 1}\n\n{"length": \n[1]\n{"lenght": 3}\n{"length": "4"}\n')

    assert problems_of(str(path)) == [
        ("a.jsonl:3", "not readable as JSON: Expecting value, column 1"),
        ("a.jsonl:4", "must hold an object per line, not list"),
        ("a.jsonl:5", "length is missing; columns: lenght"),
        ("a.jsonl:6", "length must be a number of tokens, not '4'"),
    ]


def test_a_file_of_broken_lines_is_not_told_line_by_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"length": 1}\n' + "{\n" * 5000)

    assert len(problems_of(str(path))) == 10


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "", "has no rows"),
        ("a.jsonl", "\n\n", "has no rows"),
        ("a.json", '[{"length": 1}]', "holds a JSON array, not an object per line"),
        ("a.jsonl", '{"length": 0}\n', "every row is empty"),
        ("a.jsonl", '{"y": true, "x": 1.5}\n', "no column says how long a row is; columns: y, x"),
        ("a.csv", "length\n1\n", "is no kind of dataset that is read here: .csv"),
        ("a.parquet", "PAR1 no more", "not readable as Parquet or Arrow"),
        ("a.arrow", "what is this", "not readable as Parquet or Arrow"),
        ("a.jsonl.gz", "not packed", "cannot be read"),
    ],
)
def test_a_file_that_is_no_dataset_is_bad_input(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    (where, told), *more = problems_of(str(path))

    assert message in told and where.startswith(name) and not more


def test_a_file_that_is_not_there_and_a_folder_are_bad_input(tmp_path):
    assert "No such file" in problems_of(str(tmp_path / "no.jsonl"))[0][1]
    assert "is a folder" in problems_of(str(tmp_path))[0][1]


def test_text_without_a_tokenizer_and_a_column_that_is_not_there_name_the_columns(tmp_path):
    path = json_lines(tmp_path / "a.jsonl", {"text": "a", "id": 7})

    assert "only by text; columns: text, id" in problems_of(path)[0][1]
    assert "no column 'tokens'; columns: text, id" in problems_of(path, column="tokens")[0][1]


def test_a_folder_without_a_tokenizer_is_bad_input(tmp_path):
    path = json_lines(tmp_path / "a.jsonl", {"text": "a"})

    assert "is not a folder" in problems_of(path, tokenizer_folder="someone/model")[0][1]
    told = problems_of(path, tokenizer_folder=str(tmp_path))[0][1]
    assert "no tokenizer that transformers can load" in told


def test_a_template_that_refuses_a_row_is_told_with_its_row(tmp_path, tokenizer):
    good = [{"role": "user", "content": "a"}]
    path = json_lines(tmp_path / "a.jsonl", {"messages": good}, {"messages": [{"role": "user"}]})
    where, told = problems_of(path, tokenizer_folder=tokenizer)[0]

    assert where == "a.jsonl:2" and "the chat template cannot be applied" in told


def plan(**fields) -> LaunchPlan:
    return LaunchPlan(**{"micro_batch_size": 4, "sequence_kind": "padded", **fields})


def lengths_of(*lengths: int, **changes) -> RowLengths:
    counts = {n: lengths.count(n) for n in lengths}
    row = lengths.index(max(lengths)) + 1
    return RowLengths(("a.jsonl",), "the length of input_ids", counts, "a.jsonl", row, **changes)


def test_a_padded_batch_is_as_long_as_the_longest_row():
    after, notes, _ = with_longest_batch(plan(seq_len=2048), lengths_of(5, 900, 7))

    assert after.seq_len == 900
    assert after.origins["seq_len"].where == ("--dataset a.jsonl: row 2 is the longest, 900 tokens")
    assert "the longest micro batch is 4 x 900 tokens" in notes[0]


def test_rows_over_the_limit_are_cut_and_counted():
    before = plan(seq_len=512)
    after, notes, value = with_longest_batch(before, lengths_of(5, 900, 700, 7))

    assert after.seq_len == 512 and after.origins == before.origins
    assert "2 rows are over 512 (50.0%)" in notes[0]
    assert (value["num_truncated"], value["max_length"], value["num_rows"]) == (2, 512, 4)


def test_packed_sequences_stay_as_long_as_they_are_packed():
    after, notes, _ = with_longest_batch(plan(seq_len=4096, sequence_kind="packed"), lengths_of(9))

    assert after.seq_len == 4096
    assert "sequences are packed at 4,096" in notes[0]


def test_a_padding_free_batch_holds_the_longest_rows_and_no_padding():
    """Rows of 9, 7, 4, 2: two at once are 16 tokens, which is 2 x 8."""
    before = plan(sequence_kind="packed", micro_batch_size=2)
    after, _, _ = with_longest_batch(before, lengths_of(2, 9, 4, 7))

    assert after.seq_len == 8
    assert "the 2 longest rows hold 16 tokens" in after.origins["seq_len"].where


def test_a_script_that_may_pack_keeps_its_length():
    after, notes, _ = with_longest_batch(plan(seq_len=512, sequence_kind=None), lengths_of(9))
    unlimited, _, _ = with_longest_batch(plan(sequence_kind=None), lengths_of(9))

    assert after.seq_len == 512 and "whether the script packs is not known" in notes[0]
    assert unlimited.seq_len == 9


@pytest.mark.parametrize("seq_len", [None, 512])
def test_images_leave_the_length_unknown_and_are_named(seq_len):
    lengths = lengths_of(9, not_counted=("images (column image)",))
    after, _, value = with_longest_batch(plan(seq_len=seq_len), lengths)

    assert after.seq_len == seq_len
    assert "rows hold images (column image)" in after.notices[-1].message
    assert value["not_counted"] == ["images (column image)"]


def test_images_are_found_by_name_by_declaration_and_in_messages(tmp_path, tokenizer):
    named = json_lines(tmp_path / "a.jsonl", {"length": 3, "images": ["x.png"]})
    content = [{"type": "image"}, {"type": "text", "text": "a"}]
    said = json_lines(tmp_path / "b.jsonl", {"messages": [{"role": "user", "content": content}]})
    features = Features({"length": Value("int32"), "photo": Image()})
    rows = Dataset.from_list([{"length": 3, "photo": None}], features=features)
    rows.to_parquet(str(tmp_path / "c.parquet"))
    folder = tmp_path / "parts"
    made = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    made.chat_template = "{% for m in messages %}{{ m.role }}{% endfor %}"
    made.save_pretrained(folder)

    assert read_lengths((named,)).not_counted == ("images (column images)",)
    assert read_lengths((said,), str(folder)).not_counted == ("images (in messages)",)
    declared = read_lengths((str(tmp_path / "c.parquet"),))
    assert declared.not_counted == ("images (column photo)",)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.integers(1, 6000))
def test_no_batch_is_longer_than_the_longest_batch(lengths, limit):
    """Whatever rows a padded batch gets, it is cut and padded to no more than was said."""
    rows = lengths_of(*lengths)
    after, _, value = with_longest_batch(plan(seq_len=limit), rows)

    assert after.seq_len == min(limit, max(lengths))
    assert value["num_truncated"] == sum(n > limit for n in lengths)
    assert rows.quantile_tokens(0.99) <= max(lengths)
    assert rows.tokens_of_longest(3) == sum(sorted(lengths)[-3:])


def test_a_row_that_never_ends_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    """A kilobyte of gzip is a megabyte, and a gigabyte in a row has no end that a row would have."""
    monkeypatch.setattr("preflight.datasets.files.LONGEST_ROW_BYTES", 1000)
    first = json_lines(tmp_path / "first.jsonl", {"input_ids": [1] * 2000})
    later = json_lines(tmp_path / "later.jsonl", *ids(3, 4), {"input_ids": [1] * 2000})
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(b"[" * 100_000))
    said = "has more than 1,000 bytes without a line end"

    assert problems_of(first) == [("first.jsonl:1", said)]
    assert problems_of(later) == [("later.jsonl:3", said)]
    assert problems_of(str(packed)) == [("packed.jsonl.gz:1", said)]


def test_a_tokenizer_with_a_pipe_in_it_is_refused_and_not_waited_for(tmp_path, tokenizer):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    os.mkfifo(folder / "tokenizer.json")
    path = json_lines(tmp_path / "a.jsonl", {"text": "a b"})
    ((where, what),) = problems_of(path, tokenizer_folder=str(folder))

    assert where.endswith("tokenizer") and what.startswith("tokenizer.json is a pipe")


@pytest.mark.parametrize("ending", ["parquet", "arrow", "feather"])
def test_a_damaged_file_of_columns_is_bad_input_or_has_lengths(tmp_path, ending):
    """Cut anywhere, and bytes turned anywhere: pyarrow raises much, and none of it is a bug of ours."""
    path = tmp_path / f"train.{ending}"
    table = pyarrow.table(
        {"input_ids": [[1] * (n % 7 + 1) for n in range(50)], "text": ["a b"] * 50}
    )
    if ending == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif ending == "feather":
        pyarrow.feather.write_feather(table, path)
    else:
        with (
            pyarrow.OSFile(str(path), "wb") as sink,
            pyarrow.ipc.new_stream(sink, table.schema) as out,
        ):
            out.write_table(table)
    whole = path.read_bytes()
    drawn = random.Random(ending)
    answers = set()
    for number in range(120):
        data = bytearray(whole)
        if number % 3 == 0:
            del data[drawn.randrange(len(data)) :]
        for _ in range(drawn.randrange(4)):
            if data:
                data[drawn.randrange(len(data))] = drawn.randrange(256)
        path.write_bytes(data)
        try:
            answers.add(read_lengths((str(path),), column="input_ids").longest_tokens > 0)
        except BadInput as error:
            answers.add(bool(error.problems[0].message))

    assert answers == {True}
