#!/usr/bin/env python3
"""Plumbing of the lab: throw-away CODEX_HOME, mock servers, app-server clients
(stdio, WebSocket and unix socket) that record every line both ways.

Nothing here leaves the machine: drive.py re-executes itself inside a network
namespace that has loopback only, and refuses to run where another interface is up.
"""
import base64, json, os, shlex, shutil, socket, struct, subprocess, sys, threading, time

import mock_model, mock_backend

# The native codex binary.
CODEX = os.environ.get("CODEX_BIN") or sys.exit("CODEX_BIN names no codex binary; `.ci/parts codex` installs one")
# CODEX_VIA: a command put in front of every stdio `codex app-server`, for example "factline tap --".
VIA = shlex.split(os.environ.get("CODEX_VIA", ""))
# CODEX_VIA_SOCKET: a proxy between the clients and a listening app-server, for example
# "factline tap --listen {listen} --connect {connect}"; the addresses are ws://127.0.0.1:PORT or unix://PATH.
VIA_SOCKET = shlex.split(os.environ.get("CODEX_VIA_SOCKET", ""))
# LAB_BACKEND: a factline program, to start a backend that gets what codex sends (and is strict) and another for
# what a tap derives; LAB_AFTER: a command that is run when all has ended, while they still run.
BACKEND = os.environ.get("LAB_BACKEND")
AFTER = shlex.split(os.environ.get("LAB_AFTER", ""))
BACKEND_PORTS = {"codex": 8321, "tap": 8322}
# Where everything lives that codex sees and leaves behind.
LAB = os.path.abspath(os.environ.get("LAB_DIR") or "lab")
HOME = LAB + "/home"
WORK = LAB + "/work"
TMP = LAB + "/tmp"
HERE = os.path.dirname(os.path.abspath(__file__))
ACCOUNT = "acct-00000000-fake-0000-0000-000000000001"


def now_us():
    return int(time.time() * 1e6)


def b64url(b):
    return base64.urlsafe_b64encode(b).rstrip(b"=").decode()


def fake_jwt(claims):
    """A syntactically valid, unsigned JWT; it opens nothing anywhere."""
    return ".".join([b64url(json.dumps({"alg": "none", "typ": "JWT"}).encode()), b64url(json.dumps(claims).encode()), b64url(b"not-a-signature")])


def auth_json(plan="pro"):
    exp = int(time.time()) + 30 * 86400
    auth = {"chatgpt_plan_type": plan, "chatgpt_user_id": "user-fake-0001", "user_id": "user-fake-0001", "chatgpt_account_id": ACCOUNT}
    claims = {"iss": "https://auth.example.invalid", "aud": ["fake"], "sub": "fake|0001", "email": "lab@example.invalid", "email_verified": True,
              "exp": exp, "iat": int(time.time()), "https://api.openai.com/auth": auth,
              "https://api.openai.com/profile": {"email": "lab@example.invalid"}}
    tok = fake_jwt(claims)
    return {"auth_mode": "chatgpt", "OPENAI_API_KEY": None,
            "tokens": {"id_token": tok, "access_token": tok, "refresh_token": "fake-refresh-token", "account_id": ACCOUNT},
            "last_refresh": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())}


def only_loopback():
    for l in open("/proc/net/dev").read().splitlines()[2:]:
        if l.split(":")[0].strip() != "lo":
            return False
    return True


def free_port():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    p = s.getsockname()[1]
    s.close()
    return p


