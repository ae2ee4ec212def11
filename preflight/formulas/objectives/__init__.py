"""What a way of training holds beside supervised fine-tuning: pairs, rewards, critics, generated answers."""
