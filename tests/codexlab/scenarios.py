"""The scenarios. Each is a function of a fresh Lab, and has a recording in tests/corpus."""
import json, os, subprocess, time
from lab import HOME, WORK

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


# A path that the sandbox of workspace-write keeps codex from, unlike /tmp, and that is nobody's.
OUTSIDE = "/var/tmp/factline-lab-outside-%d.txt" % os.getpid()


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
