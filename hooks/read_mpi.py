"""Reads Python scripts that mpirun and mpiexec start; writes nothing back."""

from preflight.hookspecs import hookimpl
from preflight.launchers.contract import reading
from preflight.launchers.mpi import LAUNCHER

preflight_read_launch = hookimpl(reading(LAUNCHER))
