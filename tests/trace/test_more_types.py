"""Types that ask a mask what it masks, and decoders that are a part of an encoder-decoder, are run as training runs them."""

import pytest

from preflight.derive.layouts.type_configs import small_type_config
from preflight.trace.build import build
from preflight.trace.job import TraceJob
from preflight.trace.log import LAYER_FORWARD
from preflight.trace.run import trace


def kept_by_layers(config, **more):
    job = TraceJob(config, micro_batch_size=2, seq_len=256, full_depth=True, **more)
    levels = trace(job, num_steps=1).levels
    return sum(e.exit_bytes - e.entry_bytes for e in levels if e.part.name == LAYER_FORWARD)


@pytest.mark.parametrize("model_type", ["bert", "lfm2"])
def test_a_mask_that_masks_nothing_is_left_out_where_the_code_asks_it(model_type):
    config = small_type_config(model_type, 0, 2)

    assert kept_by_layers(config) < kept_by_layers(config, has_padding=True)


def test_a_table_that_a_first_forward_casts_for_good_is_cast_before_it():
    """CTRL's table of positions takes half as much in every step but the first one's first moments."""
    config = small_type_config("ctrl", 0, 2)
    tables = [
        build(TraceJob(config, trainable_dtype=d)).model.transformer.pos_encoding
        for d in ("bf16", "fp32")
    ]

    assert [table.element_size() for table in tables] == [2, 4]


def test_a_decoder_is_traced_alone_where_the_config_names_its_class():
    decoder = small_type_config("bart", 0, 2)
    whole = {**decoder, "architectures": ["BartForConditionalGeneration"]}

    assert 0 < kept_by_layers(decoder) < kept_by_layers(whole)  # with its encoder
