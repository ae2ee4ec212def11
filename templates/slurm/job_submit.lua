-- preflight: controller guard, version 1. Written by `preflight slurm install --controller`.
-- It starts no process and reads one file of one word: off, warn or require. For a job script that asks for GPUs
-- and launches training it looks whether the check on the client left a stamp (--extra) for this script and these
-- options. It is a policy, and no security: anybody can write a stamp. Every fault of its own lets the job pass.

local POLICY_FILE = @POLICY_FILE@
local SITE_FILE = @SITE_FILE@ -- the site's own job_submit.lua, which is asked first; nil where there is none
local MOST_BYTES = 32768 -- of a script: a longer one is looked at in its first and its last half of this
local OFF = { off = true, ["0"] = true, no = true, n = true, ["false"] = true, f = true } -- words of PREFLIGHT

local LAUNCHES = {
  "accelerate%s+launch", "accelerate%.commands", "torchrun", "torch%.distributed", "deepspeed%s",
  "axolotl%s", "llamafactory", "tune%s+run", "torchtitan", "trl%s+%l",
}

local function policy()
  local file = io.open(POLICY_FILE)
  if not file then return "off" end
  local word = (file:read("*l") or ""):match("^%s*(%a+)")
  file:close()
  return word or "off"
end

-- adler32 of zlib; sums stay far below 2^53 for a block of 64 bytes and are cut there.
local function adler32(text)
  local a, b, byte = 1, 0, string.byte
  for at = 1, #text, 8 do
    local c1, c2, c3, c4, c5, c6, c7, c8 = byte(text, at, at + 7)
    if c8 then
      b = b + 8 * a + 8 * c1 + 7 * c2 + 6 * c3 + 5 * c4 + 4 * c5 + 3 * c6 + 2 * c7 + c8
      a = a + c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8
    else
      for i = at, #text do a = a + byte(text, i); b = b + a end
    end
    a, b = a % 65521, b % 65521
  end
  return string.format("%04x%04x", b, a)
end

local function ends(script)
  if #script <= MOST_BYTES then return script end
  local half = MOST_BYTES / 2
  return script:sub(1, half) .. script:sub(-half) .. string.format("%d", #script)
end

local function script_checksum(script) return adler32(ends(script)) end

-- The GPUs of one request, `gres/gpu:h100:8,gres/gpu:v100=1`, as `node:h100:8`.
local function gpus(words, kind, request)
  local seen, own = {}, {}
  for item in (request or ""):gmatch("[^,]+") do
    item = item:gsub("^%s*gres[/:]", ""):gsub("=", ":")
    if item == "gpu" or item:sub(1, 4) == "gpu:" then
      local rest = item:sub(5)
      if rest == "" then rest = "1" elseif not (":" .. rest):match(":%d+$") then rest = rest .. ":1" end
      if not seen[rest] then seen[rest] = true; own[#own + 1] = kind .. ":" .. rest end
    end
  end
  table.sort(own)
  for _, word in ipairs(own) do words[#words + 1] = word end
end

local function gpus_asked(job)
  local words = {}
  gpus(words, "job", job.tres_per_job)
  gpus(words, "node", job.tres_per_node)
  gpus(words, "socket", job.tres_per_socket)
  gpus(words, "task", job.tres_per_task)
  return words
end

local function options_checksum(job, words)
  return adler32((job.partition or "") .. "|" .. (job.features or "") .. "|" .. table.concat(words, " "))
end

local function launches_training(script)
  for _, pattern in ipairs(LAUNCHES) do
    if script:find(pattern) then return true end
  end
  return false
end

local function record(job, words)
  job.admin_comment = words
  slurm.log_info("preflight: %s, user %s, job name %s", words, tostring(job.user_name), tostring(job.name))
end

-- What is wrong with the stamp of a job; nil where nothing is, or where the job was let off.
local function objection(job, words)
  local text = (job.extra or "") .. " " .. (job.comment or "")
  local stamp = text:match("preflight=(%S+)")
  local is_off = job.environment and OFF[tostring(job.environment["PREFLIGHT"]):lower():match("^%s*(.-)%s*$")]
  if is_off or (stamp and stamp:match("^off")) then record(job, "preflight=off,by-user") return nil end
  if not stamp then return "it was not checked" end
  if stamp:match("^not%-judged") then record(job, "preflight=" .. stamp) return nil end
  local script, options = stamp:match("^1,[%a_]+,(%x+),(%x+)$")
  if not script then return "its stamp is of another version of preflight" end
  if script ~= script_checksum(job.script) then return "its stamp is of another script" end
  if options ~= options_checksum(job, words) then return "its stamp is of other options (partition, constraint or GPUs)" end
  job.admin_comment = "preflight=" .. stamp
  return nil
end

local function guard(job)
  local mode = policy()
  if mode ~= "warn" and mode ~= "require" then return slurm.SUCCESS end
  local script = job.script
  if not script then return slurm.SUCCESS end -- srun, salloc, a further part of a heterogeneous job
  local words = gpus_asked(job)
  if #words == 0 and job.shared ~= 0 then return slurm.SUCCESS end -- 0 is --exclusive: all GPUs of the node
  if not launches_training(ends(script)) then return slurm.SUCCESS end
  local why = objection(job, words)
  if not why then return slurm.SUCCESS end
  local name = job.argv and job.argv[0] or "job.sh"
  if mode == "warn" then
    slurm.log_user("preflight: warning: %s; submit it with: preflight sbatch %s", why, name)
    return slurm.SUCCESS
  end
  slurm.log_user("preflight: not accepted: %s\n  fix  preflight sbatch %s\n  or, on record and unchecked: PREFLIGHT=off sbatch %s", why, name, name)
  slurm.log_info("preflight: refused, %s, user %s, job name %s", why, tostring(job.user_name), tostring(job.name))
  return slurm.ESLURM_REQUESTED_NODE_CONFIG_UNAVAILABLE or slurm.ERROR
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

function slurm_job_submit(job, partitions, uid)
  if site and site.slurm_job_submit then
    local code = site.slurm_job_submit(job, partitions, uid)
    if code ~= slurm.SUCCESS then return code end
  end
  local done, code = pcall(guard, job)
  if done then return code end
  slurm.log_error("preflight: guard failed, the job passes: %s", tostring(code))
  return slurm.SUCCESS
end

-- A job that moves to other GPUs after its check is told so, and moves.
local function moved(job, before, uid)
  if uid == 0 or policy() == "off" then return end
  local text = (before.extra or "") .. " " .. (before.comment or "") .. " " .. (before.admin_comment or "")
  if not text:match("preflight=1,") then return end
  if (job.partition and job.partition ~= before.partition)
    or (job.features and job.features ~= before.features)
    or job.tres_per_node or job.tres_per_job or job.tres_per_task then
    slurm.log_user("preflight: warning: this job was checked for other GPUs than those that it may get now")
  end
end

function slurm_job_modify(job, before, partitions, uid)
  if site and site.slurm_job_modify then
    local code = site.slurm_job_modify(job, before, partitions, uid)
    if code ~= slurm.SUCCESS then return code end
  end
  pcall(moved, job, before, uid)
  return slurm.SUCCESS
end

return slurm.SUCCESS