class Recorder:
    """Transcript lines and raw bytes; one pair of raw files per connection."""

    def __init__(self, outdir):
        self.outdir = outdir
        self.lock = threading.Lock()
        self.tf = open(os.path.join(outdir, "transcript.jsonl"), "w")
        self.raw = {}
        self.off = {}
        self.messages = []          # (t_us, dir, conn, msg)
        self.opened, self.ended = set(), set()

    def name(self, d, conn):
        return ("%s.raw" % d) if conn == 1 else ("%s.%d.raw" % (d, conn))

    def line(self, d, conn, data, t_us=None, note=None):
        """data: the bytes of one line as on the wire, newline included."""
        t_us = t_us or now_us()
        with self.lock:
            k = (d, conn)
            if k not in self.raw:
                self.raw[k] = open(os.path.join(self.outdir, self.name(d, conn)), "wb")
                self.off[k] = 0
            off = self.off[k]
            self.raw[k].write(data)
            self.raw[k].flush()
            self.off[k] += len(data)
            rec = {"t_us": t_us, "dir": d, "conn": conn, "off": off, "len": len(data)}
            try:
                msg = json.loads(data.decode("utf-8"))
                if not isinstance(msg, dict) or len(data) > 1000000:
                    raise ValueError
                rec["msg"] = msg
            except (ValueError, UnicodeDecodeError, RecursionError):
                msg = None
                rec["msg"] = None
                rec["unparsed"] = "see %s at off" % self.name(d, conn)
            if note:
                rec["note"] = note
            t = json.dumps(rec, separators=(",", ":"), ensure_ascii=False)
            try:
                t.encode("utf-8")
            except UnicodeEncodeError:
                t = json.dumps(rec, separators=(",", ":"))
            self.tf.write(t + "\n")
            self.tf.flush()
            self.messages.append((t_us, d, conn, msg))
        return msg

    def open(self, conn, transport):
        """A connection begins: stdio, websocket or unix."""
        with self.lock:
            if conn in self.opened:     # a second try to connect
                return
            self.opened.add(conn)
            self.tf.write(json.dumps({"t_us": now_us(), "conn": conn, "open": transport}, separators=(",", ":")) + "\n")

    def end(self, conn, how):
        """A connection is over: client_closed, server_exited or killed."""
        with self.lock:
            if conn not in self.ended and not self.tf.closed:
                self.ended.add(conn)
                self.tf.write(json.dumps({"t_us": now_us(), "conn": conn, "end": how}, separators=(",", ":")) + "\n")

    def close(self):
        with self.lock:
            self.tf.close()
            for f in self.raw.values():
                f.close()


