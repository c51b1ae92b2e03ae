#!/usr/bin/env python3
"""Follows docs/five-minutes.md as a new user does: its commands, as they stand there, in one shell, in a fresh clone, with
an empty home, in a network namespace of their own (the ports are the usual ones).     .ci/guide.py

What differs: a question to a back end is asked again until there is something in the answer, for a minute at most;
`factline tap -- codex app-server` is the real codex in tests/codexlab, played by its driver in place of an editor; Docker
is not had, so its section is left out. Needs root, `unshare`, `ip`, and what `.ci/parts` needs.
"""
import json, os, re, shlex, subprocess, sys, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LEFT_OUT = {"Everything, with Docker"}
PARTS = ["collector", "jaeger", "prometheus", "codex"]

# What is around the guide's lines. `set -m`: job numbers, as in a terminal. What ends a job fails; what has to work
# says so itself.
PRELUDE = r"""
set -m
curl() {
  local answer end=$((SECONDS + 60))
  while :; do
    answer=$(command curl --max-time 5 "$@") && python3 "$GUIDE" --has-data <<<"$answer" && break
    [ $SECONDS -lt $end ] || { echo "guide: nothing in the answer to: curl $*: $answer" >&2; exit 1; }
    read -rt 0.3 <> <(:) || :
  done
  printf '%s\n' "$answer" >>"$ANSWERS"
  printf '%.300s\n' "$answer"
}
factline() {
  [ "$1" = tap ] || { command factline "$@" || exit; return; }
  local via
  via="env $(env | grep '^OTEL_' | tr '\n' ' ') HOME=$HOME $(type -P factline) tap --"
  LAB_NETNS=1 CODEX_VIA=$via LAB_DIR=$HOME/lab python3 -B tests/codexlab/drive.py --out "$HOME/driven" 04 || exit
}
"""


def blocks(path):
    """Title of the section and text of each shell block."""
    section, block, found = "", None, []
    for line in open(path):
        if block is None and line.startswith("## "):
            section = line[3:].strip()
        elif block is None and line.strip() == "```sh":
            block = []
        elif block is not None and line.strip() == "```":
            found.append((section, "".join(block)))
            block = None
        elif block is not None:
            block.append(line)
    return found


def has_data(value):
    """Whether a JSON answer holds a result, a list of services or a trace that is not empty."""
    if isinstance(value, dict):
        lists = [value[key] for key in ("result", "services", "data") if isinstance(value.get(key), list)]
        return any(lists) or any(has_data(it) for it in value.values() if isinstance(it, dict))
    return False


def main():
    if sys.argv[1:] == ["--has-data"]:
        try:
            sys.exit(not has_data(json.load(sys.stdin)))
        except ValueError:
            sys.exit(1)
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    paths = {part: subprocess.check_output([f"{ROOT}/.ci/parts", part], text=True).strip() for part in PARTS}
    with tempfile.TemporaryDirectory(prefix="factline-guide-") as work:
        clone, home = f"{work}/factline", f"{work}/home"
        os.mkdir(home)
        subprocess.run(["git", "clone", "--quiet", f"file://{ROOT}", clone], check=True)
        ours = {name: os.environ[name] for name in ("PATH", "LANG", "CARGO_TARGET_DIR") if name in os.environ}
        environment = ours | {
            "HOME": home,
            "PATH": f"{home}/.cargo/bin:{ours['PATH']}",
            # The compiler, and what was built before, are the machine's.
            "CARGO_HOME": os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo"),
            "RUSTUP_HOME": os.environ.get("RUSTUP_HOME") or os.path.expanduser("~/.rustup"),
            "CARGO_INSTALL_ROOT": f"{home}/.cargo",
            "XDG_CACHE_HOME": cache,
            "CODEX_BIN": paths["codex"],
            "GUIDE": os.path.abspath(__file__),
            "ANSWERS": f"{work}/answers",
        }
        install, rest = [], []
        for section, text in blocks(f"{clone}/docs/five-minutes.md"):
            if section in LEFT_OUT:
                print(f"guide: not run: {section}")
            else:
                (install if text.startswith("cargo install") else rest).append((section, text))
        # Cargo needs the network, and nothing else may have it.
        assert len(install) == 1, "the guide says once how factline is installed"
        shell = ["bash", "-euo", "pipefail", "-c"]
        subprocess.run([*shell, install[0][1]], cwd=clone, env=environment, check=True, stdin=subprocess.DEVNULL)
        script = PRELUDE
        for section, text in rest:
            script += f"echo {shlex.quote('guide: ' + section)}\n{text}\n"
        # What the last section is for.
        script += "for n in $(seq 600); do [ -s seen/traces.jsonl -a -s seen/logs.jsonl ] && exit; read -rt 0.1 <> <(:) || :; done\n"
        script += "echo 'guide: nothing in seen/' >&2; exit 1\n"
        sealed = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", *shell]
        inside = f"ip link set lo up\nexec bash -uo pipefail -c {shlex.quote(script)}"
        said = f"{cache}/factline-conformance/guide.log"
        with open(said, "w") as log:
            ended = subprocess.run([*sealed, inside], cwd=clone, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=subprocess.STDOUT, timeout=400)
        if ended.returncode:
            print("".join(open(said, errors="replace").readlines()[-60:]))
            sys.exit(f"guide: its commands failed; all they said is in {said}")
        asked = len(re.findall(r"^curl ", "".join(text for _, text in rest), re.MULTILINE))
        answers = open(environment["ANSWERS"]).read().splitlines()
        assert asked == len(answers) >= 4, f"{asked} questions and {len(answers)} answers"
        print("\n".join(answer[:160] for answer in answers))
        print(f"guide: {len(rest)} blocks run, {asked} questions answered with data")


main()
