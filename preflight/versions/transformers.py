"""What changed in which release of transformers."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "transformers")

HAS_SDPA = _since(
    "4.36",
    "a class that has SDPA runs it where nobody names an attention; before, none has any",
    "modeling_utils.py _autoset_attn_implementation in 4.36.2; no `sdpa` in models/llama/modeling_llama.py of 4.35.2",
    "5.24.0",
)
MISTRAL_HAS_SDPA = _since(
    "4.37",
    "the classes of Mistral and Mixtral have SDPA",
    "`_supports_sdpa` in models/mistral/modeling_mistral.py, models/mixtral/modeling_mixtral.py: 4.36.2 against 4.37.2",
    "5.24.0",
)
PHI_HAS_SDPA = _since(
    "4.39",
    "the classes of Phi and StableLM have SDPA",
    "`_supports_sdpa` in models/phi/modeling_phi.py, models/stablelm/modeling_stablelm.py: 4.38.2 against 4.39.3",
    "5.24.0",
)
BERT_HAS_SDPA = _since(
    "4.41",
    "BERT's class has SDPA",
    "models/bert/modeling_bert.py, 4.40.2 to 5.24.0",
    "5.24.0",
)
SCALES_WORDS_OF_STACKS = _since(
    "4.41",
    "encoder and decoder of BART and mBART look words up in modules of their own, which share a weight",
    "models/bart/modeling_bart.py BartScaledWordEmbedding: 4.41.2 against 4.40.2; :733 (4.57.1)",
    "5.24.0",
)
GPT2_HAS_SDPA = _since(
    "4.42",
    "the classes of GPT-2 and GPT-NeoX have SDPA",
    "`_supports_sdpa` in models/gpt2/modeling_gpt2.py, models/gpt_neox/modeling_gpt_neox.py: 4.41.2 against 4.42.4",
    "5.24.0",
)
CACHES_NOTHING_IN_TRAINING = _since(
    "4.43",
    "a decoder that trains and is given no cache makes none; before, and again in 4.45, it gave back a tuple of keys and"
    " values, and later a DynamicCache",
    "models/llama, mistral, mixtral, qwen2, gemma, phi3, stablelm: `not self.training` in 4.44.2, none in 4.42.4 and 4.45.2;"
    " counted on a CPU under accelerate in 4.36.2, 4.44.2 and 4.45.2",
    "4.44.2",
    until="4.45",
)
WHISPER_CACHES_IN_AN_OBJECT = _since(
    "4.43",
    "Whisper gives back keys and values in an EncoderDecoderCache",
    "models/whisper/modeling_whisper.py (4.43.4, not 4.42.4)",
    "5.24.0",
)
TAKES_NUM_LOGITS_TO_KEEP = _since(
    "4.45",
    "a model makes the logits of its last tokens alone where `num_logits_to_keep` asks for them",
    "models/llama/modeling_llama.py, qwen2, mistral, gemma2, phi3: 4.45.0 to 4.48.3, a deprecated name to 4.51.3, none in 4.52.4",
    "4.51.3",
    until="4.52",
)
ROBERTA_HAS_SDPA = _since(
    "4.45",
    "RoBERTa's class has SDPA, and so have those of XLM-RoBERTa, its XL, and CamemBERT",
    "models/roberta/modeling_roberta.py, models/xlm_roberta/modeling_xlm_roberta.py, "
    "models/xlm_roberta_xl/modeling_xlm_roberta_xl.py, models/camembert/modeling_camembert.py, 4.44.2 to 5.24.0",
    "5.24.0",
)
PHI3_HAS_SDPA = _since(
    "4.45",
    "Phi-3's class has SDPA",
    "models/phi3/modeling_phi3.py, 4.44.2 to 5.24.0",
    "5.24.0",
)
ZERO3_REFUSES_AUTO_BATCH = _since(
    "4.45",
    "Trainer refuses auto_find_batch_size under ZeRO-3",
    "trainer.py: 4.45.2 does, 4.44.2 does not; :902 (5.24.0)",
    "5.24.0",
)
CACHES_IN_AN_OBJECT = _since(
    "4.46",
    "decoders give back keys and values in a DynamicCache, which accelerate leaves as it is; a tuple of them is made fp32"
    " with the logits",
    "models/llama/modeling_llama.py return_legacy_cache: False without a cache that is given (4.46.3, not 4.45.2);"
    " accelerate/utils/operations.py convert_to_fp32",
    "5.24.0",
)
LOSS_UPCASTS_LOGITS = _since(
    "4.46",
    "the loss casts the logits to fp32; before, the model returned fp32 logits",
    "models/llama/modeling_llama.py `.float()` in 4.36.2 to 4.45.2; loss/loss_utils.py:36-39 (4.48.1), none in 4.45.2",
    "5.24.0",
)
DISTILBERT_HAS_SDPA = _since(
    "4.46",
    "DistilBERT's class has SDPA",
    "models/distilbert/modeling_distilbert.py, 4.45.2 to 5.24.0",
    "5.24.0",
)
OPT_HAS_SDPA = _since(
    "4.46", "OPT's class has SDPA", "models/opt/modeling_opt.py, 4.44.2 to 5.24.0", "5.24.0"
)
WEIGHS_TOKENS = _since(
    "4.46",
    "Trainer divides the loss by the tokens of all micro batches of a step, not by each one's own",
    "trainer.py num_items_in_batch: :2426 in 4.46.0, :1881 in 5.24.0, none in 4.45.2",
    "5.24.0",
)
IGNORES_SYNC_EACH_BATCH = _since(
    "4.46",
    "Trainer calls no_sync itself and does not ask gradient_accumulation_kwargs.sync_each_batch; before, it"
    " accumulates in accelerate's context, which asks",
    "trainer.py of 4.46.3 to 5.24.0: 5.1.0 does not ask, :1734 of 5.2.0 does",
    "5.1.0",
    until="5.2",
)
T5_CACHES_IN_AN_OBJECT = _since(
    "4.46",
    "T5 and its kin give back keys and values in an EncoderDecoderCache, which accelerate leaves as it is; a tuple of them"
    " is made fp32 with the logits, and before 4.30 an evaluation generates without autocast",
    "models/t5/modeling_t5.py (4.46.3, not 4.45.2), trainer_seq2seq.py:276 (4.29.2), accelerate/utils/operations.py"
    " convert_to_fp32; counted on a CPU in 4.29.2, 4.44.2 and 4.46.3",
    "5.24.0",
)
MISTRAL_LOSS_UPCASTS_LOGITS = _since(
    "4.48",
    "Mistral takes the common loss, which casts the logits; before, its model returned fp32 logits",
    "models/mistral/modeling_mistral.py: 4.46.3 and 4.47.1 cast in the model, 4.48.1 does not",
    "5.24.0",
)
STARCODER2_IGNORES_CHECKPOINTING = _since(
    "4.48",
    "Starcoder2's model takes gradient checkpointing and runs its layers without it",
    "models/starcoder2/modeling_starcoder2.py: no call of _gradient_checkpointing_func in 4.48.1 to 4.51.3, one in 4.47.1"
    " and, by its layers, in 4.52.4; traced on 4.48.1",
    "4.51.3",
    until="4.52",
)
TAKES_LOGITS_TO_KEEP = _since(
    "4.49",
    "a model that is asked for the logits of its last tokens by `logits_to_keep` makes no others; before, the argument had"
    " another name, and this one changed nothing",
    "models/llama/modeling_llama.py, qwen2, mistral, gemma2, phi3: num_logits_to_keep in 4.48.3, logits_to_keep in 4.49.0",
    "5.24.0",
)
LOSS_PADS_LABELS = _since(
    "4.49",
    "the loss shifts labels and takes all logits; before, it copied those of all positions but the last",
    "loss/loss_utils.py:61-69 (5.24.0)",
    "5.24.0",
)
OPT_SCORES_HAVE_NO_FLOOR = _since(
    "4.49",
    "eager attention of OPT keeps probabilities alone; before, the scores under a torch.max as well",
    "models/opt/modeling_opt.py OPTAttention: torch.max in 4.48.1, none in 4.49.0, 4.50.3, 4.51.3",
    "5.24.0",
)
GPT_NEOX_HAS_NO_MASK = _since(
    "4.49",
    "GPT-NeoX's layers register no mask of all positions",
    "models/gpt_neox/modeling_gpt_neox.py register_buffer: 4.44.2 to 4.48.3, none in 4.49.0",
    "5.24.0",
)
OLMO2_WEIGHS_IN_FP32 = _since(
    "4.52",
    "OLMo 2's norms multiply by their weight in fp32; before, in the dtype of their input",
    "models/olmo2/modeling_olmo2.py `(self.weight * hidden_states).to(input_dtype)`: none in 4.48.3 to 4.51.3, 4.52.4 does",
    "5.24.0",
)
QWEN2_VL_TAKES_COMMON_LOSS = _since(
    "4.52",
    "Qwen2-VL and Qwen2.5-VL take the common loss; before, their model made the logits fp32 and copied them",
    "models/qwen2_vl/modeling_qwen2_vl.py, models/qwen2_5_vl/modeling_qwen2_5_vl.py: logits.float() in 4.46.3 to 4.51.3,"
    " none in 4.52.4",
    "5.24.0",
)
BART_CACHES_IN_AN_OBJECT = _since(
    "4.52",
    "BART and its kin give back keys and values in an EncoderDecoderCache",
    "models/bart/modeling_bart.py, mbart, pegasus, marian, m2m_100 (4.52.4, not 4.51.3)",
    "5.24.0",
)
LAYERS_CHECKPOINT_THEMSELVES = _since(
    "4.53",
    "a layer's own `__call__` checkpoints, inside FSDP's wrapper; before, the model checkpointed the wrapper",
    "modeling_layers.py (Llama, Mistral and Qwen2 since 4.52)",
    "5.24.0",
)
HAS_BOOL_MASK = _since(
    "4.53",
    "sdpa gets a bool mask, which every layer casts; before, all layers shared a float one",
    "masking_utils.py sdpa_mask; modeling_llama.py _update_causal_mask (4.48.1)",
    "5.24.0",
)
MASKS_PACKED_SAMPLES = _since(
    "4.53.3",
    "the masks of eager and sdpa follow position_ids that start again",
    "masking_utils.py: 4.53.3 does, 4.53.0 does not; :735 (5.24.0)",
    "5.24.0",
)
READS_GROUPED_KEYS = _since(
    "4.54",
    "sdpa takes keys and values of fewer heads as they are; before, each layer repeated them for every query",
    "integrations/sdpa_attention.py use_gqa_in_sdpa; traced on 4.48.1, 4.51.3, 4.53.3 and 4.54.1 (Llama)",
    "5.24.0",
)
GPT_BIGCODE_SCORES_ARE_PLAIN = _since(
    "4.54",
    "eager attention of GPTBigCode keeps probabilities alone; before, a scripted softmax keeps its masked input as well",
    "models/gpt_bigcode/modeling_gpt_bigcode.py _attn calls upcast_masked_softmax in 4.48.1, 4.50.3 and 4.53.3;"
    " eager_attention_forward in 4.54.0",
    "5.24.0",
)
GPT_BIGCODE_IGNORES_CHECKPOINTING = _since(
    "4.54",
    "GPTBigCode's model takes gradient checkpointing and runs its layers without it",
    "models/gpt_bigcode/modeling_gpt_bigcode.py: its layers are plain modules in 4.54.1 to 4.57.6; a call in 4.53.3,"
    " GradientCheckpointingLayer in 5.0.0",
    "4.57.6",
    until="5.0",
)
DEFAULTS_TO_FUSED_ADAMW = _since(
    "4.54",
    "Trainer's `optim` is adamw_torch_fused with torch 2.8 or newer, adamw_torch before",
    "training_args.py: 4.54.1 against 4.53.3",
    "5.24.0",
)
SPLITS_IMAGES = _since(
    "4.54",
    "Qwen2-VL and Qwen2.5-VL give SDPA one image after the other; before, all at once with a mask over every pair",
    "models/qwen2_vl/modeling_qwen2_vl.py: torch.zeros([1, seq_length, seq_length]) in 4.48.3 to 4.52.4,"
    " _prepare_attention_mask in 4.53.3, cu_seqlens in 4.54.1 to 5.24.0",
    "5.24.0",
)
MLLAMA_BY_LAYER = _since(
    "4.55",
    "the layers of Llama 3.2 Vision's decoder checkpoint themselves, and those of its tower do not; before, both are"
    " checkpointed by what runs them, and its attention has classes of its own",
    "models/mllama/modeling_mllama.py MllamaVisionEncoder.forward: _gradient_checkpointing_func in 4.48.1, 4.53.3 and"
    " 4.54.0, none in 4.55.4, 4.56.2, 4.57.6, 5.0.0 and 5.24.0",
    "5.24.0",
)
HAS_DTYPE = _since(
    "4.56",
    "classes take `dtype`; before, `torch_dtype` alone",
    "modeling_utils.py from_pretrained and _from_config: 4.53.3 and 4.57.6; the change is of 4.56",
    "5.24.0",
)
ATTENDS_IN_PLACE = _since(
    "4.57",
    "sdpa reads queries as they are; before, they were copied, and so was what comes out for the last projection",
    "integrations/sdpa_attention.py `query.contiguous()`; traced on 4.54.1 and 4.57.6, between not read",
    "5.24.0",
)
GIVES_STACKS_THEIR_WORDS = _since(
    "5.0",
    "encoder and decoder of T5, mT5, UMT5 and Pegasus make words of their own, which are tied; before, both had the same module",
    "models/t5/modeling_t5.py T5Stack(encoder_config, self.shared): 4.57.6 against 5.0.0; models/pegasus likewise",
    "5.24.0",
)
OTHER_ENCODERS_HAVE_SDPA = _since(
    "5.0",
    "Data2Vec's, ELECTRA's, ERNIE's and pre-layernorm RoBERTa's classes have SDPA, and so has BERT's for generation",
    "models/electra/modeling_electra.py and its like, 4.57.6 to 5.24.0",
    "5.24.0",
)
GRANITE_MIXTURES_LEAVE_LOGITS = _since(
    "5.0",
    "models of GraniteMoE, GPT-Neo, GPT-J and CodeGen return logits as the head made them; before, they made them fp32",
    "models/granitemoe/modeling_granitemoe.py, granitemoeshared, granitemoehybrid, gpt_neo, gptj, codegen: 4.44.2 to 4.57.6, none in 5.0.0",
    "5.24.0",
)
TRAINER_HOLDS_PRECISION = _since(
    "5.0",
    "TrainingArguments keeps mixed precision to itself; before, it set ACCELERATE_MIXED_PRECISION for every Accelerator",
    "training_args.py:1557 (5.0.0), :1873-1878 (4.57.6), :1614 (5.24.0)",
    "5.24.0",
)
LOADS_CHECKPOINTS_DTYPE = _since(
    "5.0",
    "`from_pretrained` without a dtype loads the checkpoint's; before, fp32",
    "modeling_utils.py:4184 (5.24.0)",
    "5.24.0",
)
IS_NOT_REENTRANT = _since(
    "5.0",
    "`gradient_checkpointing_enable` asks for the non-reentrant kind unless told otherwise",
    "modeling_utils.py:2539 (4.48.1), :3158 (5.24.0)",
    "5.24.0",
)
FUSES_EXPERTS = _since(
    "5.0",
    "the experts of most families are fused 3-D parameters; before, linear layers",
    "a test compares the classes of the installed release",
    "5.24.0",
)
EMBEDDINGS_ASK_FOR_GRADIENTS = _since(
    "5.0",
    "`gradient_checkpointing_enable` makes the embedding's output ask for gradients; before, only for a"
    " model that loaded its adapter itself",
    "modeling_utils.py:3116 (5.0.0), :3198 (5.24.0), :2608 (4.49.0)",
    "5.24.0",
)
PACKED_STAYS_ON_DEVICE = _since(
    "5.0",
    "a packed tensor under FSDP stays on the device; before, it went back to the host, on every rank but the"
    " first to `meta`, and its scales stayed",
    "modeling_utils.py:876 (4.48.1), :4862 (5.24.0)",
    "5.24.0",
)
READS_FSDP_VERSION = _since(
    "5.0",
    "Trainer reads `version` in its own fsdp_config",
    "training_args.py:2753 (5.0.0), :2826 (5.24.0)",
    "5.24.0",
)
ASKS_EVERY_EMBEDDING = _since(
    "5.0",
    "enable_input_require_grads makes the output of every embedding ask for gradients, a vision tower's patches too;"
    " before, that of the tokens alone",
    "modeling_utils.py enable_input_require_grads: self.modules() in 5.0.0 to 5.24.0, get_input_embeddings() in 4.57.6",
    "5.24.0",
)
TRAINER_TURNS_CACHE_OFF = _since(
    "5.0",
    "Trainer sets its model's `use_cache` to its argument of that name, off by default; before, to nothing",
    "trainer.py:755 (5.0.0), :646 (5.24.0); none in 4.41.2 to 4.57.6",
    "5.24.0",
)
PACKS_PLAIN_LINEAR_ALONE = _since(
    "5.5",
    "bitsandbytes packs torch's own Linear alone, and leaves Falcon's and routers that are one as they are",
    "integrations/bitsandbytes.py replace_with_bnb_linear: 5.4.0 and 5.5.0, :189 (5.24.0)",
    "5.24.0",
)
GPT2_HAS_NO_MASK = _since(
    "5.5",
    "GPT-2's layers register no mask of all positions",
    "models/gpt2/modeling_gpt2.py register_buffer: 4.44.2 to 5.0.0, none in 5.5.4, between not read",
    "5.24.0",
)
GATHERS_ROWS_ONCE = _since(
    "5.5",
    "the rows of a grouped product over experts are gathered once; before, by token and then by expert",
    "integrations/moe.py grouped_mm_experts_forward: `hidden_states[token_idx[perm]]` in 5.5.4 to 5.7.0, `[perm // num_top_k]`"
    " from 5.8.1 on, `selected_hidden_states[perm]` in 5.0.0 to 5.4.0; traced on 5.0.0 (4 to 18 % more), 5.5.4, 5.11.0",
    "5.24.0",
)
GEMMA4_SHARES_KEYS = _since(
    "5.5.4",
    "Gemma 4's last layers attend to keys of earlier ones in training too; before, each made its own, of its own weights",
    "models/gemma4/modeling_gemma4.py Gemma4TextAttention: 5.5.0, and shared_kv_states in 5.5.4 to 5.24.0",
    "5.24.0",
)
GEMMA3N_SHARES_KEYS = _since(
    "5.6",
    "Gemma 3n's last layers attend to keys of earlier ones in training too; before, each made its own, of its own weights",
    "models/gemma3n/modeling_gemma3n.py Gemma3nTextAttention: `past_key_values is not None` in 4.53.3 to 5.5.4,"
    " shared_kv_states in 5.6.0 to 5.24.0",
    "5.24.0",
)
DEFAULTS_TO_FSDP2 = _since(
    "5.10",
    "Trainer's own `fsdp` is FSDP2, with a unit for each layer; before, FSDP1, with units only where `auto_wrap` is said",
    "training_args.py: :2812 (5.9.0), :2736 (5.10.1)",
    "5.24.0",
)
STACKS_GRANITES_EXPERTS = _since(
    "5.13",
    "experts of Granite 4 are grouped products; before, a loop in which the gradient of each is as large as that of all",
    "models/granitemoehybrid/modeling_granitemoehybrid.py: GraniteMoeHybridParallelExperts in 4.53.3 to 5.12.0, not in 5.13.0",
    "5.24.0",
)
T5_HAS_SDPA = _since(
    "5.15",
    "T5, MT5 and UMT5 have SDPA, and an eager softmax in the dtype of its scores",
    "models/t5/modeling_t5.py T5Attention: 4.31.0 to 5.14.0, and 5.15.0 to 5.24.0",
    "5.24.0",
)
DIVIDES_THE_HEAD = _since(
    "5.15",
    "tensor parallelism divides the head: a model's own plan joins its base's; before, the base's replaced it",
    "distributed/mixin.py _init_parallel_plans (5.15.0); modeling_utils.py:1399 post_init (5.12.0), 4.57.6 on gloo ranks",
    "5.24.0",
)
SUMS_SCANS_AT_ONCE = _since(
    "5.15",
    "without kernels a product of Mamba 2's chunks goes once it is summed; before, all stay to the end of the forward",
    "models/bamba/modeling_bamba.py:523 mamba2_chunk_scan (5.15.0 to 5.17.0); G_intermediate in torch_forward, 4.51.3 to 5.14.1",
    "5.24.0",
)
SOLVES_DELTA_RULE = _since(
    "5.17",
    "without kernels a gated delta rule solves each chunk at once; before, row by row, with a copy of what stands above each",
    "models/qwen3_next/modeling_qwen3_next.py torch_chunk_gated_delta_rule: 4.57.6 to 5.16.0, and 5.17.0 to 5.24.0",
    "5.24.0",
)
SCANS_IN_PRODUCTS = _since(
    "5.18",
    "without kernels Mamba 2's states are products over chunks; before, a tensor of chunk x chunk x state for every head",
    "models/bamba/modeling_bamba.py: torch.einsum in 5.18.0 to 5.24.0, sums of (C * B) in 5.15.0 to 5.17.0",
    "5.24.0",
)
OFFLOADS_ACTIVATIONS = _since(
    "5.18",
    "Trainer reads `offload` in its checkpointing kwargs",
    "trainer.py:1509 (5.24.0); 5.16.0 does not",
    "5.24.0",
)
GEMMA2_HAS_NO_SDPA = _since(
    "5.21",
    "Gemma 2's class has no SDPA: capped scores are not in torch's kernel",
    "models/gemma2/modeling_gemma2.py, 4.44.2 to 5.24.0",
    "5.24.0",
)
DIVIDES_THE_EMBEDDING = _since(
    "5.21",
    "tensor parallelism divides the embedding by rows; before, each rank has the whole",
    "distributed/mixin.py:94 (5.24.0); not in 5.20.0",
    "5.24.0",
)
GPTJ_HAS_SDPA = _since(
    "5.24", "GPT-J's class has SDPA", "models/gptj/modeling_gptj.py, 4.44.2 to 5.24.0"
)
SAYS_ACTIVATION_CHECKPOINTING = _since(
    "5.24",
    "Trainer calls gradient_checkpointing `activation_checkpointing`; the old name goes away in 6",
    "training_args.py",
)
