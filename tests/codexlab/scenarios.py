"""The scenarios. Each is a function of a fresh Lab, and has a recording in tests/corpus."""
import json, os, subprocess, threading, time
from lab import HERE, HOME, LAB, WORK, free_port

ALL = {}


def scenario(name):
    def d(f):
        ALL[name] = f
        return f
    return d


def msg(text, **kw):
    return {"t": "msg", "text": text, **kw}


def usage(i, c, o, r):
    return {"t": "usage", "input": i, "cached": c, "output": o, "reasoning": r}


def run(cmd, **kw):
    return {"t": "call", "name": "exec_command", "args": {"cmd": cmd, **kw}}


def call(name, args, ns=None):
    return {"t": "call", "name": name, "args": args, "ns": ns}


def patch(body):
    return {"t": "custom", "name": "apply_patch", "input": "*** Begin Patch\n" + body + "*** End Patch\n"}


def reason(text):
    return {"t": "reason", "text": text}


def txt(text):
    return {"type": "text", "text": text, "text_elements": []}


PICTURE = {"type": "image", "url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="}


# A path that the sandbox of workspace-write keeps codex from, unlike /tmp, and that is nobody's.
OUTSIDE = "/var/tmp/factline-lab-outside-%d.txt" % os.getpid()

MCP = '[mcp_servers.lab]\ncommand = "python3"\nargs = ["%s/mcp_server.py"]\n' % HERE
SKILL = """---
name: %s
description: %s
---

# %s

Follow these steps: print the word %s.
"""


def market(names, skills):
    """A local marketplace with these plugins, each with a skill of its own where `skills`; the path of its file."""
    root = LAB + "/ext/market"
    path = root + "/.agents/plugins/marketplace.json"
    os.makedirs(root + "/.agents/plugins")
    for name in names:
        plugin = root + "/plugins/" + name
        os.makedirs(plugin + "/.codex-plugin")
        interface = {"displayName": name.title(), "shortDescription": "demo", "developerName": "Lab", "category": "Productivity", "capabilities": ["Read"]}
        about = {"name": name, "version": "0.1.0", "description": "A demo plugin", "interface": interface}
        if skills:
            about["skills"] = "./skills/"
            put_skill(plugin + "/skills", name + "-skill", "Skill of " + name)
        json.dump(about, open(plugin + "/.codex-plugin/plugin.json", "w"))
    listed = [{"name": name, "source": {"source": "local", "path": "./plugins/" + name}, "policy": {"installation": "AVAILABLE", "authentication": "ON_INSTALL"}, "category": "Productivity"} for name in names]
    json.dump({"name": "lab-market", "interface": {"displayName": "Lab market"}, "plugins": listed}, open(path, "w"))
    return path


def put_skill(base, name, what):
    os.makedirs(base + "/" + name)
    path = base + "/" + name + "/SKILL.md"
    open(path, "w").write(SKILL % (name, what, name, name))
    return path


@scenario("01-hello")
def s01(L):
    """New thread, one turn: a reasoning item, then a plain assistant message; token usage with cached and reasoning tokens. otel.jsonl has logs, traces and metrics."""
    L.config(otel=True)
    L.script(("Say hello", [reason("The user wants a greeting."), msg("Hello! How can I help?"), usage(1200, 800, 60, 20)]))
    c = L.stdio()
    c.hello()
    c.call("account/read", {"refreshToken": False})
    c.call("model/list", {})
    c.call("config/read", {"includeLayers": False})
    t = c.thread()
    c.turn(t, "Say hello to me.")
    L.settle()
    c.close()


@scenario("02-resume")
def s02(L):
    """Two turns in one process; then a fresh process resumes the thread and does a third; a second resume in the same process of the already loaded thread; resume of an unknown thread (error)."""
    L.script(("first question", [msg("First answer."), usage(1000, 0, 30, 0)]),
             ("second question", [msg("Second answer."), usage(2000, 1000, 40, 0)]),
             ("third question", [msg("Third answer."), usage(3000, 2000, 50, 0)]))
    c = L.stdio()
    c.hello()
    t = c.thread()
    c.turn(t, "My first question.")
    c.turn(t, "My second question.", effort="high", summary="detailed")
    L.settle()
    c.close()
    c = L.stdio()
    c.hello(name="codex_vscode", version="1.2.4")
    c.call("thread/list", {"limit": 10})
    c.call("thread/resume", {"threadId": t, "cwd": WORK, "approvalPolicy": "on-request", "sandbox": "read-only", "model": "gpt-5.5"})
    c.turn(t, "My third question.")
    c.call("thread/resume", {"threadId": t})
    c.call("thread/resume", {"threadId": "01a20000-0000-7000-8000-000000000000"})
    c.call("thread/read", {"threadId": t, "includeTurns": True})
    L.settle()
    c.close()


@scenario("03-fork")
def s03(L):
    """A thread with two turns is forked three ways (whole, up to the first turn, ephemeral) and each fork gets a turn; fork of a fork."""
    L.script(("one", [msg("Uno.")]), ("two", [msg("Dos.")]), ("three", [msg("Tres.")]))
    c = L.stdio()
    c.hello()
    t = c.thread()
    first = c.turn(t, "Say one.")
    c.turn(t, "Say two.")
    r = c.call("thread/fork", {"threadId": t})
    f1 = r["result"]["thread"]["id"]
    c.turn(f1, "Say three.")
    r = c.call("thread/fork", {"threadId": t, "lastTurnId": first, "threadSource": "user"})
    if "result" in r:
        c.turn(r["result"]["thread"]["id"], "Say two, differently.")
    r = c.call("thread/fork", {"threadId": t, "ephemeral": True})
    r = c.call("thread/fork", {"threadId": t, "ephemeral": True, "excludeTurns": True})
    if "result" in r:
        c.turn(r["result"]["thread"]["id"], "Say three in the ephemeral fork.")
    r = c.call("thread/fork", {"threadId": f1})
    if "result" in r:
        c.turn(r["result"]["thread"]["id"], "Say one in the fork of the fork.")
    L.settle()
    c.close()


