#!/usr/bin/env python3
"""Run named scenarios against the real `codex app-server` and record them.

    CODEX_BIN=$(.ci/parts codex) LAB_DIR=/tmp/lab python3 tests/codexlab/drive.py --out DIR 01 02 ...      (or: all)

Needs root, `unshare` and `ip`: it re-executes itself in a network namespace that has loopback only before it
starts anything, so nothing leaves the machine. CODEX_VIA is a command that is put in front of every app-server,
CODEX_VIA_SOCKET one that stands between one that listens and its clients.
Everything below LAB_DIR is wiped for each scenario. tests/real_codex.rs runs it.
"""
import argparse, json, os, subprocess, sys, time, traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

if os.environ.get("LAB_NETNS") != "1":
    os.environ["LAB_NETNS"] = "1"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    import shlex
    os.execvp("unshare", ["unshare", "-n", "sh", "-c", "ip link set lo up; exec python3 -B " + " ".join(shlex.quote(a) for a in [os.path.abspath(__file__)] + sys.argv[1:])])

import lab
from lab import Lab, HOME, WORK
if not lab.only_loopback():
    sys.exit("not in a loopback-only network namespace")
import scenarios

ap = argparse.ArgumentParser()
ap.add_argument("--out", default="corpus")
ap.add_argument("names", nargs="*")
a = ap.parse_args()
todo = sorted(scenarios.ALL) if a.names in ([], ["all"]) else [n for n in sorted(scenarios.ALL) if any(n.startswith(x) for x in a.names)]
failed = False
for n in todo:
    fn = scenarios.ALL[n]
    out = os.path.join(a.out, n)
    print("==", n, flush=True)
    L = Lab(out)
    t0 = time.time()
    try:
        fn(L)
    except Exception:
        traceback.print_exc()
        failed = True
    L.finish()
    print("   %.1f s, %d messages, %d analytics posts" % (time.time() - t0, len(L.rec.messages), L.backend.n_analytics), flush=True)
sys.exit(failed)
