"""argparse with groups, choices, negations, a parser that a function makes."""
import argparse

from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

DEFAULT_LENGTH = 2048


def get_parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", "--model", type=str, default="gpt2")
    group = parser.add_argument_group("training")
    group.add_argument("--max_length", "--max-len", type=int, default=DEFAULT_LENGTH)
    group.add_argument("--micro-batch", type=int, default="4", choices=[1, 2, 4, 8])
    group.add_argument("--no-checkpointing", dest="checkpointing", action="store_false")
    group.add_argument("--pack", action=argparse.BooleanOptionalAction, default=True)
    group.add_argument("--optim", default="adamw_torch", nargs="?", const="adafactor")
    group.add_argument("--grad_clip", type=float, default=1)
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    config = SFTConfig(
        "out",
        max_length=args.max_length,
        per_device_train_batch_size=args.micro_batch,
        gradient_checkpointing=args.checkpointing,
        packing=args.pack,
        optim=args.optim,
        max_grad_norm=args.grad_clip,
    )
    model = AutoModelForCausalLM.from_pretrained(args.model)
    SFTTrainer(model=model, args=config).train()


main()