class Base:
    """A JSON-RPC peer; subclasses give _send(bytes) and call _got(bytes)."""

    def __init__(self, lab, conn):
        self.lab, self.conn, self.rec = lab, conn, lab.rec
        self.next_id = 1
        self.cv = threading.Condition()
        self.responses = {}
        self.inbox = []
        self.closed = self.leaving = False
        self.approve = lambda m: None      # server request -> result dict, None = leave
        self.wlock = threading.Lock()

    def _got(self, data):
        m = self.rec.line("server", self.conn, data)
        if m is None:
            return
        if "id" in m and "method" in m:
            r = self.approve(m)
            if r is not None:
                self.respond(m["id"], r)
        with self.cv:
            if "id" in m and "method" not in m:
                self.responses[json.dumps(m["id"])] = m
            self.inbox.append(m)
            self.cv.notify_all()

    def send(self, obj):
        self.raw(json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")

    def raw(self, data, note=None):
        with self.wlock:
            self.rec.line("client", self.conn, data, note=note)
            self._send(data)

    def notify(self, method, params=None):
        self.send({"method": method, **({"params": params} if params is not None else {})})

    def respond(self, mid, result):
        if isinstance(result, dict) and "_error" in result:
            self.send({"id": mid, "error": result["_error"]})
        else:
            self.send({"id": mid, "result": result})

    def start(self, method, params=None, mid=None):
        if mid is None:
            mid = self.next_id
            self.next_id += 1
        o = {"id": mid, "method": method}
        if params is not None:
            o["params"] = params
        self.send(o)
        return mid

    def result(self, mid, timeout=30):
        k = json.dumps(mid)
        end = time.time() + timeout
        with self.cv:
            while k not in self.responses:
                left = end - time.time()
                if left <= 0 or self.closed:
                    return {"error": {"code": 0, "message": "LAB TIMEOUT"}}
                self.cv.wait(min(left, 0.5))
            return self.responses[k]

    def call(self, method, params=None, timeout=30, mid=None):
        m = self.result(self.start(method, params, mid), timeout)
        if "error" in m:
            print("   !", method, json.dumps(m["error"])[:300], flush=True)
        return m

    def mark(self):
        with self.cv:
            return len(self.inbox)

    def wait(self, pred, timeout=30, since=0):
        end = time.time() + timeout
        i = since
        with self.cv:
            while True:
                while i < len(self.inbox):
                    if pred(self.inbox[i]):
                        return self.inbox[i]
                    i += 1
                left = end - time.time()
                if left <= 0 or self.closed:
                    return None
                self.cv.wait(min(left, 0.5))

    def wait_method(self, method, timeout=30, since=0, **match):
        def p(m):
            if m.get("method") != method:
                return False
            pr = m.get("params") or {}
            return all(pr.get(k) == v for k, v in match.items())
        r = self.wait(p, timeout, since)
        if r is None:
            print("   ! no", method, match, "within", timeout, flush=True)
        return r

    # ---- protocol helpers
    def hello(self, name="codex_vscode", version="1.2.3", title="Lab", experimental=True, caps=None):
        c = {"experimentalApi": experimental}
        c.update(caps or {})
        r = self.call("initialize", {"clientInfo": {"name": name, "title": title, "version": version}, "capabilities": c})
        self.notify("initialized")
        return r

    def thread(self, **kw):
        p = {"cwd": WORK, "approvalPolicy": "never", "sandbox": "danger-full-access"}
        p.update(kw)
        p = {k: v for k, v in p.items() if v is not None}
        r = self.call("thread/start", p)
        return (r.get("result") or {}).get("thread", {}).get("id")

    def turn_begin(self, tid, text, **kw):
        inp = text if isinstance(text, list) else [{"type": "text", "text": text, "text_elements": []}]
        r = self.call("turn/start", {"threadId": tid, "input": inp, **kw})
        return (r.get("result") or {}).get("turn", {}).get("id")

    def turn(self, tid, text, timeout=60, **kw):
        mk = self.mark()
        t = self.turn_begin(tid, text, **kw)
        self.wait(lambda m: m.get("method") == "turn/completed" and m["params"]["threadId"] == tid and m["params"]["turn"]["id"] == t, timeout, mk) or print("   ! turn not completed", text if isinstance(text, str) else "", flush=True)
        return t


class Stdio(Base):
    def __init__(self, lab, conn, args=(), env=None):
        super().__init__(lab, conn)
        self.rec.open(conn, "stdio")
        self.p = lab.spawn(["app-server", *args], env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.p.stdout:
            self._got(line)
        self.rec.end(self.conn, "killed" if not 0 <= self.p.wait() < 128 else "client_closed" if self.p.stdin.closed else "server_exited")
        with self.cv:
            self.closed = True
            self.cv.notify_all()

    def _send(self, data):
        try:
            self.p.stdin.write(data)
            self.p.stdin.flush()
        except (BrokenPipeError, OSError):
            pass

    def close(self, timeout=15):
        try:
            self.p.stdin.close()
        except OSError:
            pass
        try:
            rc = self.p.wait(timeout)
        except subprocess.TimeoutExpired:
            self.p.terminate()
            try:
                rc = self.p.wait(5)
            except subprocess.TimeoutExpired:
                self.p.kill()
                rc = self.p.wait()
        self.rc = rc
        return rc


class Ws(Base):
    """Minimal RFC 6455 client. In the raw files each text frame's payload is one line."""

    def __init__(self, lab, conn, port):
        """port: a TCP port on loopback, or the path of a unix socket."""
        super().__init__(lab, conn)
        self.rec.open(conn, "unix" if isinstance(port, str) else "websocket")
        if isinstance(port, str):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(10)
            s.connect(port)
            port = 80
        else:
            s = socket.create_connection(("127.0.0.1", port), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        s.sendall(("GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % (port, key)).encode())
        buf = b""
        while b"\r\n\r\n" not in buf:
            d = s.recv(4096)
            if not d:
                raise OSError("ws handshake: " + repr(buf))
            buf += d
        head, self.buf = buf.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0] + b" ":
            raise OSError("ws handshake: " + repr(head))
        s.settimeout(None)
        self.s = s
        threading.Thread(target=self._read, daemon=True).start()

    def _n(self, n):
        while len(self.buf) < n:
            d = self.s.recv(65536)
            if not d:
                raise OSError
            self.buf += d
        r, self.buf = self.buf[:n], self.buf[n:]
        return r

    def _read(self):
        frag = b""
        try:
            while True:
                b0, b1 = self._n(2)
                ln = b1 & 127
                if ln == 126:
                    ln = struct.unpack(">H", self._n(2))[0]
                elif ln == 127:
                    ln = struct.unpack(">Q", self._n(8))[0]
                pl = self._n(ln)
                op = b0 & 15
                if op == 8:
                    break
                if op == 9:
                    self._frame(10, pl)
                    continue
                if op in (0, 1, 2):
                    frag += pl
                    if b0 & 128:
                        self._got(frag + b"\n")
                        frag = b""
        except OSError:
            pass
        self.rec.end(self.conn, "client_closed" if self.leaving else "server_exited")
        with self.cv:
            self.closed = True
            self.cv.notify_all()

    def _frame(self, op, data):
        mask = os.urandom(4)
        n = len(data)
        h = bytes([128 | op])
        if n < 126:
            h += bytes([128 | n])
        elif n < 65536:
            h += bytes([128 | 126]) + struct.pack(">H", n)
        else:
            h += bytes([128 | 127]) + struct.pack(">Q", n)
        m = (mask * (n // 4 + 1))[:n]
        x = (int.from_bytes(data, "big") ^ int.from_bytes(m, "big")).to_bytes(n, "big") if n else b""
        self.s.sendall(h + mask + x)

    def _send(self, data):
        self._frame(1, data.rstrip(b"\n"))

    def close(self, abrupt=False):
        self.leaving = True
        if not abrupt:
            try:
                self._frame(8, struct.pack(">H", 1000))
                time.sleep(0.2)
            except OSError:
                pass
        self.s.close()


class Lab:
    def __init__(self, outdir):
        self.out = outdir
        shutil.rmtree(outdir, ignore_errors=True)
        os.makedirs(outdir)
        for d in (HOME, WORK, TMP, LAB + "/ext"):
            shutil.rmtree(d, ignore_errors=True)
            os.makedirs(d)
        self.msrv, self.model = mock_model.serve()
        self.answers = {}
        self.bsrv, self.backend = mock_backend.serve(outdir, 0, self.answers)
        self.mport = self.msrv.server_address[1]
        self.bport = self.bsrv.server_address[1]
        self.rec = Recorder(outdir)
        self.err = open(os.path.join(outdir, "stderr.log"), "wb")
        self.procs, self.proxies = [], {}
        self.backends = [self.reference(name, port) for name, port in BACKEND_PORTS.items()] if BACKEND else []
        if BACKEND:
            self.backend.analytics_to = "http://127.0.0.1:%d" % BACKEND_PORTS["codex"]
        self.nconn = 0
        self.repo()
        self.config()
        self.auth()
        self.scripts = []

    def reference(self, name, port):
        strict = ["--strict"] if name == "codex" and os.environ.get("LAB_STRICT") else []
        p = subprocess.Popen([BACKEND, "backend", "serve", "--quiet", "--listen", "127.0.0.1:%d" % port,
                              "--db", os.path.join(self.out, name + ".db"), *strict], stderr=self.err)
        end = time.time() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return p
            except OSError:
                if p.poll() is not None or time.time() > end:
                    raise
                time.sleep(0.02)

    def git(self, *a):
        env = {"PATH": os.environ["PATH"], "HOME": HOME, "GIT_AUTHOR_NAME": "Lab", "GIT_AUTHOR_EMAIL": "lab@example.invalid", "GIT_COMMITTER_NAME": "Lab",
               "GIT_COMMITTER_EMAIL": "lab@example.invalid", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
        subprocess.run(["git", "-C", WORK, *a], check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def repo(self):
        self.git("init", "-q", "-b", "main")
        open(WORK + "/README.md", "w").write("# demo\n\nA tiny project.\n")
        open(WORK + "/calc.py", "w").write("def add(a, b):\n    return a + b\n")
        self.git("add", "-A")
        self.git("commit", "-qm", "first")
        self.git("remote", "add", "origin", "https://git.example.invalid/lab/demo.git")

    def config(self, extra="", top="", provider="mock", otel="logs", features=""):
        otelc = ""
        if otel == "logs":
            otelc = ("[otel]\nenvironment = \"lab\"\nlog_user_prompt = true\nmetrics_exporter = \"none\"\n"
                     "exporter = { otlp-http = { endpoint = \"http://127.0.0.1:%d/otlp/v1/logs\", protocol = \"json\" } }\n") % self.bport
        elif otel:
            ep = "http://127.0.0.1:%d/otlp/v1/" % self.bport
            otelc = ("[otel]\nenvironment = \"lab\"\nlog_user_prompt = true\n"
                     "exporter = { otlp-http = { endpoint = \"%slogs\", protocol = \"json\" } }\n"
                     "trace_exporter = { otlp-http = { endpoint = \"%straces\", protocol = \"json\" } }\n"
                     "metrics_exporter = { otlp-http = { endpoint = \"%smetrics\", protocol = \"json\" } }\n") % (ep, ep, ep)
        t = """model = "gpt-5.5"
model_provider = "%s"
chatgpt_base_url = "http://127.0.0.1:%d/backend-api/"
cli_auth_credentials_store = "file"
check_for_update_on_startup = false
%s

[analytics]
enabled = true

[model_providers.mock]
name = "mock"
base_url = "http://127.0.0.1:%d/v1"
wire_api = "responses"
requires_openai_auth = true
supports_websockets = false
request_max_retries = 1
stream_max_retries = 1
stream_idle_timeout_ms = 20000

[features]
enable_request_compression = false
unbounded_connection_retries = false
%s

[projects."%s"]
trust_level = "trusted"

%s
%s
""" % (provider, self.bport, top, self.mport, features, WORK, otelc, extra)
        os.makedirs(HOME, exist_ok=True)
        open(HOME + "/config.toml", "w").write(t)

    def auth(self, plan="pro"):
        open(HOME + "/auth.json", "w").write(json.dumps(auth_json(plan), indent=1))
        os.chmod(HOME + "/auth.json", 0o600)

    def script(self, *scripts):
        """scripts: (match, step, step, ...)"""
        for s in scripts:
            self.model.scripts.insert(0, {"match": s[0], "steps": list(s[1:])})

    def spawn(self, args, env=None, **kw):
        e = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": HOME, "CODEX_HOME": HOME, "TMPDIR": TMP, "LANG": "C.UTF-8", "TERM": "dumb",
             "RUST_LOG": os.environ.get("LAB_RUST_LOG", "warn,codex_analytics=debug"), "GIT_CONFIG_NOSYSTEM": "1", "SHELL": "/bin/bash", "USER": "lab"}
        e.update(env or {})
        kw.setdefault("stderr", self.err)
        via = VIA if args and args[0] == "app-server" and not any(str(a).startswith("--listen") for a in args) else []
        p = subprocess.Popen([*via, CODEX, *args], env=e, cwd=WORK, **kw)
        self.procs.append(p)
        return p

    def stdio(self, *args, env=None, default_analytics=True):
        self.nconn += 1
        a = list(args)
        if default_analytics:
            a.append("--analytics-default-enabled")
        return Stdio(self, self.nconn, a, env)

    def ws(self, port):
        self.nconn += 1
        return Ws(self, self.nconn, self.through(port))

    def through(self, target):
        """The address of the proxy in front of target (a TCP port or a socket's path), or target itself."""
        if not VIA_SOCKET:
            return target
        if target not in self.proxies:
            if isinstance(target, str):
                own, addr = target + ".via", "unix://%s"
            else:
                with socket.create_server(("127.0.0.1", 0)) as s:
                    own, addr = s.getsockname()[1], "ws://127.0.0.1:%d"
            self.procs.append(subprocess.Popen([w.format(listen=addr % own, connect=addr % target) for w in VIA_SOCKET], stderr=self.err))
            self.proxies[target] = own
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", own)).close() if isinstance(own, int) else os.stat(own)
                    break
                except OSError:
                    time.sleep(0.05)
        return self.proxies[target]

    def settle(self, quiet=1.5, maxw=8):
        """Wait until no analytics request came for `quiet` seconds."""
        t0 = time.time()
        while time.time() - t0 < maxw:
            last = max(self.backend.last_analytics, t0)
            if time.time() - last > quiet:
                return
            time.sleep(0.1)

    def finish(self):
        for p in self.procs:
            if p.poll() is None:
                p.terminate()
                try:
                    p.wait(5)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()
        time.sleep(0.3)
        if AFTER:
            subprocess.run(AFTER, check=True, stdout=self.err, stderr=self.err)
        for p in self.backends:
            p.terminate()
            p.wait(5)
        self.rec.close()
        self.err.close()
        self.msrv.shutdown()
        self.bsrv.shutdown()
