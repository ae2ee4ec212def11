"""One file per command: its options, what it does, the exit code it returns."""

from __future__ import annotations

COMMANDS: dict[str, tuple[str, str]] = {
    "check": ("launch", "estimate and judge a launch; start and write nothing"),
    "run": ("launch", "check, rewrite if allowed, then start"),
    "fix": ("launch", "write the rewritten files and print the command; start nothing"),
    "sbatch": ("submit", "judge a job for the nodes that it may get, then submit it"),
    "srun": ("submit", "the same for a step or a job of srun"),
    "salloc": ("submit", "the same for the command of salloc"),
    "scan": ("scan", "check the launches in this repository's files, or those a change concerns"),
    "estimate": ("estimate", "the same estimate for a plan file"),
    "diff": ("diff", "two launches or plans side by side: text, Markdown, HTML"),
    "size": ("size", "full, LoRA and QLoRA of a model: memory, least GPUs, cost"),
    "gpus": ("gpus", "the cards that are known, and what torch can have of each"),
    "models": ("models", "the models that are known by name, and which of them have formulas"),
    "trace": ("trace", "what PyTorch allocates for this model, beside the formulas"),
    "validate": ("validate", "compare predictions with measured runs"),
    "history": ("history", "what the measured runs of this site took, and what they correct"),
    "calibrate": ("calibrate", "small trainings on the GPUs here, for what no formula knows"),
    "probe": ("probe", "what this node, or every node of a job, really has"),
    "init": ("init", "write a launch that fits, a template, or a first preflight.toml"),
    "guard": ("guard", "what an installed preflight checks by itself; off unless asked for"),
    "slurm": ("slurm", "check jobs where they are submitted, for a whole cluster"),
    "explain": ("explain", "what a remedy, a finding, a verdict or a word of a report means"),
    "mcp": ("mcp_server", "serve check, fix, size, explain and trace as tools to an agent"),
    "hooks": ("hooks", "the hooks, and the plugins that answer them"),
    "completion": ("completion", "what a shell needs to complete all of this"),
}
"""Command -> its module in `preflight.commands`, and one line about it."""
