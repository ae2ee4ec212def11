# Read by the job script's bash, and by every bash below it, before its first line (BASH_ENV).
#
# Programs become functions: launchers write down how they are called, srun and other wrappers call
# what they would start, and everything that changes something does nothing, or does it below
# $PREFLIGHT_DRY/files, where a path is looked for first. Names of our own begin with __pf_.
# Lists of names come from dry_run.py in front of this text.

PATH=$PREFLIGHT_DRY/bin:$PREFLIGHT_DRY/real
__pf_files=$PREFLIGHT_DRY/files
__pf_real=$PREFLIGHT_DRY/real

# Paths -----------------------------------------------------------------------------------------

__pf_absolute() { # PATH: into __pf_is, without what stands for our folder
  case $1 in /*) __pf_is=$1 ;; *) __pf_is=$PWD/$1 ;; esac
  __pf_is=${__pf_is#"$__pf_files"}
}
__pf_read_path() { # PATH: into __pf_is, the copy that the script wrote, else the path itself
  __pf_absolute "$1"
  if [[ -e $__pf_files$__pf_is ]]; then __pf_is=$__pf_files$__pf_is; else __pf_is=$1; fi
}
__pf_write_path() { # PATH: into __pf_is, where it is written to instead
  case $1 in
  /dev/null | /dev/std* | /dev/fd/* | /dev/tty | "$PREFLIGHT_DRY"/tmp/*) __pf_is=$1 ;;
  /dev/*) __pf_is=/dev/null ;;
  *)
    __pf_absolute "$1"
    __pf_is=$__pf_files$__pf_is
    "$__pf_real/mkdir" -p -- "${__pf_is%/*}"
    ;;
  esac
}
__pf_source_of() { __pf_read_path "$1" && printf %s "$__pf_is"; }
__pf_target_of() { # PATH [append]
  __pf_write_path "$1"
  if [[ ${2-} && -f $1 && ! -e $__pf_is ]]; then "$__pf_real/cat" -- "$1" >"$__pf_is"; fi
  printf %s "$__pf_is"
}

# Writing down ----------------------------------------------------------------------------------

__pf_record() { # NAME ARGUMENTS...
  local __pf_file=$PREFLIGHT_DRY/rec/$BASHPID.$RANDOM$RANDOM
  printf '%s\0' "$PREFLIGHT_SOURCE" "$PREFLIGHT_LINE" "$PWD" "${PREFLIGHT_VIA-}" "$#" "$@" >"$__pf_file"
  "$__pf_real/env" -0 >>"$__pf_file"
}
__pf_through() { # WORDS... of a wrapper; what is written down from here on is behind them
  local __pf_file=$PREFLIGHT_DRY/rec/via.$BASHPID.$RANDOM$RANDOM
  { [[ -z ${PREFLIGHT_VIA-} ]] || "$__pf_real/cat" "$PREFLIGHT_VIA"; printf '%s\0' "$@"; } >"$__pf_file"
  export PREFLIGHT_VIA=$__pf_file
}
__pf_is_launcher() { [[ $__pf_launchers == *" ${1##*/} "* || ${1##*/} == python* ]]; }

# Starting --------------------------------------------------------------------------------------

