"""Trainers that take log-probabilities of pairs of answers themselves, as scripts of people's own do; preflight reads them."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch.nn import functional
from transformers import Trainer
from trl import DPOTrainer, SFTTrainer


def log_probs(logits, labels):
    labels = labels[:, 1:].clone()
    logits = logits[:, :-1, :]
    picked = torch.gather(logits.log_softmax(-1), dim=2, index=labels.unsqueeze(2)).squeeze(2)
    return picked.sum(-1)


class AtOnce(Trainer):
    """Takes both answers in one forward, and shows how likely they were."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, shown = self.of_pairs(model, inputs["input_ids"])
        return (loss, shown) if return_outputs else loss

    def of_pairs(self, model, ids):
        logits = model(input_ids=ids).logits
        scores = log_probs(logits, ids)
        n = ids.shape[0] // 2
        margin = scores[:n] - scores[n:]
        shown = {
            "chosen": logits[:n].detach().mean().item(),
            "rejected": logits[n:].detach().mean().item(),
        }
        return -functional.logsigmoid(margin).mean(), shown


class Compared(Trainer):
    """Compares both answers with those of a copy of the model."""

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.ref_model = deepcopy(self.model).eval()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        ids = inputs["input_ids"]
        n = len(ids) // 2
        ours = log_probs(model(input_ids=ids).logits, ids)
        with torch.no_grad():
            theirs = log_probs(self.ref_model(input_ids=ids).logits, ids)
        margin = ours[:n] - ours[n:] - theirs[:n] + theirs[n:]
        return -functional.logsigmoid(margin).mean()


class Below(DPOTrainer):
    """Stands on TRL's trainer, which loads the reference and makes the rows, and takes log-probabilities itself."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, shown = self.get_batch_loss_metrics(model, inputs)
        return (loss, shown) if return_outputs else loss

    def get_batch_loss_metrics(self, model, batch, train_eval="train"):
        chosen, rejected, of_chosen, of_rejected = self.concatenated_forward(model, batch)[:4]
        with torch.no_grad():
            others = self.concatenated_forward(self.ref_model, batch)[:2]
        margin = chosen - rejected - others[0] + others[1]
        shown = {"chosen": of_chosen.detach().mean(), "rejected": of_rejected.detach().mean()}
        return -functional.logsigmoid(margin).mean(), shown

    def concatenated_forward(self, model, batch):
        ids = batch["input_ids"]
        n = len(ids) // 2
        logits = model(input_ids=ids, use_cache=False).logits
        scores = log_probs(logits, ids)
        return scores[:n], scores[n:], logits[:n], logits[n:], None


class InTurn(Trainer):
    """Takes them one after the other."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        ids = inputs["input_ids"]
        chosen = self.scored(model, ids[0::2])
        rejected = self.scored(model, ids[1::2])
        return -functional.logsigmoid(chosen - rejected).mean()

    def scored(self, model, ids):
        return log_probs(model(input_ids=ids).logits, ids)


class Smoothed(SFTTrainer):
    """Stands on TRL's trainer of one row at a time, and sums what every word costs."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs["labels"]
        logits = model(input_ids=inputs["input_ids"], use_cache=False).logits
        shifted = logits[..., :-1, :].contiguous()
        wanted = labels[..., 1:].contiguous()
        loss = functional.cross_entropy(
            shifted.view(-1, shifted.size(-1)), wanted.view(-1), reduction="sum"
        )
        return (loss, logits) if return_outputs else loss


class Deep(Trainer):
    """Takes them one after the other, and asks for what every layer gave."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        ids = inputs["input_ids"]
        chosen = model(input_ids=ids[0::2], labels=ids[0::2], output_hidden_states=True)
        rejected = model(input_ids=ids[1::2], output_hidden_states=True)
        margin = log_probs(chosen.logits, ids[0::2]) - log_probs(rejected.logits, ids[1::2])
        return chosen.loss - functional.logsigmoid(margin).mean()


class Weighed(Trainer):
    """Weighs each word's likelihood with itself."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs["input_ids"]
        logits = model(input_ids=labels).logits.float()
        picked = functional.log_softmax(logits, dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return -(picked.exp().detach() * picked).mean()
