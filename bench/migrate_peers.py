"""What bench-migrate moves its server by, beside DVS: plain criu, criu with lazy pages, Podman.

All by commands that anybody can type, on one machine, images on tmpfs. The server answers on a UDP
port of the loopback device, which all namespaces here share.
"""
import os
import shutil
import subprocess
import sys
import time

BIN = os.path.dirname(os.path.abspath(__file__))
SERVER = os.path.join(BIN, "bench_server")
CRIU = os.environ.get("DVS_CRIU", "/usr/local/lib/dvs/criu/criu")

# The first process of a pid namespace: starts the server, if there is one, and reaps what ends.
# The server's pid is far from those of the commands that are run in the namespaces.
INIT = """
import os, subprocess, sys, time
subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)  # criu keeps what it learns there
os.chdir(sys.argv[1])
if len(sys.argv) > 2:
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write("20000")
    subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL, start_new_session=True)
open(f"init{len(sys.argv) > 2:d}", "w").close()
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.0005)
"""


def run(*argv, env=None, pass_fds=()):
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=300,
                          pass_fds=pass_fds)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
    return done.stdout


def await_true(what, check, limit=30):
    until = time.monotonic() + limit
    while not check():
        if time.monotonic() > until:
            raise RuntimeError(f"{what}: not within {limit} s")
        time.sleep(0.0005)


def listens(port):
    """Whether a TCP socket does at this port."""
    with open("/proc/net/tcp") as file:
        return any(f":{port:04X} 00000000:0000 0A" in line for line in file)


class Laps:
    """Phases of a move, in milliseconds."""

    def __init__(self):
        self.began = self.last = time.monotonic()
        self.phases = {}

    def end(self, phase):
        now = time.monotonic()
        self.phases[phase] = (now - self.last) * 1e3
        self.last = now

    def result(self):
        return {"total_ms": (self.last - self.began) * 1e3, "phases": self.phases}


class Side:
    """A place to run: pid and mount namespaces of its own."""

    def __init__(self, directory, server):
        self.unshare = subprocess.Popen(
            ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc",
             sys.executable, "-c", INIT, directory, *server])
        children = f"/proc/{self.unshare.pid}/task/{self.unshare.pid}/children"
        await_true("the namespaces", lambda: open(children).read().strip())
        self.init = open(children).read().split()[0]
        await_true("their first process",
                   lambda: os.path.exists(f"{directory}/init{len(server) > 0:d}"))

    def enter(self, *argv):
        return ["nsenter", "-t", self.init, "-p", "-m", *argv]

    def inside(self, *argv):
        return run(*self.enter(*argv))

    def close(self):
        self.unshare.kill()
        self.unshare.wait()


class Criu:
    """criu dump, cp -r, criu restore, to and fro between two sides."""

    def __init__(self, directory, port, load):
        self.dir = directory
        run("mount", "-t", "tmpfs", "none", directory)
        self.sides = []
        self.pid = None
        self.port = port
        self.server = [SERVER, *load, "udp", str(port)]

    def start(self):
        self.sides = [Side(self.dir, self.server), Side(self.dir, [])]
        self.pid = self.sides[0].inside("pgrep", "-x", "bench_server").strip()

    def move(self):
        source, target = self.sides
        images, copy = f"{self.dir}/images", f"{self.dir}/copy"
        os.mkdir(images)
        laps = Laps()
        self.carry(source, target, images, copy, laps)
        self.sides = [target, source]
        shutil.rmtree(images)
        shutil.rmtree(copy)
        return laps.result()

    def carry(self, source, target, images, copy, laps):
        source.inside(CRIU, "dump", "-t", self.pid, "-D", images)
        laps.end("dump")
        run("cp", "-r", images, copy)
        laps.end("copy")
        target.inside(CRIU, "restore", "-D", copy, "-d")
        laps.end("restore")

    def close(self):
        for side in self.sides:
            side.close()
        run("umount", "-l", self.dir)