__pf_start() { # WORDS... as a shell would start them
  case $# in 0) return 0 ;; esac
  case $1 in
  */*) __pf_start_path "$@" ;;
  *)
    if declare -F -- "$1" >/dev/null || [[ -x $PREFLIGHT_DRY/bin/$1 ]]; then "$@"; else __pf_unknown "$@"; fi
    ;;
  esac
}
__pf_start_path() { # a program by its path: a shell script is followed, a launcher written down
  local __pf_head=
  if __pf_is_launcher "$1"; then
    __pf_record "$@"
    return 0
  fi
  __pf_read_path "$1"
  if [[ -f $__pf_is && -r $__pf_is ]]; then
    { IFS= read -r -n 80 __pf_head <"$__pf_is"; } 2>/dev/null
    case $__pf_head in
    '#!'*sh* ) bash "$__pf_is" "${@:2}"; return ;;
    '#!'*python*) __pf_record python "$@"; return 0 ;;
    esac
    case $1 in *.sh | *.bash) bash "$__pf_is" "${@:2}"; return ;; esac
  fi
  if declare -F -- "${1##*/}" >/dev/null || [[ -x $PREFLIGHT_DRY/bin/${1##*/} ]]; then
    "${1##*/}" "${@:2}"
  else
    __pf_unknown "$@"
  fi
}
__pf_unknown() { # a program that is not here: maybe it starts one that is known
  local __pf_at
  for ((__pf_at = 2; __pf_at <= $#; __pf_at++)); do
    case ${!__pf_at} in
    accelerate-launch | accelerate | torchrun | deepspeed | tune | composer | axolotl | trl | llamafactory-cli | bash | sh | python | python[23]* | \
      */accelerate | */torchrun | */deepspeed | */tune | */axolotl | */trl | */llamafactory-cli | */bash | */sh | */python | */python[23]*)
      __pf_behind "$((__pf_at - 1))" "$@"
      return
      ;;
    *.py)
      case ${1##*/} in uv | pixi | poetry | pdm | rye | hatch | pipenv)
        (__pf_through "${@:1:__pf_at-1}" && __pf_record python "${@:__pf_at}")
        return 0
        ;;
      esac
      ;;
    esac
  done
  return 0
}
__pf_behind() { # NUMBER WORDS...: start what stands behind the first words of a wrapper
  local __pf_number=$1
  shift
  (__pf_through "${@:1:__pf_number}" && __pf_start "${@:__pf_number+1}")
}

# Before every command: origin, no `set -e` or `-u`, and programs that are named by their path -----

__pf_seen() { # TEXT-OF-THE-COMMAND POSITIONAL-PARAMETERS...
  local __pf_text=$1 __pf_word __pf_rest
  shift
  case $__pf_text in *[/\$]*) ;; *) return 0 ;; esac
  while :; do
    case $__pf_text in
    '"'*)
      __pf_word=${__pf_text#'"'} __pf_word="\"${__pf_word%%'"'*}\""
      __pf_rest=${__pf_text#"$__pf_word"} __pf_word+=${__pf_rest%%[[:space:]]*}
      ;;
    *) __pf_word=${__pf_text%%[[:space:]]*} ;;
    esac
    case $__pf_word in
    [A-Za-z_]*=*[\"\'\`\(]*) return 0 ;;
    [A-Za-z_]*=*)
      case $__pf_text in *[[:space:]]*) __pf_text=${__pf_text#*[[:space:]]} ;; *) return 0 ;; esac
      ;;
    *) break ;;
    esac
  done
  case $__pf_word in
  *'('* | *'`'* | *';'* | *'>'* | *'<'* | *'&'* | *'|'* | *"'"*) return 0 ;;
  '$'* | '"$'* | *?/*) ;;
  *) return 0 ;;
  esac
  eval "set -- $__pf_word" 2>/dev/null || return 0
  case ${1-} in "$PREFLIGHT_DRY"/*) return 0 ;; */*) ;; *) return 0 ;; esac
  case $1 in *[!A-Za-z0-9_./+@:-]*) return 0 ;; esac
  declare -F -- "$1" >/dev/null || eval "function $1 { __pf_start_path '$1' \"\$@\"; }"
}

# Launchers and wrappers --------------------------------------------------------------------------

for __pf_name in $__pf_launchers; do
  eval "$__pf_name() { __pf_record $__pf_name \"\$@\"; }"
