"""Reads prime-rl's SFT and RL trainers from their TOML; what its own model code takes is named."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading
from preflight.launchers.primerl import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