class LazyCriu(Criu):
    """The same, where the pages follow: criu dump --lazy-pages, criu lazy-pages, by hand."""

    pipe_limit = None  # as it was

    PIPE_LIMIT = "/proc/sys/fs/pipe-max-size"
    PIPE_BYTES = 4 << 20  # what criu's page server needs, and does not say so

    def start(self):
        with open(self.PIPE_LIMIT) as file:
            self.pipe_limit = file.read()
        if int(self.pipe_limit) < self.PIPE_BYTES:
            with open(self.PIPE_LIMIT, "w") as file:
                file.write(str(self.PIPE_BYTES))
        super().start()

    def close(self):
        super().close()
        if self.pipe_limit is not None:
            with open(self.PIPE_LIMIT, "w") as file:
                file.write(self.pipe_limit)

    def carry(self, source, target, images, copy, laps):
        page_server = ["--address", "127.0.0.1", "--port", str(self.port)]  # TCP; the other is UDP
        dump = subprocess.Popen(
            source.enter(CRIU, "dump", "-t", self.pid, "-D", images, "--lazy-pages",
                         *page_server), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_true("criu's page server", lambda: listens(self.port) or dump.poll() is not None)
        laps.end("dump")
        run("cp", "-r", images, copy)
        laps.end("copy")
        pager = subprocess.Popen(
            target.enter(CRIU, "lazy-pages", "--page-server", "-D", copy, *page_server),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_true("criu lazy-pages", lambda: os.path.exists(f"{copy}/lazy-pages.socket"))
        laps.end("pager")
        target.inside(CRIU, "restore", "-D", copy, "-d", "--lazy-pages")
        laps.end("restore")
        if pager.wait(timeout=300) != 0 or dump.wait(timeout=300) != 0:
            raise RuntimeError("criu lazy-pages failed")
        laps.end("pages")


class Podman:
    """podman container checkpoint --export, rm, podman container restore --import."""

    def __init__(self, directory, port, load):
        self.dir = directory
        run("mount", "-t", "tmpfs", "none", directory)
        os.makedirs(f"{directory}/bin")
        criu = f"{directory}/bin/criu"  # the one that the others use, whatever the machine has
        with open(criu, "w") as file:
            file.write(f'#!/bin/sh\nexec {CRIU} "$@"\n')
        os.chmod(criu, 0o755)
        self.env = dict(os.environ, PATH=f"{directory}/bin:{os.environ['PATH']}",
                        TMPDIR=directory)
        self.server = ["/bench_server", *load, "udp", str(port)]
        self.mounts = subprocess.Popen(  # criu keeps what it learns in /run, if that is in memory
            ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /run && exec sleep infinity"])

    def podman(self, *argv):
        where = ["--root", f"{self.dir}/root", "--runroot", f"{self.dir}/run"]
        how = ["--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
        return run("nsenter", "-t", str(self.mounts.pid), "-m", "podman", *where, *how, *argv, env=self.env)

    def start(self):
        self.podman("import", self.image(), "bench")
        self.podman("run", "-d", "--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit",
                    "nproc=1024:1024", "--name", "bench", "bench", *self.server)

    def image(self):
        """The server and its libraries, packed up."""
        files = [SERVER] + [word for line in run("ldd", SERVER).splitlines()
                            for word in line.split() if word.startswith("/")]
        root = f"{self.dir}/image"
        for file in files:
            to = root + ("/bench_server" if file == SERVER else file)
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy(file, to)
        run("tar", "-C", root, "-cf", root + ".tar", ".")
        return root + ".tar"

    def move(self):
        archive = f"{self.dir}/checkpoint.tar"
        laps = Laps()
        self.podman("container", "checkpoint", "--export", archive, "--compress", "none", "bench")
        laps.end("checkpoint")
        self.podman("rm", "bench")
        laps.end("remove")
        self.podman("container", "restore", "--import", archive)
        laps.end("restore")
        os.unlink(archive)
        return laps.result()

    def close(self):
        try:
            self.podman("rm", "-f", "-a")
        finally:
            self.mounts.kill()
            self.mounts.wait()
            run("umount", "-l", self.dir)


PEERS = {"criu": Criu, "criu-lazy": LazyCriu, "podman": Podman}


def why_not(peer):
    """Why this peer cannot be measured here, or None."""
    if peer != "podman":
        return None
    for program in ("podman", "runc"):
        if shutil.which(program) is None:
            return f"{program} is not installed (scripts/setup --bench)"
    return None
