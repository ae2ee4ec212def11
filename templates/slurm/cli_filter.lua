-- preflight: client guard, version 1. Written by `preflight slurm install --client`.
-- Runs inside sbatch, srun and salloc with the user's rights. Everything that can fail stands in the helper, which has
-- TIMEOUT_S seconds, the first half of which may go by in a queue. Only its exit code 3, together with the word `refuse`, refuses a job; whatever else happens, the
-- job passes, and the user is told. A file that is missing or does not compile would stop every sbatch: replace it by
-- `preflight slurm uninstall`, not by deleting it.

local HELPER = @HELPER@ -- words for a shell
local TIMEOUT_S = @TIMEOUT_S@
local STAMP_OPTION = @STAMP_OPTION@ -- extra, or comment where a site filters nodes by extra
local SITE_FILE = @SITE_FILE@ -- the site's own cli_filter.lua, which is asked first; nil where there is none
local OFF = { off = true, ["0"] = true, no = true, n = true, ["false"] = true, f = true } -- words of PREFLIGHT

-- Words without one of which a script launches no training: the check is not started for it.
local LAUNCHES = {
  "accelerate", "torchrun", "torch%.distributed", "deepspeed", "python", "axolotl", "llamafactory", "lmf", "tune", "trl",
  "litgpt", "composer", "colossalai", "fabric", "preflight", "%.sh", "source%s",
}

local function say(...) io.stderr:write("preflight: ", table.concat({ ... }), "\n") end

