#!/usr/bin/env python3
"""A client of others that takes its command from settings (codex-python-sdk): with codex in them, with `factline tap --`
before it, and with the script of docs/operators.md for clients that take a program alone. Prints what it was given as
JSON.

    CODEX_BIN=$(.ci/parts codex) LAB_DIR=/tmp/lab $(.ci/parts python_client) tests/codexlab/client.py DIR FACTLINE

Needs what drive.py needs, and runs as that does. tests/real_codex.rs runs it.
"""
import json, os, re, shlex, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

if os.environ.get("LAB_NETNS") != "1":
    os.environ["LAB_NETNS"] = "1"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    again = " ".join(shlex.quote(word) for word in [sys.executable, "-B", os.path.abspath(__file__)] + sys.argv[1:])
    os.execvp("unshare", ["unshare", "-n", "sh", "-c", "ip link set lo up; exec " + again])

import lab
from scenarios import msg, reason, run, usage

if not lab.only_loopback():
    sys.exit("not in a loopback-only network namespace")
from codex_python_sdk import create_client

out, factline = sys.argv[1:]

# Both are on the path of whoever has a client.
programs = os.path.join(out, "bin")
os.makedirs(programs)
os.symlink(lab.CODEX, programs + "/codex")
os.symlink(factline, programs + "/factline")
script = programs + "/codex-with-factline"
guide = open(HERE + "/../../docs/operators.md").read()
with open(script, "w") as file:
    file.write(re.search(r"```sh\n(#!/bin/sh\n.*?)```", guide, re.DOTALL).group(1))
os.chmod(script, 0o755)


def play(name, settings):
    L = lab.Lab(os.path.join(out, name))
    L.script(
        ("Look around", [reason("A look."), run("ls"), usage(900, 0, 30, 10)], [msg("There is a README."), usage(950, 900, 20, 0)]),
        ("And now", [msg("Nothing more."), usage(1000, 950, 10, 0)]),
    )
    env = {"PATH": programs + ":" + os.environ["PATH"], "HOME": lab.HOME, "CODEX_HOME": lab.HOME, "LANG": "C.UTF-8", "RUST_LOG": "warn"}
    env.update((variable, value) for variable, value in os.environ.items() if variable.startswith("FACTLINE_"))
    os.chdir(lab.WORK)
    with create_client(env=env, **settings) as client:
        first = client.responses_create(prompt="Look around.", include_events=True)
        second = client.responses_create(prompt="And now?", thread_id=first.thread_id)
        # Deltas and rate limits come as often as time allows.
        kinds = [event.type for event in first.events or []]
        said = {"texts": [first.text, second.text], "same": first.thread_id == second.thread_id,
                "events": sorted(set(kind for kind in kinds if "delta" not in kind.lower()))}
    L.finish()
    return said


print(json.dumps({
    "direct": play("direct", {"codex_command": lab.CODEX}),
    "command": play("command", {"codex_command": factline, "app_server_args": ["tap", "--", "codex", "app-server"]}),
    "script": play("script", {"codex_command": script}),
}))
