"""The options of programs that start another program: which take a value, so that the inner command is found.

Sources: the manual pages of coreutils 9, util-linux 2.39, numactl 2.0, Slurm 24.05 with pyxis 0.20,
uv 0.9, poetry 2, Ray 2.60 (dashboard/modules/job/cli.py), huggingface_hub 2.4 (cli/jobs.py), conda 25, pixi 0.50, apptainer 1.4, Docker 28, podman 5, debugpy 1.8,
coverage 7, memray 1.19, VizTracer 1.1, line_profiler 5, sudo 1.9, screen 4.9, X.Org's xvfb-run and Nsight Systems 2025.
"""

from __future__ import annotations

from preflight.values import dataclass


@dataclass(frozen=True)
class WrapperOptions:
    """How a wrapper's own options are written."""

    values: frozenset[str]
    """Options that take the next word unless `=` gives the value."""
    flags: frozenset[str]
    """Options without a value."""
    num_positionals: int
    """Words between the options and the inner command: an image, a CPU mask, a duration."""
    flags_by_default: bool
    """An unknown long option is a flag (True) or nobody knows (False)."""
    values_by_default: bool
    """An unknown long option takes a value: Docker has a hundred of them and ten flags."""


def _options(
    values: str = "",
    flags: str = "",
    num_positionals: int = 0,
    flags_by_default: bool = False,
    values_by_default: bool = False,
) -> WrapperOptions:
    return WrapperOptions(
        frozenset(values.split()),
        frozenset(flags.split()),
        num_positionals,
        flags_by_default,
        values_by_default,
    )


_SRUN_VALUES = """
-A -B -c -C -d -D -e -F -G -i -J -L -m -M -n -N -o -p -q -r -S -t -T -w -W -x
--account --acctg-freq --bb --bbf --begin --chdir --cluster-constraint --clusters --comment
--constraint --container --container-id --core-spec --cores-per-socket --cpu-bind --cpu_bind --cpu-freq
--cpus-per-gpu --cpus-per-task --deadline --delay-boot --dependency --distribution --epilog --error
--exclude --export --export-file --extra --extra-node-info --gid --gpu-bind --gpu-freq --gpus
--gpus-per-node --gpus-per-socket --gpus-per-task --gres --gres-flags --het-group --hint --input
--job-name --jobid --licenses --mail-type --mail-user --mcs-label --mem --mem-bind --mem-per-cpu
--mem-per-gpu --mincpus --mpi --msg-timeout --network --nodefile --nodelist --nodes --ntasks
--ntasks-per-core --ntasks-per-gpu --ntasks-per-node --ntasks-per-socket --open-mode --output
--partition --power --prefer --priority --profile --prolog --qos --relative --reservation --signal
--slurmd-debug --sockets-per-node --switches --task-epilog --task-prolog --thread-spec --threads
--threads-per-core --time --time-min --tmp --tree-width --treewidth --tres-bind --tres-per-task --uid
--wait --wckey --container-image --container-mounts --container-workdir --container-name
--container-save --container-env
"""
_SRUN_FLAGS = """
-E -H -I -k -K -l -O -s -Q -u -v -vv -vvv -V -X -Z
--bcast --contiguous --disable-status --exact --exclusive --external-launcher --hold --immediate
--interactive --kill-on-bad-exit --label --multi-prog --nice --no-allocate --no-kill --no-requeue
--overcommit --overlap --oversubscribe --preserve-env --propagate --pty --quiet --reboot
--resv-ports --send-libs --spread-job --stepmgr --test-only --unbuffered --use-min-nodes --verbose
--whole --x11 --container-mount-home --no-container-mount-home --container-remap-root
--no-container-remap-root --container-entrypoint --no-container-entrypoint --container-writable
--container-readonly
"""
_CONTAINER_VALUES = """
-B --bind --env --env-file -H --home -W --workdir --pwd --cwd -S --scratch -o --overlay --fusemount
--hostname --network --network-args --app --mount --add-caps --drop-caps --security --dns
--apply-cgroups --cpus --cpuset-cpus --memory --memory-swap --no-mount --pem-path --blkio-weight
--cpu-shares --cpuset-mems --device --keep-privs --pids-limit --shm-size
"""
_CONTAINER_FLAGS = """
--nv --nvccli --rocm -e --cleanenv -c --contain -C --containall -w --writable --writable-tmpfs -f
--fakeroot -i --ipc -n --net -p --pid -u --userns --uts --no-home --no-privs --no-init --no-umask
--compat --allow-setuid --disable-cache --docker-login --unsquash --no-eval --passphrase --silent -s -q
"""
_HUB_VALUES = """
--flavor -e --env -s --secrets --env-file --secrets-file -v --volume --timeout --attempts --namespace --token
-l --label --name --resource-group-id --expose --network-group --network-alias
"""
_HUB_FLAGS = "-d --detach --dry-run --expose-public --ssh"
_DOCKER_FLAGS = """
-d --detach -i --interactive -t --tty -it -ti -itd -dit -P --publish-all --rm --privileged --init
--read-only --no-healthcheck --oom-kill-disable --sig-proxy --disable-content-trust -q --quiet
--tls-verify --replace --no-hosts --rmi --no-hostname
"""

