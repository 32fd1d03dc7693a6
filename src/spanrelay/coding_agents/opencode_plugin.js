// Asks SpanRelay before each tool of opencode whether it may run, and tells it of each prompt and of each turn's end.
//
// It speaks the JSON of Claude Code's hooks to a command, which whoever writes this file for a run puts in its place.

import { spawn, spawnSync } from "node:child_process"
import { existsSync } from "node:fs"
import { homedir } from "node:os"
import { isAbsolute, join } from "node:path"

const COMMAND = ["the command of the hook"]
const REFUSED = 2

/** The database of all sessions, as opencode itself finds it. */
function database() {
  const data = join(process.env.XDG_DATA_HOME || join(homedir(), ".local", "share"), "opencode")
  const named = process.env.OPENCODE_DB || "opencode.db"
  const path = isAbsolute(named) ? named : join(data, named)
  return existsSync(path) ? path : undefined
}

/** Commands that are told of the end of a turn, and have not ended themselves, with what they were given. */
const telling = new Map()

/** What the command says to a hook: its status, and what it prints. */
function asked(hook) {
  const given = JSON.stringify(hook)
  return new Promise((resolve) => {
    let out = ""
    let why = ""
    const child = spawn(COMMAND[0], COMMAND.slice(1), { stdio: ["pipe", "pipe", "pipe"] })
    child.stdout.setEncoding("utf8").on("data", (text) => (out += text))
    child.stderr.setEncoding("utf8").on("data", (text) => (why += text))
    child.stdin.on("error", () => {})
    child.on("error", (error) => resolve({ status: -1, out: "", why: String(error) }))
    child.on("close", (status) => {
      telling.delete(child)
      resolve({ status, out, why })
    })
    child.stdin.end(given)
    if (hook.hook_event_name === "Stop") telling.set(child, given)
  })
}

/** Let the end of a turn be told whole before opencode ends: `opencode run` ends with its only turn. */
function finish() {
  for (const [child, given] of telling) {
    child.kill()
    spawnSync(COMMAND[0], COMMAND.slice(1), { input: given, stdio: ["pipe", "ignore", "ignore"] })
  }
}

/** Throw where a tool may not run, which opencode tells the model; else return the arguments that policy left, if any. */
async function judged(hook) {
  const { status, out, why } = await asked(hook)
  if (status === REFUSED) throw new Error(why.trim())
  let said
  try {
    if (status !== 0) throw new Error(why.trim() || `its status is ${status}`)
    said = out ? JSON.parse(out).hookSpecificOutput : {}
    if (typeof said !== "object") throw new Error("its answer decides nothing")
  } catch (error) {
    if (process.env.SPANRELAY_HOOKS_HOLD) throw new Error(`policy cannot be asked, so no tool may run: ${error.message}`)
    return undefined
  }
  if (said.permissionDecision === "deny") throw new Error(said.permissionDecisionReason)
  return said.updatedInput
}

/** Let an object say what another does, in place: opencode goes on with the one that it has. */
function become(given, wanted) {
  for (const key of Object.keys(given)) delete given[key]
  Object.assign(given, wanted)
}

export const SpanRelay = async () => {
  const parents = new Map()
  process.on("exit", finish)

  /** What a hook says of a session: that of the user, and which sub-agent's it is of, if any. */
  const place = (session) => {
    let root = session
    while (parents.has(root)) root = parents.get(root)
    return { session_id: root, ...(root === session ? {} : { agent_id: session }), database: database() }
  }

  const judge = async (session, call, tool, args) => {
    const hook = { hook_event_name: "PreToolUse", ...place(session), tool_name: tool, tool_use_id: call }
    const wanted = await judged({ ...hook, tool_input: args })
    if (wanted) become(args, wanted)
  }

  return {
    event: async ({ event }) => {
      const told = event.properties
      if (event.type === "session.created" && told.info.parentID) parents.set(told.info.id, told.info.parentID)
      if (event.type === "session.idle" && !process.env.SPANRELAY_HOOKS)
        await asked({ hook_event_name: "Stop", ...place(told.sessionID) })
    },
    "chat.message": async (input, output) => {
      const words = output.parts.filter((part) => part.type === "text").map((part) => part.text)
      const hook = { hook_event_name: "UserPromptSubmit", ...place(input.sessionID), prompt_id: output.message.id }
      await asked({ ...hook, prompt: words.join("\n") })
    },
    "tool.execute.before": async (input, output) => {
      await judge(input.sessionID, input.callID, input.tool, output.args)
    },
  }
}
