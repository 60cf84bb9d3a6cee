# SPDX-License-Identifier: Apache-2.0
#
# meshtest: what the runners of tests/apps and tests/fault share: a meshd with a fresh run
# directory, its counters by way of status.sock, programs with a time limit, a capture of the
# loopback interface. Kills only what it started, by process group.

import collections
import ctypes
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(ROOT, "build")))
MARKER = b"PLAINMARKER"
PATIENCE = 5 # how many times longer than on an idle machine an end is waited for: a busy one is no failure


# A runner that is told to end ends what it started, as by the keyboard.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def sanitizers():
    """The sanitizers that the build directory's name tells: build-address-undefined."""
    return set(os.path.basename(BUILD).split("-")[1:])


def wait_until(cond, seconds=10.0, what="condition"):
    """Waits for cond() to be true and returns its value; looks again every 10 ms. So long on an idle machine."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        value = cond()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.01)


def mesh_env(run_dir, **more):
    """The environment of a program under libmesh."""
    env = bare_env()
    preload = os.path.join(BUILD, "libmesh.so")
    if "address" in sanitizers():
        lib = subprocess.check_output([os.environ.get("CC", "gcc"), "-print-file-name=libasan.so"],
                                      text=True).strip()
        preload = os.path.realpath(lib) + " " + preload
    env.update(LD_PRELOAD=preload, LIBMESH_RUN_DIR=run_dir)
    env["LIBMESH_WAIT"] = "60s"  # a machine on which meshd may be slow to answer
    env.update(more)
    return env


def bare_env():
    env = {k: v for k, v in os.environ.items() if not k.startswith("LIBMESH") and k != "LD_PRELOAD"}
    env.setdefault("ASAN_OPTIONS", "detect_leaks=0")
    env.setdefault("TSAN_OPTIONS", "die_after_fork=0")
    env["LC_ALL"] = "C"
    return env


def have_mesh():
    return all(os.path.exists(os.path.join(BUILD, f)) for f in ("libmesh.so", "meshd"))


def numbers(tree, name):
    """The sum of all counters called `name` anywhere in a JSON answer, whatever its shape."""
    want = re.compile(r"^(libmesh_|meshd_)?%s(_total)?$" % re.escape(name))
    label = re.compile(r'"%s"' % re.escape(name))
    if isinstance(tree, list):
        return sum(numbers(x, name) for x in tree)
    if not isinstance(tree, dict):
        return 0
    total = 0
    named = any(isinstance(tree.get(k), str) and want.match(tree[k])
                for k in ("name", "metric", "reason", "counter"))
    for key, value in tree.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and (want.match(key) or label.search(key)):
            total += value
        elif number and named and key in ("value", "count", "total"):
            total += value
        elif not number:
            total += numbers(value, name)
    return total


class Meshd:
    """One meshd with a run directory of its own."""

    def __init__(self, config=None):
        self.dir = tempfile.mkdtemp(prefix="meshtest.")
        os.chmod(self.dir, 0o755)
        self.cmd = [os.path.join(BUILD, "meshd"), "--run-dir", self.dir]
        if config is not None:
            path = os.path.join(self.dir, "meshd.conf")
            with open(path, "w") as f:
                f.write(config)
            self.cmd += ["-c", path]
        self.log = open(os.path.join(self.dir, "meshd.log"), "a+")
        self.start()

    def start(self):
        self.proc = subprocess.Popen(self.cmd, stdout=self.log, stderr=self.log, env=bare_env(),
                                     stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_until(self._up, 15, "meshd")
        except TimeoutError:
            text = self.text()
            self.stop()
            raise RuntimeError("meshd did not come up:\n" + text)

    def _up(self):
        if self.proc.poll() is not None:
            raise RuntimeError("meshd ended with %d:\n%s" % (self.proc.returncode, self.text()))
        try:
            return self.ask("stats json") is not None
        except (OSError, ValueError):
            return False

    def text(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()[-4000:]

    def ask(self, command):
        """A command's JSON answer."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5 * PATIENCE)
            s.connect(os.path.join(self.dir, "status.sock"))
            s.sendall(command.encode() + b"\n")
            data = b""
            while True:
                part = s.recv(65536)
                data += part
                if part and not part.rstrip().endswith(b"}"):
                    continue
                try:
                    return json.loads(data)
                except ValueError:
                    if not part:
                        raise

    def counter(self, name):
        return numbers(self.ask("stats json"), name)

    def alive(self):
        return self.proc.poll() is None

    def kill(self):
        """As a crash; start() brings it back with what lies in its directory."""
        self.proc.kill()
        self.proc.wait()

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(10 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Result:
    def __init__(self, code, out, err, cpu, late):
        self.code, self.out, self.err, self.cpu, self.late = code, out, err, cpu, late

    def how(self):
        if self.late:
            return "timed out"
        if self.code < 0:
            return "killed by " + signal.Signals(-self.code).name
        return "exit %d" % self.code


def run(cmd, env, seconds, cwd=None):
    """Runs a program in a session of its own; the whole group is ended when time is up, `seconds` on an idle machine."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env,
                             cwd=cwd, start_new_session=True)
        # wait4 for the program's own CPU time; it knows no deadline, so we look again and again.
        late, end, nap = False, time.monotonic() + seconds * PATIENCE, 0.001
        try:
            while True:
                pid, status, usage = os.wait4(p.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > end:
                    late = True
                    os.killpg(p.pid, signal.SIGKILL)
                    pid, status, usage = os.wait4(p.pid, 0)
                    break
                time.sleep(nap)
                nap = min(nap * 1.5, 0.02)
        except KeyboardInterrupt:
            os.killpg(p.pid, signal.SIGKILL)
            raise
        p.returncode = os.waitstatus_to_exitcode(status)
        try: # what the program left behind in its group
            os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        out.seek(0)
        err.seek(0)
        return Result(p.returncode, out.read().decode(errors="replace"),
                      err.read().decode(errors="replace"), usage.ru_utime + usage.ru_stime, late)


def strace(opts, cmd, env, seconds):
    """True when the program ran well under strace, which itself is not meshed."""
    ours = {k: v for k, v in env.items() if k == "LD_PRELOAD" or k.startswith("LIBMESH")}
    args = ["strace", "-qq"] + opts
    for item in ours.items():
        args += ["-E", "%s=%s" % item]
    return run(args + cmd, {k: v for k, v in env.items() if k not in ours}, seconds).code == 0


def system_calls(cmd, env, seconds):
    """System calls by name between the program's two marks, access("/app/trace/begin", ...) and end, or
    None if it cannot be traced."""
    with tempfile.NamedTemporaryFile("r", suffix=".strace") as f:
        if not strace(["-f", "-o", f.name], cmd, env, seconds):
            return None
        text = f.read()
    begin, end = text.find("/app/trace/begin"), text.find("/app/trace/end")
    if begin < 0 or end < 0:
        return None
    return collections.Counter(re.findall(r"^\d+ +([a-z0-9_]+)\(", text[begin:end], re.M))


class Capture:
    """tcpdump on the loopback interface. Start and stop wait until a probe of our own is in the
    file, so that nothing sent in between is missed."""

    @staticmethod
    def usable():
        return os.geteuid() == 0 and shutil.which("tcpdump") is not None

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(suffix=".pcap")
        os.chmod(self.file.name, 0o666)
        self.proc = subprocess.Popen(["tcpdump", "-i", "lo", "-U", "-s", "2048", "-B", "65536", "-Z",
                                      "root", "--immediate-mode", "-w", self.file.name],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL, start_new_session=True)
        self.probe(b"capture-begins")

    def probe(self, word):
        word += os.urandom(8).hex().encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            def seen():
                try:
                    s.sendto(word, ("127.0.0.1", 9))
                except OSError:
                    pass
                return word in self.bytes()
            wait_until(seen, 20, "tcpdump")

    def bytes(self):
        with open(self.file.name, "rb") as f:
            return f.read()

    def stop(self):
        self.probe(b"capture-ends")
        self.proc.send_signal(signal.SIGINT)
        self.proc.wait(10 * PATIENCE)
        data = self.bytes()
        self.file.close()
        return data


def own_network():
    """Moves this process into a network namespace of its own, so that a capture sees nobody
    else's traffic. Call before any thread is started. False if that is not possible here."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000): # CLONE_NEWNET
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: # lo up: SIOCSIFFLAGS, IFF_UP
        fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 1))
    return True


def raise_nofile():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