OPTIONS: dict[str, WrapperOptions] = {
    "env": _options(
        "-u --unset -C --chdir -a --argv0", "-i --ignore-environment -0 --null -v --debug -"
    ),
    "srun": _options(_SRUN_VALUES, _SRUN_FLAGS),
    "numactl": _options(
        "-i --interleave -p --preferred -P --preferred-many -m --membind -w --weighted-interleave"
        " -N --cpunodebind -C --physcpubind",
        "-l --localalloc -b --balancing -a --all",
    ),
    "nohup": _options(),
    "time": _options("-f --format -o --output", "-p --portability -a --append -v --verbose"),
    "nice": _options("-n --adjustment"),
    "ionice": _options("-c --class -n --classdata", "-t --ignore"),
    "taskset": _options("", "-c --cpu-list -a --all-tasks", num_positionals=1),
    "stdbuf": _options("-i --input -o --output -e --error"),
    "timeout": _options(
        "-k --kill-after -s --signal",
        "--foreground --preserve-status -v --verbose -f -p",
        num_positionals=1,
    ),
    "setsid": _options("", "-c --ctty -f --fork -w --wait"),
    "nsys profile": _options(
        "-b -c -d -e -f -g -k -n -o -p -s -t -w -x -y", values_by_default=True
    ),
    "debugpy": _options("", "--wait-for-client --log-to-stderr -m", values_by_default=True),
    "debugpy-run": _options(
        "-p --port -l --log-to -r --run-on-host", "-m -n --nowait -W --no-wait -g --global -v"
    ),
    "cProfile": _options("-o --outfile -s --sort", "-m"),
    "pdb": _options("-c --command", "-m"),
    "coverage run": _options(
        "--source --omit --include --rcfile --data-file --concurrency --context --debug",
        "-m --module -a --append -p --parallel-mode --branch --pylib --timid -L",
    ),
    "kernprof": _options(
        "-o --outfile -s --setup -p --prof-mod -u --unit",
        "-m -l --line-by-line -b --builtin -v --view -r --rich -z --skip-zero",
    ),
    "memray run": _options(
        "-o --output --live-port",
        "-m -q --quiet -v --verbose -f --force --live --live-remote --native --follow-fork --aggregate"
        " --trace-python-allocators --compress-on-exit --no-compress",
    ),
    "viztracer": _options(
        "-o --output_file --tracer_entries --max_stack_depth --min_duration --output_dir --plugins"
        " --include_files --exclude_files --rcfile",
        "-m -u -q",
        flags_by_default=True,
    ),
    "sudo": _options(
        "-u --user -g --group -C --close-from -D --chdir -h --host -p --prompt -R --chroot -r --role"
        " -t --type -T --command-timeout -U --other-user",
        "-E --preserve-env -A --askpass -b --background -H --set-home -i --login -k -K -N -n"
        " --non-interactive -P --preserve-groups -S --stdin -s --shell",
    ),
    "xvfb-run": _options(
        "-e --error-file -f --auth-file -n --server-num -p --xauth-protocol -s --server-args -w --wait",
        "-a --auto-servernum -l --listen-tcp",
    ),
    "screen": _options("-S -dmS -c -e -h -p -s -t -T -Logfile", "-d -m -dm -D -A -a -q -O -U -L"),
    "caffeinate": _options("-t -w", "-d -i -m -s -u -di -dims"),
    "unbuffer": _options("", "-p"),
    "exec": _options("-a", "-c -l -cl"),
    "command": _options("", "-p"),
    "uv run": _options(
        "--with --with-editable --with-requirements --extra --no-extra --group --no-group --only-group"
        " -p --python --python-platform --directory --project --env-file --index --default-index"
        " --index-url -i --extra-index-url --find-links -f --package --cache-dir --config-file"
        " --config-setting -C --link-mode --prerelease --resolution --upgrade-package -P"
        " --reinstall-package --refresh-package --index-strategy --keyring-provider --exclude-newer"
        " --color --allow-insecure-host -w",
        "-m --module -s --script --gui-script -q --quiet -v --verbose -n -U -qq -vv",
        flags_by_default=True,
    ),
    "uvx": _options(
        "--from --with -w --with-editable --with-requirements -p --python --index --default-index"
        " --index-url -i --extra-index-url --find-links --env-file --directory --project --cache-dir",
        "-q --quiet -v --verbose -n -U",
        flags_by_default=True,
    ),
    "poetry run": _options(),
    "pdm run": _options("-p --project", "-s --site-packages", flags_by_default=True),
    "pipenv run": _options(),
    "hatch run": _options(),
    "rye run": _options(),
    "conda run": _options(
        "-n --name -p --prefix --cwd",
        "-v --verbose --no-capture-output --live-stream --no-live-stream --dev"
        " --debug-wrapper-scripts -s --attach -a --clean-env",
        flags_by_default=True,
    ),
    "pixi run": _options(
        "-e --environment --manifest-path -m -w --workspace --pypi-keyring-provider --concurrent-downloads --auth-file",
        "--frozen --locked --as-is --clean-env -x --executable -q -v",
        flags_by_default=True,
    ),
    "apptainer exec": _options(_CONTAINER_VALUES, _CONTAINER_FLAGS, num_positionals=1),
    "docker run": _options(
        "-a -c -e -h -l -m -p -u -v -w", _DOCKER_FLAGS, num_positionals=1, values_by_default=True
    ),
    "ray job submit": _options(
        "--address --job-id --submission-id --runtime-env --runtime-env-json --working-dir --metadata-json"
        " --entrypoint-num-cpus --entrypoint-num-gpus --entrypoint-memory --entrypoint-resources"
        " --entrypoint-label-selector --log-style --log-color --headers --verify",
        "--no-wait -v --verbose",
    ),
    "hf jobs run": _options(_HUB_VALUES, _HUB_FLAGS, num_positionals=1),
    "hf jobs uv run": _options(
        f"{_HUB_VALUES} --image --with -p --python --repo", _HUB_FLAGS, flags_by_default=True
    ),
    "docker exec": _options(
        "-e --env --env-file -u --user -w --workdir --detach-keys",
        "-d --detach -i --interactive -t --tty -it -ti --privileged",
        num_positionals=1,
    ),
}
"""Wrapper -> its options. Several words: all but the first are the subcommand."""

SAME_AS = {
    "singularity exec": "apptainer exec",
    "podman run": "docker run",
    "podman exec": "docker exec",
    "nerdctl run": "docker run",
    "mamba run": "conda run",
    "micromamba run": "conda run",
    "uv tool run": "uvx",
    "gtime": "time",
}
PYTHON_PROGRAMS = (
    "debugpy", "debugpy-run", "cProfile", "pdb", "coverage", "kernprof", "memray", "viztracer",
)  # fmt: skip
"""They start a Python script, or with -m a module; `python -m debugpy` is debugpy."""
SHELLS = ("bash", "sh", "dash", "zsh", "ksh")
ELSEWHERE = ("ray job submit", "hf jobs run", "hf jobs uv run")
"""Programs that have the launcher started on machines of others."""
CONTAINERS = ("apptainer exec", "docker run", "docker exec")