local function quoted(text)
  return '"' .. tostring(text):gsub('[%z\1-\31\\"\127]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

local function wants_gpus(cli)
  return cli:find('"gpus[%a-]*":') or cli:find('"gres":"[^"]*gpu') or cli:find('"tres%-per%-task":"[^"]*gpu')
    or cli:find('"exclusive":')
end

local function may_launch(text)
  for _, word in ipairs(LAUNCHES) do
    if text:find(word) then return true end
  end
  return false
end

-- The script of a file, for a look; nil where its name is not a plain one.
local function script_of_file(cli)
  local path = cli:match('"argv":%["(.-)"')
  path = path and path:gsub("\\/", "/")
  if not path or path:find("\\", 1, true) then return nil end
  local file = io.open(path, "r")
  local text = file and file:read("*a")
  if file then file:close() end
  return text or nil
end

-- A script that came on standard input can be read again where that is a file; of a pipe nothing is left.
local function script_of_stdin()
  local file = io.open("/proc/self/fd/0", "r")
  local text = file and file:read("*a")
  if file then file:close() end
  if text and text ~= "" then return text end
end

local function mark(options, stamp)
  local old = options[STAMP_OPTION]
  if old == nil or old == "unset" then old = "" end
  old = old:gsub("%s*preflight=%S*", "")
  options[STAMP_OPTION] = old == "" and stamp or old .. " " .. stamp
end

-- `preflight sbatch` judged the job and became this process.
local function was_judged()
  local judged, file = os.getenv("PREFLIGHT_SUBMITTED"), io.open("/proc/self/stat")
  local number = file and file:read("*n")
  if file then file:close() end
  return judged and number and tonumber(judged) == number
end

-- Before a check is started it waits for its turn, because two hundred at once on two cores end none in time: a user
-- has as many turns as processors. A turn is the lock of a file in a folder of that user alone, so nobody else can take
-- it, and it ends with its holder, the helper itself. Where there is no such folder or no flock, nobody waits.
local QUEUE = [[
user=$1 turn=$2 wait_s=$3
shift 3
for folder in "${XDG_RUNTIME_DIR:-/dev/null}/preflight" "/tmp/preflight-$user"; do
  [ -d "$folder" ] || mkdir -m 700 "$folder"
  if [ -O "$folder" ] && [ ! -L "$folder" ] && command exec 9>>"$folder/turn$turn"; then
    flock -w "$wait_s" -E 75 9
    [ $? != 75 ] || exit 75
    break
  fi
done 2>/dev/null
exec "$@"]]
local WAIT_S = string.format("%g", TIMEOUT_S / 2)

-- The command that runs another one in its turn.
local function in_queue(words)
  local file = io.open("/proc/self/status")
  local status = file and file:read("*a") or ""
  if file then file:close() end
  local user, process = status:match("\nUid:%s*%d+%s+(%d+)"), status:match("\nPid:%s*(%d+)")
  local num_turns = 0
  for first, last in (status:match("\nCpus_allowed_list:%s*(%S+)") or ""):gmatch("(%d+)%-?(%d*)") do
    num_turns = num_turns + (last == "" and 1 or last - first + 1)
  end
  if not user or not process or num_turns == 0 then return words end
  return string.format("sh -c '%s' queue %s %d %s %s", QUEUE, user, process % num_turns, WAIT_S, words)
end

local function check(options, component)
  local kind = options["type"]
  if kind ~= "sbatch" and kind ~= "srun" then return slurm.SUCCESS end
  if kind == "srun" and os.getenv("SLURM_JOB_ID") then return slurm.SUCCESS end -- a step of a job that was judged
  local cli = slurm.json_cli_options(options)
  if component > 0 or not wants_gpus(cli) then return slurm.SUCCESS end
  if OFF[(os.getenv("PREFLIGHT") or ""):lower():match("^%s*(.-)%s*$")] then
    mark(options, "preflight=off")
    return slurm.SUCCESS
  end
  if was_judged() then return slurm.SUCCESS end
  local script
  local looked = cli
  if kind == "sbatch" and not cli:find('"wrap":') then
    if cli:find('"argv":%[%]') then
      script = script_of_stdin()
      if not script then
        mark(options, "preflight=not-judged,stdin")
        say("the script came through a pipe and was not judged; `preflight sbatch` reads it")
        return slurm.SUCCESS
      end
      looked = script
    else
      looked = script_of_file(cli) or "preflight"
    end
  end
  if not may_launch(looked) then return slurm.SUCCESS end
  local started = os.time()
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write('{"version":1,"program":', quoted(kind), ',"options":', cli, script and ',"script":' .. quoted(script) or "", "}")
  file:close()
  -- Standard input is closed to the helper: it is the script's, or the input of srun. Its answer goes to a file, so
  -- that nobody whom it leaves behind can keep this process waiting.
  local answer_path = os.tmpname()
  local words = "timeout -k 1 " .. TIMEOUT_S .. " " .. in_queue(HELPER .. " '" .. path .. "'")
  local helper = io.popen("{ " .. words .. " </dev/null; echo exit=$?; } >'" .. answer_path .. "'")
  helper:read("*a")
  helper:close()
  file = assert(io.open(answer_path))
  local answer = file:read("*a")
  file:close()
  os.remove(path)
  os.remove(answer_path)
  local code = tonumber(answer:match("exit=(%d+)%s*$"))
  if code == 3 and answer:find("refuse\n", 1, true) then return slurm.ERROR end
  local stamp = answer:match("stamp=(%S+)")
  if code == 0 and stamp then
    mark(options, stamp)
    return slurm.SUCCESS
  end
  if code == 75 then
    mark(options, "preflight=not-judged,busy")
    say("too many submissions at once: no turn within " .. WAIT_S .. " s, the job was not judged and passes")
    return slurm.SUCCESS
  end
  local late = code == 124 or (code == 137 and os.time() - started >= TIMEOUT_S)
  mark(options, late and "preflight=not-judged,timeout" or "preflight=not-judged,failed")
  local why = code and "the check failed (exit code " .. code .. ")" or "no answer could be written to " .. answer_path
  say(late and "no answer within " .. TIMEOUT_S .. " s" or why, ": the job was not judged and passes")
  return slurm.SUCCESS
end

local site = nil
if SITE_FILE then
  site = setmetatable({}, { __index = _G })
  local chunk, problem
  if setfenv then
    chunk, problem = loadfile(SITE_FILE)
    if chunk then setfenv(chunk, site) end
  else
    chunk, problem = loadfile(SITE_FILE, "t", site)
  end
  if not chunk then error(problem) end
  chunk()
end

function slurm_cli_setup_defaults(options, early)
  if site and site.slurm_cli_setup_defaults then return site.slurm_cli_setup_defaults(options, early) end
  return slurm.SUCCESS
end

function slurm_cli_pre_submit(options, component)
  if site and site.slurm_cli_pre_submit then
    local code = site.slurm_cli_pre_submit(options, component)
    if code ~= slurm.SUCCESS then return code end
  end
  local done, code = pcall(check, options, component)
  if done then return code end
  pcall(mark, options, "preflight=not-judged,failed")
  say("the guard failed, the job was not judged and passes: ", tostring(code))
  return slurm.SUCCESS
end

function slurm_cli_post_submit(component, job_id, step_id)
  if site and site.slurm_cli_post_submit then return site.slurm_cli_post_submit(component, job_id, step_id) end
  return slurm.SUCCESS
end

return slurm.SUCCESS