done
python() { __pf_python python "$@"; }
python3() { __pf_python python3 "$@"; }
__pf_not_known() { # NAME: what a program would print, where it is asked for and nobody knows it
  [[ ! -p /dev/stdout ]] || echo "\$($1)"
}
__pf_python() { # of what it starts; not of `-c` and of what comes on standard input
  local __pf_at
  for ((__pf_at = 2; __pf_at <= $#; __pf_at++)); do
    case ${!__pf_at} in
    -m* | -?m) __pf_record "$@"; return 0 ;;
    -c | -) __pf_not_known python; return 0 ;;
    -W | -X) ((__pf_at++)) ;;
    -*) ;;
    *) __pf_record "$@"; return 0 ;;
    esac
  done
}
preflight() { # an explicit line in the script: what stands behind its `--`
  local __pf_at
  for ((__pf_at = 1; __pf_at <= $#; __pf_at++)); do
    if [[ ${!__pf_at} == -- ]]; then
      (__pf_through preflight && __pf_start "${@:__pf_at+1}")
      return
    fi
  done
  return 0
}
srun() {
  local __pf_all=("$@") __pf_tasks= __pf_nodes= __pf_per_node= __pf_chdir= __pf_export= __pf_value __pf_name
  while (($#)); do
    __pf_value=
    case $1 in
    --) shift; break ;;
    --*=*) __pf_name=${1%%=*} __pf_value=${1#*=} ;;
    --*)
      __pf_name=$1
      if [[ $__pf_srun_values == *" $1 "* ]]; then __pf_value=${2-}; shift; fi
      ;;
    -?*)
      __pf_name=${1:0:2}
      if [[ $__pf_srun_values == *" $__pf_name "* ]]; then
        if [[ ${#1} -gt 2 ]]; then __pf_value=${1:2}; else __pf_value=${2-}; shift; fi
      fi
      ;;
    *) break ;;
    esac
    case $__pf_name in
    -n | --ntasks) __pf_tasks=$__pf_value ;;
    -N | --nodes) __pf_nodes=${__pf_value%%-*} ;;
    --ntasks-per-node) __pf_per_node=$__pf_value ;;
    -D | --chdir) __pf_chdir=$__pf_value ;;
    --export) __pf_export=$__pf_value ;;
    --multi-prog) __pf_record srun "${__pf_all[@]}"; return 0 ;;
    esac
    (($#)) && shift
  done
  (($#)) || return 0
  (
    __pf_number=$((${#__pf_all[@]} - $#))
    __pf_through srun "${__pf_all[@]:0:__pf_number}"
    [[ $__pf_chdir ]] && builtin cd -- "$__pf_chdir" 2>/dev/null
    [[ $__pf_nodes ]] && export SLURM_NNODES=$__pf_nodes SLURM_JOB_NUM_NODES=$__pf_nodes
    if [[ -z $__pf_tasks && $__pf_per_node ]]; then __pf_tasks=$((__pf_per_node * ${SLURM_NNODES:-1})); fi
    [[ $__pf_per_node ]] && export SLURM_NTASKS_PER_NODE=$__pf_per_node
    [[ $__pf_tasks ]] || __pf_tasks=${SLURM_NTASKS:-${SLURM_NNODES:-1}}
    export SLURM_NTASKS=$__pf_tasks SLURM_NPROCS=$__pf_tasks SLURM_STEP_NUM_TASKS=$__pf_tasks
    export SLURM_STEP_NUM_NODES=${SLURM_NNODES:-1}
    export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_STEP_ID=0 SLURM_STEPID=0
    IFS=,
    for __pf_value in $__pf_export; do
      case $__pf_value in *=*) export "${__pf_value%%=*}=${__pf_value#*=}" ;; esac
    done
    unset IFS
    __pf_start "$@"
  )
}
mpirun() { __pf_unknown mpirun "$@"; }
env() {
  (
    while (($#)); do
      case $1 in
      -u | --unset) unset "${2-}"; shift ;;
      -C | --chdir) builtin cd -- "${2-}" 2>/dev/null; shift ;;
      -*) ;;
      *=*) export "${1%%=*}=${1#*=}" ;;
      *) break ;;
      esac
      (($#)) && shift
    done
    if (($#)); then __pf_start "$@"; else "$__pf_real/env"; fi
  )
}
nohup() { __pf_start "$@"; }
command() { case ${1-} in -v | -V) builtin command "$@" ;; -p) __pf_start "${@:2}" ;; *) __pf_start "$@" ;; esac; }
exec() { # a line that only redirects is none of ours
  (($#)) || return 0
  while (($#)); do case $1 in -a) shift 2 ;; -c | -l | -cl) shift ;; *) break ;; esac; done
  __pf_start "$@"
  builtin exit
}
conda() {
  case ${1-} in
  run) __pf_unknown conda "$@" ;;
  activate) case ${2-} in */*) export CONDA_PREFIX=$2 ;; ?*) export CONDA_DEFAULT_ENV=$2 ;; esac ;;
  esac
}
mamba() { conda "$@"; }
micromamba() { conda "$@"; }
which() { # a launcher keeps its name: where it lies is for the compute node to say
  local __pf_name
  for __pf_name; do case $__pf_name in -*) ;; *) printf '%s\n' "$__pf_name" ;; esac; done
}
source() {
  case ${1-} in
  */bin/activate)
    export VIRTUAL_ENV=${1%/bin/activate}
    ;;
  '' | /etc/* | *conda.sh | *bashrc | *profile | *activate* | *modules*) ;;
  *)
    __pf_read_path "$1"
    [[ -r $__pf_is ]] && builtin source "$__pf_is" "${@:2}"
    ;;
  esac
  return 0
}
.() { source "$@"; }
cd() {
  case ${1-} in -- | -L | -P) shift ;; esac
  case $# in 0) set -- "${HOME:-/}" ;; esac
  builtin cd -- "$1" 2>/dev/null && return 0
  __pf_absolute "$1"
  [[ -d $__pf_files$__pf_is ]] && builtin cd -- "$__pf_files$__pf_is"
  return 0
}

# What a job asks of its machine ------------------------------------------------------------------

scontrol() {
  case "${1-} ${2-}" in
  "show hostnames" | "show hostname")
    case ${3-} in
    '' | "$SLURM_JOB_NODELIST") printf '%s\n' $PREFLIGHT_NODES ;;
    *) printf '%s\n' "$3" ;;
    esac
    ;;
  esac
}
hostname() {
  case ${1-} in
  -i | -I | --ip-address | --all-ip-addresses) echo 10.0.0.1 ;;
  *) echo "${PREFLIGHT_NODES%% *}" ;;
  esac
}
getent() { echo "10.0.0.1 STREAM ${3-}"; }
nproc() { echo "${SLURM_CPUS_ON_NODE:-1}"; }
whoami() { echo "$USER"; }
id() { case $* in -u) echo "$UID" ;; *n*) echo "$USER" ;; *) echo "uid=$UID($USER)" ;; esac; }
nvidia-smi() {
  local __pf_at
  for ((__pf_at = 0; __pf_at < ${PREFLIGHT_GPUS:-0}; __pf_at++)); do echo "GPU $__pf_at: NVIDIA (UUID: GPU-$__pf_at)"; done
}
mktemp() {
  local __pf_file=$PREFLIGHT_DRY/tmp/$BASHPID.$RANDOM$RANDOM
  case "$*" in *-d* | *--directory*) "$__pf_real/mkdir" "$__pf_file" ;; *) : >"$__pf_file" ;; esac
  echo "$__pf_file"
}
sbatch() { __pf_record sbatch "$@"; }
for __pf_name in $__pf_silent; do
  eval "$__pf_name() { return 0; }"
done
egrep() { grep -E "$@"; }
fgrep() { grep -F "$@"; }
zcat() { :; }

# Text tools: real, with the script's own copies in place of the files -----------------------------

__pf_tool() { # NAME ARGUMENTS...
  local __pf_name=$1 __pf_word __pf_words=()
  shift
  for __pf_word; do
    case $__pf_word in
    -* | '') __pf_words+=("$__pf_word") ;;
    *) __pf_read_path "$__pf_word"; __pf_words+=("$__pf_is") ;;
    esac
  done
  "$__pf_real/$__pf_name" "${__pf_words[@]}"
}
for __pf_name in $__pf_tools; do
  eval "$__pf_name() { __pf_tool $__pf_name \"\$@\"; }"
done
sed() {
  case " $* " in *" -i"* | *" --in-place"*) ;; *) __pf_tool sed "$@"; return ;; esac
  local __pf_word __pf_words=() __pf_paths=()
  for __pf_word; do
    case $__pf_word in
    -i* | --in-place*) ;;
    *) if [[ -f $__pf_word ]]; then __pf_paths+=("$__pf_word"); else
      __pf_read_path "$__pf_word"
      if [[ -f $__pf_is ]]; then __pf_paths+=("$__pf_word"); else __pf_words+=("$__pf_word"); fi
    fi ;;
    esac
  done
  for __pf_word in "${__pf_paths[@]}"; do
    __pf_read_path "$__pf_word"
    local __pf_text
    __pf_text=$("$__pf_real/sed" "${__pf_words[@]}" "$__pf_is" && echo .)
    __pf_write_path "$__pf_word"
    printf %s "${__pf_text%.}" >"$__pf_is"
  done
}
tee() {
  local __pf_word __pf_words=()
  for __pf_word; do
    case $__pf_word in
    -*) __pf_words+=("$__pf_word") ;;
    *) __pf_write_path "$__pf_word"; __pf_words+=("$__pf_is") ;;
    esac
  done
  "$__pf_real/tee" "${__pf_words[@]}"
}
mkdir() {
  local __pf_word
  for __pf_word; do
    case $__pf_word in
    -*) ;;
    *) if [[ ! -d $__pf_word ]]; then __pf_write_path "$__pf_word"; "$__pf_real/mkdir" -p -- "$__pf_is"; fi ;;
    esac
  done
}
touch() {
  local __pf_word
  for __pf_word; do
    case $__pf_word in -*) ;; *) if [[ ! -e $__pf_word ]]; then __pf_write_path "$__pf_word"; : >>"$__pf_is"; fi ;; esac
  done
}
cp() {
  local __pf_word __pf_words=() __pf_last __pf_to
  for __pf_word; do case $__pf_word in -*) ;; *) __pf_words+=("$__pf_word") ;; esac; done
  ((${#__pf_words[@]} > 1)) || return 0
  __pf_last=${__pf_words[-1]}
  for __pf_word in "${__pf_words[@]::${#__pf_words[@]}-1}"; do
    __pf_to=$__pf_last
    __pf_absolute "$__pf_last"
    if [[ $__pf_last == */ || -d $__pf_last || -d $__pf_files$__pf_is ]]; then __pf_to=${__pf_last%/}/${__pf_word##*/}; fi
    __pf_read_path "$__pf_word"
    [[ -f $__pf_is ]] || continue
    __pf_word=$__pf_is
    __pf_write_path "$__pf_to"
    "$__pf_real/cat" -- "$__pf_word" >"$__pf_is"
  done
}
mv() { cp "$@"; }
install() { cp "$@"; }
rsync() { cp "$@"; }

command_not_found_handle() { __pf_unknown "$@"; }
if [[ ${PREFLIGHT_KEEP_GOING-} ]]; then
  exit() { return 0; }
fi

builtin set +eu
builtin set -T
# On one line, because a line's end in it would count for $LINENO.
builtin trap '[[ ${BASH_SOURCE[0]} == "$PREFLIGHT_DRY"/prelude ]] || { [[ ! ${BASH_SOURCE[0]} ]] || PREFLIGHT_SOURCE=${BASH_SOURCE[0]} PREFLIGHT_LINE=$LINENO; case $- in *[eux]*) builtin set +eux ;; esac; __pf_seen "$BASH_COMMAND" "$@"; }' DEBUG
trap() { return 0; }