@scenario("04-commands")
def s04(L):
    """Command execution. Policy untrusted (even `ls -la` asks): approvals accepted, declined, accepted for session, accepted with exec-policy amendment, cancelled (interrupts the turn). Then: exit code 3, a write that the sandbox denies (no item at all on the wire, no event), on-request escalation, a long-running session polled with write_stdin, command actions read/list/search, parallel calls, malformed arguments."""
    S = L.script
    S(("list the files", [run("ls -la")], [msg("Listed.")]),
      ("touch a file", [run("touch made.txt && echo made")], [msg("Touched.")]),
      ("remove a file", [run("rm -f made.txt")], [msg("I may not remove it.")]),
      ("session file", [run("touch s1.txt")], [run("touch s1.txt")], [msg("Done for the session.")]),
      ("amend the policy", [run("mkdir -p newdir")], [msg("Policy amended.")]),
      ("cancel this", [run("touch cancelled.txt")], [msg("never reached")]),
      ("exit three", [run("echo out; echo err >&2; exit 3")], [msg("It exited 3.")]),
      ("outside write", [run("echo x > " + OUTSIDE)], [msg("Sandbox said no.")]),
      ("ask to escalate", [run("echo escalated", sandbox_permissions="require_escalated", justification="Need to run outside the sandbox?")], [msg("Escalated.")]),
      ("long session", [run("for i in 1 2 3 4 5 6; do echo tick $i; sleep 0.3; done; read x; echo got $x", yield_time_ms=400, tty=True)],
       [call("write_stdin", '{"session_id": {{re:session ID (\\d+)}}, "chars": "", "yield_time_ms": 1000}')],
       [call("write_stdin", '{"session_id": {{re:session ID (\\d+)}}, "chars": "hello\\n", "yield_time_ms": 3000}')], [msg("Session done.")]),
      ("read and search", [run("cat README.md")], [run("ls")], [run("rg -n add calc.py || grep -n add calc.py")], [run("sed -n 1,5p calc.py")], [run("git status --short && python3 -c 'print(1)'")], [msg("Looked around.")]),
      ("in parallel", [run("sleep 0.4; echo p1"), run("sleep 0.4; echo p2"), run("echo p3")], [msg("All three done.")]),
      ("bad arguments", [{"t": "call", "name": "exec_command", "args": "{\"cmd\": "}], [call("no_such_tool", {"x": 1})], [msg("Those failed.")]))
    c = L.stdio()
    answers = []

    def ap(m):
        d = answers.pop(0) if answers else "decline"
        time.sleep(0.15)
        if d == "amend":
            d = {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": (m["params"].get("proposedExecpolicyAmendment") or ["mkdir"])}}
        return {"decision": d}
    c.approve = ap
    c.hello()
    t = c.thread(approvalPolicy="untrusted", sandbox="workspace-write")
    answers[:] = ["accept"]
    c.turn(t, "Please list the files.")
    answers[:] = ["accept"]
    c.turn(t, "Please touch a file.")
    answers[:] = ["decline"]
    c.turn(t, "Please remove a file.")
    answers[:] = ["acceptForSession", "accept"]
    c.turn(t, "Make the session file twice.")
    answers[:] = ["amend"]
    c.turn(t, "Please amend the policy.")
    answers[:] = ["cancel"]
    c.turn(t, "Please cancel this command.")
    t = c.thread(approvalPolicy="on-request", sandbox="workspace-write")
    c.turn(t, "Run something that ends with exit three.")
    answers[:] = ["accept"]
    c.turn(t, "Try an outside write.")
    answers[:] = ["accept"]
    c.turn(t, "Please ask to escalate.")
    c.turn(t, "Start a long session.")
    t = c.thread()
    c.turn(t, "Please read and search.")
    c.turn(t, "Run them in parallel.")
    c.turn(t, "Use bad arguments.")
    try:
        os.remove(OUTSIDE)
    except OSError:
        pass
    L.settle()
    c.close()


@scenario("05-file-change")
def s05(L):
    """apply_patch: add, update, move, delete without asking; approval accepted, declined, accepted for session and cancelled on read-only; a patch that does not apply."""
    S = L.script
    S(("add and update", [patch("*** Add File: new.py\n+def sub(a, b):\n+    return a - b\n+\n+print(sub(3, 1))\n*** Update File: calc.py\n@@\n def add(a, b):\n-    return a + b\n+    # sum\n+    return b + a\n")], [msg("Added and updated.")]),
      ("move and delete", [patch("*** Update File: new.py\n*** Move to: lib/moved.py\n@@\n-print(sub(3, 1))\n+print(sub(4, 1))\n*** Delete File: README.md\n")], [msg("Moved and deleted.")]),
      ("broken patch", [patch("*** Update File: calc.py\n@@\n-no such line\n+x\n")], [msg("It did not apply.")]),
      ("not a patch", [{"t": "custom", "name": "apply_patch", "input": "hello"}], [msg("Not a patch.")]),
      ("ask accept", [patch("*** Add File: ok.txt\n+ok\n")], [msg("Accepted.")]),
      ("ask decline", [patch("*** Add File: no.txt\n+no\n")], [msg("Declined.")]),
      ("ask session", [patch("*** Add File: s.txt\n+1\n")], [patch("*** Update File: s.txt\n@@\n-1\n+2\n")], [msg("Session.")]),
      ("ask cancel", [patch("*** Add File: c.txt\n+c\n")], [msg("never")]))
    c = L.stdio()
    answers = []
    c.approve = lambda m: {"decision": answers.pop(0) if answers else "decline"}
    c.hello()
    t = c.thread(approvalPolicy="never", sandbox="workspace-write")
    c.turn(t, "Please add and update files.")
    c.turn(t, "Please move and delete files.")
    c.turn(t, "Send a broken patch.")
    c.turn(t, "Send what is not a patch.")
    t = c.thread(approvalPolicy="on-request", sandbox="read-only")
    answers[:] = ["accept"]
    c.turn(t, "Please ask accept.")
    answers[:] = ["decline"]
    c.turn(t, "Please ask decline.")
    answers[:] = ["acceptForSession", "accept"]
    c.turn(t, "Please ask session.")
    answers[:] = ["cancel"]
    c.turn(t, "Please ask cancel.")
    L.settle()
    c.close()


@scenario("06-mcp")
def s06(L):
    """MCP tool calls to a stdio server: ok (with progress), tool error, protocol error, unknown tool, a destructive tool behind an elicitation (accepted and declined), a slow call; also mcpServer/tool/call by the client and an MCP server that fails to start. otel.jsonl has all three signals."""
    L.config(otel=True, extra=MCP + '\n[mcp_servers.broken]\ncommand = "/bin/false"\n')
    S = L.script
    ns = "mcp__lab"
    S(("add numbers", [call("add", {"a": 2, "b": 40}, ns)], [msg("42.")]),
      ("let it fail", [call("fail", {"why": "testing"}, ns)], [call("boom", {}, ns)], [call("nothing_here", {}, ns)], [msg("Those failed.")]),
      ("slow and add", [call("slow", {"s": 0.6}, ns), call("add", {"a": 1, "b": 1}, ns)], [msg("Both done.")]),
      ("destructive", [call("write", {}, ns)], [msg("Write step over.")]))
    c = L.stdio()
    answers = []

    def ap(m):
        d = answers.pop(0) if answers else "decline"
        if m["method"] == "mcpServer/elicitation/request":
            return {"action": d, "content": {} if d == "accept" else None, "_meta": None}
        if m["method"] == "item/tool/requestUserInput":
            q = m["params"]["questions"][0]
            o = [x["label"] for x in q.get("options") or []]
            pickd = (o[0] if d == "accept" else o[-1]) if o else d
            return {"answers": {q["id"]: {"answers": [pickd]}}}
        return {"decision": d}
    c.approve = ap
    c.hello()
    t = c.thread(approvalPolicy="on-request", sandbox="workspace-write")
    c.call("mcpServerStatus/list", {})
    c.turn(t, "Please add numbers.")
    c.turn(t, "Please let it fail.")
    c.turn(t, "Please slow and add.")
    answers[:] = ["accept"]
    c.turn(t, "Do the destructive write.")
    answers[:] = ["decline"]
    c.turn(t, "Do the destructive write again.")
    c.call("mcpServer/tool/call", {"server": "lab", "threadId": t, "tool": "add", "arguments": {"a": 5, "b": 6}})
    c.call("mcpServer/tool/call", {"server": "lab", "threadId": t, "tool": "fail", "arguments": {}})
    L.settle()
    c.close()


@scenario("07-steer")
def s07(L):
    """turn/steer: accepted in mid-turn (twice, one while a command runs), rejected for a wrong expectedTurnId, for no active turn, for empty input, for input that is too large; turn/start while a turn runs."""
    S = L.script
    S(("also in French", [msg("Bonjour aussi.")]), ("now stop", [msg("Stopping here.")]))
    S(("slow greeting", [{"t": "sleep", "s": 1.2}, msg("Hello, slowly.", deltas=8, delay=0.1)]),
      ("run slowly", [run("sleep 1.5; echo slept")], [msg("Slept.")]),
      ("quick", [msg("Quick.")]))
    c = L.stdio()
    c.hello()
    t = c.thread()

    def txt(s):
        return [{"type": "text", "text": s, "text_elements": []}]

    def done(tid):
        c.wait_method("turn/completed", 30, mk, threadId=t)
    mk = c.mark()
    u = c.turn_begin(t, "Give a slow greeting.")
    c.wait_method("turn/started", 10, mk, threadId=t)
    time.sleep(0.4)
    c.call("turn/steer", {"threadId": t, "expectedTurnId": "01a20000-0000-7000-8000-00000000dead", "input": txt("wrong turn")})
    c.call("turn/steer", {"threadId": t, "expectedTurnId": u, "input": []})
    c.call("turn/steer", {"threadId": t, "expectedTurnId": u, "input": txt("x" * 1100000)})
    c.call("turn/steer", {"threadId": t, "expectedTurnId": u, "input": txt("Please also in French.")})
    done(t)
    mk = c.mark()
    u = c.turn_begin(t, "Please run slowly.")
    c.wait(lambda m: m.get("method") == "item/started" and m["params"]["item"]["type"] == "commandExecution", 10, mk)
    c.call("turn/steer", {"threadId": t, "expectedTurnId": u, "input": txt("Please now stop."), "clientUserMessageId": "client-msg-1"})
    done(t)
    c.call("turn/steer", {"threadId": t, "expectedTurnId": u, "input": txt("too late")})
    mk = c.mark()
    c.turn_begin(t, "Give a slow greeting again.")
    c.wait_method("turn/started", 10, mk, threadId=t)
    c.turn_begin(t, "A quick one while the turn runs.")
    c.wait_method("turn/completed", 30, mk, threadId=t)
    time.sleep(1.0)
    L.settle()
    c.close()


@scenario("08-interrupt")
def s08(L):
    """turn/interrupt during model streaming, during a running command, while an approval waits; with a wrong turn id and with no active turn; then a normal turn; finally the client closes stdin in mid-turn."""
    S = L.script
    S(("talk for long", [msg("word " * 200, deltas=200, delay=0.05)]),
      ("sleep for long", [run("echo begin; sleep 30; echo end")], [msg("never")]),
      ("wait for approval", [run("touch waiting.txt")], [msg("never")]),
      ("be normal", [msg("Normal.")]))
    c = L.stdio()
    c.hello()
    t = c.thread()
    mk = c.mark()
    u = c.turn_begin(t, "Please talk for long.")
    c.wait_method("item/agentMessage/delta", 10, mk, threadId=t)
    time.sleep(0.5)
    c.call("turn/interrupt", {"threadId": t, "turnId": "01a20000-0000-7000-8000-00000000dead"})
    c.call("turn/interrupt", {"threadId": t, "turnId": u})
    c.wait_method("turn/completed", 20, mk, threadId=t)
    mk = c.mark()
    u = c.turn_begin(t, "Please sleep for long.")
    c.wait(lambda m: m.get("method") == "item/started" and m["params"]["item"]["type"] == "commandExecution", 10, mk)
    time.sleep(0.5)
    c.call("turn/interrupt", {"threadId": t, "turnId": u})
    c.wait_method("turn/completed", 20, mk, threadId=t)
    c.call("turn/interrupt", {"threadId": t, "turnId": u})
    t2 = c.thread(approvalPolicy="untrusted", sandbox="workspace-write")
    mk = c.mark()
    u = c.turn_begin(t2, "Please wait for approval.")
    c.wait_method("item/commandExecution/requestApproval", 10, mk)
    time.sleep(0.3)
    c.call("turn/interrupt", {"threadId": t2, "turnId": u})
    c.wait_method("turn/completed", 20, mk, threadId=t2)
    c.turn(t, "Please be normal.")
    mk = c.mark()
    c.turn_begin(t, "Please talk for long once more.")
    c.wait_method("item/agentMessage/delta", 10, mk, threadId=t)
    c.close()
    L.settle()


@scenario("09-errors")
def s09(L):
    """Model errors that fail the turn: 429 rate limit, 429 usage_limit_reached, 500, 401, 400, stream cut before completed, response.failed (context_length_exceeded, insufficient_quota, server_is_overloaded, cyber_policy), response.incomplete; one 500 that a retry cures; an unknown model provider on thread/start."""
    S = L.script

    def err(status, typ, message="mock error", **kw):
        return {"t": "http", "status": status, "body": {"error": {"type": typ, "message": message, **kw}}}
    S(("rate limited", [err(429, "rate_limit_exceeded", "Rate limit reached. Please try again in 1s.")]),
      ("usage limit", [dict(err(429, "usage_limit_reached", "The usage limit has been reached", plan_type="pro", resets_at=int(time.time()) + 3600, resets_in_seconds=3600),
                            headers={"x-codex-primary-used-percent": "100", "x-codex-primary-window-minutes": "300", "x-codex-primary-reset-at": str(int(time.time()) + 3600),
                                     "x-codex-secondary-used-percent": "40", "x-codex-secondary-window-minutes": "10080", "x-codex-secondary-reset-at": str(int(time.time()) + 86400)})]),
      ("server error", [err(500, "server_error")]),
      ("unauthorized", [err(401, "invalid_request_error", "bad token")]),
      ("bad request", [err(400, "invalid_request_error", "bad request from mock")]),
      ("cut the stream", [msg("This will be c", deltas=3), {"t": "cut"}]),
      ("context too long", [{"t": "failed", "code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."}]),
      ("no quota", [{"t": "failed", "code": "insufficient_quota", "message": "You exceeded your current quota."}]),
      ("overloaded", [{"t": "failed", "code": "server_is_overloaded", "message": "Overloaded."}]),
      ("cyber", [{"t": "failed", "code": "cyber_policy", "message": "This request has been flagged."}]),
      ("incomplete", [msg("Half an ans"), {"t": "incomplete", "reason": "max_output_tokens"}]),
      ("retry cures", [err(500, "server_error")], [msg("Cured.")]),
      ("cut then fine", [msg("Half"), {"t": "cut"}], [msg("Fine now.")]))
    c = L.stdio()
    c.hello()
    t = c.thread()
    for p in ["rate limited", "usage limit", "server error", "bad request", "cut the stream", "no quota", "overloaded", "cyber", "incomplete", "retry cures", "cut then fine", "context too long", "unauthorized"]:
        t = c.thread()
        c.turn(t, "Please be %s." % p, timeout=40)
    c.call("thread/start", {"cwd": WORK, "modelProvider": "nonexistent"})
    c.call("turn/start", {"threadId": "01a20000-0000-7000-8000-000000000000", "input": [{"type": "text", "text": "x"}]})
    L.settle()
    c.close()


@scenario("10-subagents")
def s10(L):
    """Subagents. gpt-5.5 (multi-agent v1): spawn_agent x2, wait_agent, send_input, close_agent, resume_agent, spawn of a bad agent; the children run a command. gpt-5.6-sol (multi-agent v2): spawn_agent, list_agents, send_message, followup_task, wait_agent, interrupt_agent."""
    S = L.script
    v1 = "multi_agent_v1"
    v2 = "collaboration"
    S(("child task alpha", [run("echo alpha; sleep 0.5")], [msg("Alpha finished.")]),
      ("child task beta", [msg("Beta finished.")]),
      ("more for alpha", [msg("Alpha did more.")]),
      ("v2 child", [run("echo v2")], [msg("V2 child finished.")]),
      ("v2 follow", [msg("V2 child followed up.")]))
    A = "{{re:\"agent_id\": ?\"([0-9a-f-]{36})\"}}"
    S(("use the v1 agents", [call("spawn_agent", {"message": "Do child task alpha."}, v1)],
       [call("wait_agent", {"targets": [A], "timeout_ms": 20000}, v1)],
       [call("send_input", {"target": A, "message": "A bit more for alpha."}, v1)],
       [call("wait_agent", {"targets": [A], "timeout_ms": 20000}, v1)],
       [call("close_agent", {"target": A}, v1)],
       [call("resume_agent", {"id": A}, v1)],
       [call("close_agent", {"target": A}, v1)],
       [call("spawn_agent", {"message": "Do child task beta.", "model": "gpt-5.6-luna", "reasoning_effort": "low"}, v1), call("close_agent", {"target": "not-an-id"}, v1)],
       [call("wait_agent", {"targets": [A], "timeout_ms": 20000}, v1)],
       [msg("All agents are done.")]),
      ("use the v2 agents", [call("spawn_agent", {"task_name": "worker", "message": "You are the v2 child. Do it.", "fork_turns": "none"}, v2)],
       [call("list_agents", {}, v2)],
       [call("wait_agent", {"timeout_ms": 10000}, v2)],
       [call("send_message", {"target": "worker", "message": "A note."}, v2)],
       [call("followup_task", {"target": "worker", "message": "Please v2 follow up."}, v2)],
       [call("wait_agent", {"timeout_ms": 10000}, v2)],
       [call("interrupt_agent", {"target": "worker"}, v2)],
       [msg("The v2 agents are done.")]))
    c = L.stdio()
    c.hello()
    t = c.thread()
    c.turn(t, "Please use the v1 agents.", timeout=90)
    t = c.thread(model="gpt-5.6-sol")
    c.turn(t, "Please use the v2 agents.", timeout=90)
    time.sleep(1)
    L.settle()
    c.close()


REVIEW = json.dumps({"findings": [{"title": "[P1] Sum is wrong", "body": "It adds twice.", "confidence_score": 0.8, "priority": 1,
                                   "code_location": {"absolute_file_path": WORK + "/calc.py", "line_range": {"start": 1, "end": 2}}}],
                     "overall_correctness": "patch is incorrect", "overall_explanation": "One bug.", "overall_confidence_score": 0.7})


@scenario("11-skills")
def s11(L):
    """Skills: skills/list; explicit invocation by an input item of type skill, by $name in the text; implicit invocation (the model reads SKILL.md, or runs a script in the skill's scripts/); disable one with skills/config/write and name it again."""
    def mk(base, n, d):
        os.makedirs(base + "/" + n + "/scripts", exist_ok=True)
        open(base + "/" + n + "/SKILL.md", "w").write(SKILL % (n, d, n, n))
        open(base + "/" + n + "/scripts/go.py", "w").write("print('%s')\n" % n)
        return base + "/" + n + "/SKILL.md"
    u = mk(HOME + "/skills", "user-greeter", "Greets the user politely")
    r = mk(WORK + "/.agents/skills", "repo-checker", "Checks the repo")
    L.script(("greet with the skill", [msg("Greeted.")]), ("dollar", [msg("Dollar skill used.")]),
             ("find your own way", [run("cat %s" % r)], [run("python3 %s" % r.replace("SKILL.md", "scripts/go.py"))], [msg("Read the skill by myself.")]),
             ("disabled", [msg("No skill.")]))
    c = L.stdio()
    c.hello()
    c.call("skills/list", {"cwds": [WORK]})
    t = c.thread()
    c.turn(t, [{"type": "text", "text": "Please greet with the skill.", "text_elements": []}, {"type": "skill", "name": "user-greeter", "path": u}])
    c.turn(t, "Use $repo-checker, the dollar way.")
    c.turn(t, "Please find your own way.")
    c.turn(t, [{"type": "text", "text": "Both: greet with the skill.", "text_elements": []}, {"type": "skill", "name": "user-greeter", "path": u}, {"type": "skill", "name": "repo-checker", "path": r}, {"type": "skill", "name": "ghost", "path": LAB + "/none/SKILL.md"}])
    c.call("skills/config/write", {"path": u, "enabled": False})
    c.turn(t, [{"type": "text", "text": "Now $user-greeter is disabled.", "text_elements": []}])
    L.settle()
    c.close()


@scenario("15-review")
def s15(L):
    """review/start inline: uncommitted changes, a commit, a base branch, custom instructions; steer during a review (rejected as not steerable); interrupt of a review, first with the id that review/start answered (rejected), then with the id of turn/started; then a normal turn."""
    open(WORK + "/calc.py", "a").write("\n\ndef twice(a):\n    return a + a + a\n")
    S = L.script
    S(("Review", [run("git diff")], [msg(REVIEW)]), ("slow custom review", [{"t": "sleep", "s": 3}, msg(REVIEW)]), ("thanks", [msg("Welcome.")]))
    c = L.stdio()
    c.hello()
    t = c.thread()
    sha = subprocess.run(["git", "-C", WORK, "rev-parse", "HEAD"], capture_output=True, text=True, env={"PATH": os.environ["PATH"], "HOME": HOME}).stdout.strip()

    def rv(target, during=None):
        mk = c.mark()
        r = c.call("review/start", {"threadId": t, "target": target, "delivery": "inline"})
        u = (r.get("result") or {}).get("turn", {}).get("id")
        if during:
            during(u)
        c.wait_method("turn/completed", 30, mk, threadId=t)
    rv({"type": "uncommittedChanges"})
    rv({"type": "commit", "sha": sha, "title": "first"})
    rv({"type": "baseBranch", "branch": "main"})

    def steer(u):
        time.sleep(0.5)
        c.call("turn/steer", {"threadId": t, "expectedTurnId": u, "input": [{"type": "text", "text": "steer the review"}]})
    rv({"type": "custom", "instructions": "Do a slow custom review."}, steer)

    def stop(u):
        time.sleep(0.7)
        c.call("turn/interrupt", {"threadId": t, "turnId": u})
        inner = [m["params"]["turn"]["id"] for m in c.inbox if m.get("method") == "turn/started"][-1]
        c.call("turn/interrupt", {"threadId": t, "turnId": inner})
    rv({"type": "custom", "instructions": "Do a slow custom review, again."}, stop)
    c.turn(t, "Many thanks.")
    L.settle()
    c.close()


@scenario("18-websocket")
def s18(L):
    """WebSocket transport (--listen ws://): two clients at once, each with its own thread; client 2 resumes client 1's thread so that both get its notifications; client 1 drops without a close frame in mid-turn. In the raw files each text frame's payload is one line."""
    L.script(("slow ws", [msg("slowly " * 30, deltas=30, delay=0.05)]), ("ws", [msg("Over websocket.", delay=0.05)]))
    port = free_port()
    p = L.spawn(["app-server", "--listen", "ws://127.0.0.1:%d" % port, "--analytics-default-enabled"])
    for _ in range(100):
        try:
            a = L.ws(port)
            break
        except OSError:
            L.nconn -= 1
            time.sleep(0.1)
    b = L.ws(port)
    a.hello(name="ws_client_a", version="1")
    b.hello(name="ws_client_b", version="2", experimental=False)
    ta = a.thread()
    tb = b.thread()
    x = threading.Thread(target=lambda: a.turn(ta, "Client a says ws."))
    x.start()
    b.turn(tb, "Client b says ws.")
    x.join()
    b.call("thread/resume", {"threadId": ta})
    mk = b.mark()
    a.turn(ta, "Client a says ws once more.")
    b.wait_method("turn/completed", 10, mk, threadId=ta)
    mk = b.mark()
    b.turn(ta, "Client b says ws into a's thread.")
    mk = b.mark()
    a.turn_begin(ta, "Now slow ws.")
    b.wait_method("item/agentMessage/delta", 10, mk, threadId=ta)
    a.close(abrupt=True)
    b.wait_method("turn/completed", 20, mk, threadId=ta)
    L.settle()
    b.close()
    p.terminate()
    p.wait(10)


@scenario("21-goals")
def s21(L):
    """Goals: thread/goal/set, get, update of status and budget, clear; the model's create_goal, get_goal and update_goal tools; automatic continuation turns of an active goal."""
    S = L.script
    S(("make yourself a goal", [call("create_goal", {"objective": "Write a haiku", "token_budget": 5000})], [call("get_goal", {})], [call("update_goal", {"status": "complete"})], [msg("Goal complete.")]),
      ("be idle", [msg("Idle.")]))
    S(("Continue working toward the active thread goal", [msg("Working on the report.")], [msg("Still working.")], [call("update_goal", {"status": "complete"})], [msg("Report finished.")]))
    c = L.stdio()
    c.hello()
    t = c.thread()
    c.turn(t, "Please be idle.")
    c.call("thread/goal/get", {"threadId": t})
    mk = c.mark()
    c.call("thread/goal/set", {"threadId": t, "objective": "Finish the lab report", "tokenBudget": 100000, "status": "active"})
    c.wait(lambda m: m.get("method") == "thread/goal/updated" and m["params"]["goal"].get("status") == "complete", 15, mk)
    time.sleep(1.5)
    c.call("thread/goal/get", {"threadId": t})
    c.call("thread/goal/clear", {"threadId": t})
    c.call("thread/goal/set", {"threadId": t, "objective": "Paused thing", "status": "paused"})
    c.call("thread/goal/set", {"threadId": t, "tokenBudget": 1234})
    c.call("thread/goal/clear", {"threadId": t})
    c.call("thread/goal/clear", {"threadId": t})
    t2 = c.thread()
    c.turn(t2, "Please make yourself a goal.")
    L.settle()
    c.close()


@scenario("22-hooks")
def s22(L):
    """Hooks of many events from CODEX_HOME/hooks.json (trust bypassed by config): ones that succeed, one that blocks a command, one that fails, one that times out; hooks/list."""
    hk = LAB + "/ext/hook.py"
    os.makedirs(LAB + "/ext", exist_ok=True)
    open(hk, "w").write("import sys, json, time\nmode = sys.argv[1]\nd = json.load(sys.stdin)\n"
                        "if mode == 'block' and 'forbidden' in json.dumps(d.get('tool_input', '')):\n    print('blocked by lab hook', file=sys.stderr); sys.exit(2)\n"
                        "if mode == 'fail': sys.exit(7)\nif mode == 'slow': time.sleep(5)\nif mode == 'ctx': print(json.dumps({'hookSpecificOutput': {'hookEventName': d['hook_event_name'], 'additionalContext': 'lab context'}}))\n")

    def h(mode, timeout=None, matcher=None):
        e = {"hooks": [{"type": "command", "command": "python3 %s %s" % (hk, mode), **({"timeout": timeout} if timeout else {})}]}
        if matcher:
            e["matcher"] = matcher
        return e
    json.dump({"hooks": {"SessionStart": [h("ctx")], "UserPromptSubmit": [h("ctx")], "PreToolUse": [h("block"), h("fail")], "PostToolUse": [h("ok"), h("slow", 1)],
                         "PermissionRequest": [h("ok")], "Stop": [h("ok")], "PreCompact": [h("ok")], "PostCompact": [h("ok")], "SubagentStart": [h("ok")], "SubagentStop": [h("ok")],
                         "Interrupt": [h("ok")], "SessionEnd": [h("ok")]}}, open(HOME + "/hooks.json", "w"))
    L.config(top="bypass_hook_trust = true")
    S = L.script
    S(("handoff summary", [msg("SUMMARY")]))
    S(("run fine", [run("echo fine")], [msg("Ran.")]), ("run bad", [run("echo forbidden")], [msg("Blocked.")]),
      ("ask first", [run("touch asked.txt")], [msg("Asked.")]), ("hook child", [msg("child ok")]),
      ("spawn one", [call("spawn_agent", {"message": "You are the hook child."}, "multi_agent_v1")], [call("wait_agent", {"targets": ["{{re:\"agent_id\": ?\"([0-9a-f-]{36})\"}}"], "timeout_ms": 15000}, "multi_agent_v1")], [msg("Spawned.")]),
      ("talk long", [msg("long " * 100, deltas=100, delay=0.05)]))
    c = L.stdio("-c", "bypass_hook_trust=true")
    c.approve = lambda m: {"decision": "accept"}
    c.hello()
    c.call("hooks/list", {"cwds": [WORK]})
    t = c.thread(config={"bypass_hook_trust": True})
    c.turn(t, "Please run fine.")
    c.turn(t, "Please run bad.")
    c.turn(t, "Please spawn one.")
    mk = c.mark()
    u = c.turn_begin(t, "Please talk long.")
    c.wait_method("item/agentMessage/delta", 10, mk, threadId=t)
    c.call("turn/interrupt", {"threadId": t, "turnId": u})
    c.wait_method("turn/completed", 20, mk, threadId=t)
    mk = c.mark()
    c.call("thread/compact/start", {"threadId": t})
    c.wait_method("turn/completed", 30, mk, threadId=t)
    t = c.thread(config={"bypass_hook_trust": True}, approvalPolicy="untrusted", sandbox="workspace-write")
    c.turn(t, "Please ask first.")
    L.settle()
    c.close()


@scenario("24-thread-admin")
def s24(L):
    """Thread housekeeping: name/set, archive, unarchive, list, read, loaded/list, shellCommand, inject_items, metadata/update, turns/list, items/list, unsubscribe, revert, delete; command/exec without a thread; fuzzyFileSearch; several error answers."""
    L.script(("hello", [msg("Hi.")]))
    c = L.stdio()
    c.hello()
    t = c.thread()
    u = c.turn(t, "Say hello.")
    c.turn(t, "Say hello again.")
    c.call("thread/name/set", {"threadId": t, "name": "My thread"})
    c.call("thread/metadata/update", {"threadId": t, "gitInfo": {"branch": "feature/x"}})
    mk = c.mark()
    c.call("thread/shellCommand", {"threadId": t, "command": "echo from the user; exit 2"})
    c.wait_method("turn/completed", 10, mk, threadId=t)
    c.call("thread/inject_items", {"threadId": t, "items": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "injected"}]}]})
    c.call("thread/turns/list", {"threadId": t})
    c.call("thread/items/list", {"threadId": t})
    c.call("thread/loaded/list", {})
    c.call("thread/list", {"limit": 5})
    c.call("thread/read", {"threadId": t, "includeTurns": True})
    c.call("thread/revert", {"threadId": t, "turnId": u})
    r = c.call("thread/turns/list", {"threadId": t})
    ids = [x["id"] for x in (r.get("result") or {}).get("data", [])]
    if ids:
        c.call("thread/revert", {"threadId": t, "beforeTurnId": ids[0]})
    c.call("fuzzyFileSearch", {"query": "cal", "roots": [WORK]})
    c.call("command/exec", {"command": ["sh", "-c", "echo standalone"], "cwd": WORK})
    c.call("command/exec", {"command": ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"], "cwd": WORK, "processId": "p1", "streamStdoutStderr": True})
    c.call("thread/archive", {"threadId": t})
    time.sleep(0.5)
    c.call("thread/archive", {"threadId": t})
    c.call("thread/unarchive", {"threadId": t})
    c.call("thread/resume", {"threadId": t})
    c.call("thread/unsubscribe", {"threadId": t})
    t2 = c.thread()
    c.turn(t2, "Say hello in the thread to delete.")
    c.call("thread/delete", {"threadId": t2})
    t3 = c.thread(ephemeral=True)
    c.call("thread/archive", {"threadId": t3})
    c.call("experimentalFeature/list", {})
    c.call("permissionProfile/list", {})
    c.call("account/rateLimits/read", {})
    L.settle()
    c.close()


@scenario("32-unix-socket")
def s32(L):
    """Unix socket transport (--listen unix://PATH, websocket frames inside): two clients; the first leaves, a third comes; the thread outlives its client."""
    L.script(("unix", [msg("Over a unix socket.", delay=0.05)]))
    path = LAB + "/tmp/app.sock"
    p = L.spawn(["app-server", "--listen", "unix://" + path, "--analytics-default-enabled"])
    for _ in range(100):
        if os.path.exists(path):
            break
        time.sleep(0.1)
    time.sleep(0.3)
    a = L.ws(path)
    b = L.ws(path)
    a.hello(name="unix_client_a", version="1")
    b.hello(name="codex_cli_rs", version="2")
    t = a.thread()
    a.turn(t, "Client a says unix.")
    t2 = b.thread(ephemeral=True)
    b.turn(t2, "Client b says unix.")
    a.close()
    c = L.ws(path)
    c.hello(name="unix_client_c", version="3")
    c.call("thread/loaded/list", {})
    c.call("thread/resume", {"threadId": t, "excludeTurns": True})
    c.turn(t, "Client c says unix.")
    L.settle()
    b.close()
    c.close()
    p.terminate()
    p.wait(10)


@scenario("40-overrides")
def s40(L):
    """A client that names no capabilities, and so is told of no change of settings: overrides of each kind with turn/start, which hold for later turns; with one that joins a running turn; a fork, a resume in a new process, settings in thread/start's config; pictures."""
    L.script(("slow", [msg("slow " * 20, deltas=20, delay=0.05)]), ("command", [run("echo a")], [msg("Done.")]), ("hello", [msg("Hi."), usage(500, 100, 10, 4)]))

    def greet(c, name):
        c.call("initialize", {"clientInfo": {"name": name, "version": "0.0.1"}})
        c.notify("initialized")
    c = L.stdio()
    greet(c, "older_client")
    t = c.thread()
    c.turn(t, "Say hello.", effort="high", summary="detailed")
    c.turn(t, "A command, please.", effort="low", summary="none", personality="friendly")
    c.turn(t, [txt("hello with pictures"), PICTURE, PICTURE])
    c.turn(t, "Say hello.", serviceTier="flex")
    c.turn(t, "Say hello.", serviceTierForTurn="priority")
    c.turn(t, "Say hello.", model="gpt-5.6-sol")
    c.turn(t, "A command in a sandbox.", sandboxPolicy={"type": "workspaceWrite", "networkAccess": True}, approvalPolicy="on-request")
    c.turn(t, "Say hello.", sandboxPolicy={"type": "readOnly"}, approvalPolicy="untrusted", turnTrigger="automation")
    mk = c.mark()
    c.turn_begin(t, "Be slow.")
    c.wait_method("item/agentMessage/delta", 10, mk, threadId=t)
    c.turn_begin(t, "A hello that joins.", effort="medium", personality="pragmatic")
    c.wait_method("turn/completed", 20, mk, threadId=t)
    c.turn(t, "Say hello.")
    f = c.call("thread/fork", {"threadId": t})["result"]["thread"]["id"]
    c.turn(f, "hello in the fork")
    L.settle()
    c.close()
    c = L.stdio()
    greet(c, "other_client")
    c.call("thread/resume", {"threadId": t, "personality": "friendly"})
    c.turn(t, "hello after a resume")
    t = c.thread(config={"model_reasoning_summary": "detailed", "model_reasoning_effort": "high", "personality": "friendly"}, serviceTier="priority")
    c.turn(t, "hello as configured")
    t = c.thread(personality="pragmatic", threadSource="automation", sandbox="read-only", ephemeral=True)
    u = c.turn(t, "Say hello.")
    c.turn(t, "hello on behalf of another turn", parentTurnId=u, rootTurnId=u)
    L.settle()
    c.close()


@scenario("47-approval-answers")
def s47(L):
    """Every answer to the questions for commands and patches, an error for an answer, an answer that is none, two questions of one turn, permissions asked for."""
    for i in range(7):
        L.script(("command %d." % i, [run("touch c%d.txt" % i)], [msg("Over.")]), ("file %d." % i, [patch("*** Add File: f%d.txt\n+w\n" % i)], [msg("Over.")]))
    L.script(("both.", [run("touch b1.txt"), run("touch b2.txt")], [msg("Both over.")]),
             ("permissions.", [call("request_permissions", {"reason": "need", "permissions": {"file_system": {"write": [LAB + "/ext"]}, "network": {"enabled": True}}})], [msg("Over.")]))
    L.config(features="request_permissions_tool = true\n")
    c = L.stdio()
    answers = []

    def answer(m):
        a = answers.pop(0) if answers else {"decision": "decline"}
        if m["method"] == "item/permissions/requestApproval":
            return {"permissions": m["params"]["permissions"], "scope": a["scope"]}
        return a
    c.approve = answer
    c.hello()
    t = c.thread(approvalPolicy="untrusted", sandbox="read-only")
    amendment = {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["touch", "c4.txt"]}}
    for i, decision in enumerate(["accept", "acceptForSession", "decline", "cancel", amendment]):
        answers[:] = [{"decision": decision}]
        c.turn(t, "command %d." % i)
    for i, decision in enumerate(["accept", "acceptForSession", "decline", "cancel"]):
        answers[:] = [{"decision": decision}]
        c.turn(t, "file %d." % i)
    for i, odd in ((5, {"_error": {"code": -32000, "message": "no"}}), (6, {"nonsense": 1})):
        answers[:] = [odd]
        c.turn(t, "command %d." % i)
    answers[:] = [{"decision": "accept"}, {"decision": "decline"}]
    c.turn(t, "both.")
    for scope in ("turn", "session"):
        answers[:] = [{"scope": scope}]
        c.turn(t, "permissions.")
    L.settle()
    c.close()


@scenario("52-failures-midway")
def s52(L):
    """Failures of turns that have done something already, on one thread: after commands, after retries, a context window that is full, errors of which only the words tell the kind."""
    def err(status, typ, message="mock error"):
        return {"t": "http", "status": status, "body": {"error": {"type": typ, "message": message}}}
    L.script(("a1.", [run("echo x")], [err(429, "rate_limit_exceeded", "Rate limit reached. Please try again in 0.2s.")]),
             ("a2.", [run("echo x")], [err(500, "server_error")]),
             ("a3.", [run("false")], [{"t": "failed", "code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."}]),
             ("a5.", [err(400, "invalid_request_error", "bad")]),
             ("a6.", [{"t": "failed", "code": "rate_limit_exceeded", "message": "Rate limit reached for x. Please try again in 0.1s."}], [msg("ok")]),
             ("a7.", [{"t": "failed", "code": "invalid_prompt", "message": "Invalid prompt."}]),
             ("a8.", [{"t": "incomplete", "reason": "content_filter"}]), ("a9.", [err(403, "forbidden", "no")]), ("b1.", [err(503, "overloaded", "later")]), ("hello", [msg("Hi.")]))
    c = L.stdio()
    c.hello()
    t = c.thread()
    for text in ("a1.", "a2.", "a5.", "a6.", "a7.", "a8.", "a9.", "b1.", "a3."):
        c.turn(t, text, timeout=40)
    t = c.thread()
    c.turn(t, "Say hello.")
    L.settle()
    c.close()


@scenario("54-queue")
def s54(L):
    """Prompts in a thread's queue: put there while a turn runs, changed, put into another order, withdrawn; settings changed by thread/settings/update; a prompt that joins a command of the user."""
    L.script(("slow", [msg("slow " * 30, deltas=30, delay=0.05)]), ("command", [run("echo c")], [msg("Done.")]), ("hello", [msg("Hi.")]))
    c = L.stdio()
    c.hello()
    t = c.thread()
    c.call("thread/settings/update", {"threadId": t, "effort": "low", "summary": "detailed", "serviceTier": "priority", "personality": "pragmatic"})
    mk = c.mark()
    c.turn_begin(t, "Be slow.")
    c.wait_method("item/agentMessage/delta", 10, mk, threadId=t)

    def add(name, text, **kw):
        r = c.call("thread/queue/add", {"threadId": t, "clientUserMessageId": name, "input": [txt(text)], **kw})
        return r["result"]["queuedSubmission"]["id"]
    a = add("q1", "A command from the queue.")
    b = add("q2", "hello from the queue", responsesapiClientMetadata={"workspace_kind": "project", "source": "composer"})
    d = add("q3", "hello that is withdrawn")
    c.call("thread/queue/delete", {"threadId": t, "queuedSubmissionId": d})
    c.call("thread/queue/reorder", {"threadId": t, "queuedSubmissionIds": [b, a]})
    c.call("thread/queue/update", {"threadId": t, "queuedSubmissionId": a, "input": [txt("A command from the queue, with a picture."), PICTURE]})

    def queue_is_done():
        done = [m for m in c.inbox[mk:] if m.get("method") == "turn/completed" and m["params"]["threadId"] == t]
        return len(done) >= 3
    c.wait(lambda m: queue_is_done(), 30, mk)
    c.turn(t, "Say hello.")
    mk = c.mark()
    c.start("thread/shellCommand", {"threadId": t, "command": "sleep 1; echo mine"})
    c.turn_begin(t, "hello that joins the command")
    c.wait_method("turn/completed", 20, mk, threadId=t)
    c.turn(t, "Say hello.")
    L.settle()
    c.close()


@scenario("57-prompt-hooks")
def s57(L):
    """Hooks that keep a prompt from the agent, one by a block and one by a stop, and that deny a command."""
    hook = LAB + "/ext/prompt_hook.py"
    open(hook, "w").write("import json, sys\nd = json.load(sys.stdin)\nt = str(d.get('prompt', '')) + json.dumps(d.get('tool_input', ''))\n"
                          "if 'STOP' in t: print(json.dumps({'continue': False, 'stopReason': 'stopped by a hook'}))\n"
                          "if 'BLOCK' in t: print(json.dumps({'decision': 'block', 'reason': 'blocked'}))\n"
                          "if 'DENY' in t: print(json.dumps({'hookSpecificOutput': {'hookEventName': d['hook_event_name'], 'permissionDecision': 'deny', 'permissionDecisionReason': 'no'}}))\n")
    entry = {"hooks": [{"type": "command", "command": "python3 " + hook}]}
    json.dump({"hooks": {"UserPromptSubmit": [entry], "PreToolUse": [entry]}}, open(HOME + "/hooks.json", "w"))
    L.config(top="bypass_hook_trust = true")
    L.script(("denied", [run("echo DENY")], [msg("It was denied.")]), ("plain", [msg("Plain.")]))
    c = L.stdio("-c", "bypass_hook_trust=true")
    c.hello()
    t = c.thread(config={"bypass_hook_trust": True})
    for text in ("A plain one.", "BLOCK this.", "STOP this.", "What is denied?", "Another plain one."):
        c.turn(t, text)
    L.settle()
    c.close()


@scenario("63-twin-skills")
def s63(L):
    """Skills of which two have one name: by $name, which then says neither, by items, which say each, twice in one text, in a prompt that joins a running turn, in a steer, in a fork."""
    mine = put_skill(HOME + "/skills", "twin", "The user's twin")
    ours = put_skill(WORK + "/.agents/skills", "twin", "The repository's twin")
    single = put_skill(HOME + "/skills", "single", "There is one")

    def item(name, path):
        return {"type": "skill", "name": name, "path": path}
    L.script(("slow", [{"t": "sleep", "s": 1}, msg("Slow.")]), ("hello", [msg("Hi.")]))
    c = L.stdio()
    c.hello()
    c.call("skills/list", {"cwds": [WORK]})
    t = c.thread()
    c.turn(t, "hello $twin")
    c.turn(t, "hello $single and $single, $nobody, $5")
    c.turn(t, [txt("hello both"), item("twin", mine), item("twin", ours), item("twin", mine)])
    c.turn(t, [txt("hello $single"), item("single", single)])
    mk = c.mark()
    u = c.turn_begin(t, "Be slow.")
    c.wait_method("turn/started", 10, mk, threadId=t)
    time.sleep(0.3)
    c.call("turn/steer", {"threadId": t, "expectedTurnId": u, "input": [txt("a steer with $single"), item("twin", ours)]})
    c.turn_begin(t, "hello joins with $single")
    c.wait_method("turn/completed", 20, mk, threadId=t)
    f = c.call("thread/fork", {"threadId": t})["result"]["thread"]["id"]
    c.turn(f, "hello $single in the fork")
    L.settle()
    c.close()


@scenario("66-plugins-switched")
def s66(L):
    """Two plugins of a local marketplace: mentioned twice, unknown, switched off by each form of a config write, switched off for one thread by turn/start, installed again, uninstalled; their skills by $plugin:skill."""
    path = market(["alpha", "beta"], skills=True)
    L.script(("hello", [msg("Hi.")]))
    c = L.stdio()
    c.hello()
    c.call("marketplace/add", {"source": LAB + "/ext/market"})
    c.call("plugin/list", {"cwds": [WORK], "marketplaceKinds": ["local"]})
    for name in ("alpha", "beta"):
        c.call("plugin/read", {"marketplacePath": path, "pluginName": name})
    for name in ("alpha", "beta", "alpha"):
        c.call("plugin/install", {"marketplacePath": path, "pluginName": name}, timeout=60)
    c.call("plugin/list", {"cwds": [WORK]})
    c.call("skills/list", {"cwds": [WORK]})
    alpha, beta = "alpha@lab-market", "beta@lab-market"

    def mention(plugin):
        return {"type": "mention", "name": plugin, "path": "plugin://" + plugin}
    t = c.thread()
    c.turn(t, [txt("hello twice"), mention(alpha), mention(alpha), mention(beta)])
    c.turn(t, "hello $alpha:alpha-skill and $beta-skill")
    c.turn(t, [txt("hello ghost"), mention("ghost@lab-market")])
    for key, value in (('plugins."%s".enabled' % beta, False), ("plugins.%s.enabled" % beta, True)):
        c.call("config/value/write", {"keyPath": key, "value": value, "mergeStrategy": "upsert"})
    c.call("config/value/write", {"keyPath": 'plugins."%s"' % beta, "value": {"enabled": False}, "mergeStrategy": "replace"})
    t = c.thread()
    c.turn(t, [txt("hello switched off"), mention(beta)])
    t = c.thread()
    c.turn(t, "hello without alpha", disabledPluginIds=[alpha])
    c.turn(t, [txt("hello all the same"), mention(alpha)])
    c.turn(t, [txt("hello with alpha"), mention(alpha)], disabledPluginIds=[])
    for plugin in (alpha, beta):
        c.call("plugin/uninstall", {"pluginId": plugin})
    L.settle()
    c.close()


@scenario("68-links")
def s68(L):
    """Links in prompts to skills by path and to a plugin, each beside forms that name nothing."""
    path = market(["alpha"], skills=False)
    skill = put_skill(HOME + "/skills", "single", "There is one")
    L.script(("hello", [msg("Hi.")]))
    c = L.stdio()
    c.hello()
    c.call("marketplace/add", {"source": LAB + "/ext/market"})
    c.call("plugin/list", {"cwds": [WORK], "marketplaceKinds": ["local"]})
    c.call("plugin/read", {"marketplacePath": path, "pluginName": "alpha"})
    c.call("plugin/install", {"marketplacePath": path, "pluginName": "alpha"}, timeout=60)
    c.call("plugin/list", {"cwds": [WORK]})
    c.call("skills/list", {"cwds": [WORK]})
    t = c.thread()
    c.turn(t, "hello [$single](%s), [$other](skill://%s)" % (skill, skill))
    c.turn(t, "hello [$single](/nowhere/SKILL.md), [single](%s), $SINGLE, $single-more" % skill)
    c.turn(t, "hello [@cal](app://connector_y), [cal](app://connector_z)")
    c.turn(t, "hello [@Alpha](plugin://alpha@lab-market), [@x](plugin://c@d)")
    c.turn(t, "hello [$alpha](plugin://alpha@lab-market), @alpha, $alpha")
    c.turn(t, "hello `$single`")
    L.settle()
    c.close()
