"""A device for tests: a real adbd of Debian in a network namespace, with a phone's file system, shell and tools.

It needs root, and the packages of scripts/install_test_device.sh. What is not a phone's: the kernel, the C library of
the shell, a seccomp filter, SELinux. The programs of aarch64 run under qemu.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
PORT = 5555
PROGRAMS = (
    "adb",
    "mksh",
    "toybox",
    "qemu-aarch64-static",
    "unshare",
    "ip",
    "nsenter",
    "aarch64-linux-gnu-g++",
    "g++",
    "dpkg",
)
_ADBD_PACKAGES = (
    "adbd", "android-libbase", "android-libboringssl", "android-libcutils", "android-liblog", "libprotobuf32t64",
    "libbrotli1", "liblz4-1", "libzstd1", "libsystemd0", "libxxhash0", "libcap2", "zlib1g", "libc6", "libgcc-s1",
    "libstdc++6",
)  # fmt: skip
_SUITE = "trixie"

PROPERTIES = {
    "ro.product.manufacturer": "Test",
    "ro.product.model": "Device",
    "ro.soc.manufacturer": "Debian",
    "ro.soc.model": "adbd",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.product.cpu.abilist": "arm64-v8a",
    "ro.kernel.qemu": "1",
}


def missing() -> str | None:
    """Why no test device can be started here, or None."""
    if os.geteuid() != 0:
        return "the test device needs root (network and mount namespaces)"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"the test device needs {', '.join(absent)}: sudo sh scripts/install_test_device.sh"
    if _debian_mirror() is None:
        return "the test device needs Debian's adbd, and this machine has no Debian mirror configured"
    return None


def _debian_mirror() -> str | None:
    """The mirror that this machine's apt uses."""
    etc = Path("/etc/apt")
    for path in [*etc.glob("sources.list.d/*.sources"), *etc.glob("sources.list.d/*.list"), etc / "sources.list"]:
        if path.is_file() and (found := re.search(r"(?:^URIs:|^deb)\s+(\S+/debian)/?\s", path.read_text(), re.M)):
            return found[1]
    return None


def fetch_adbd(folder: Path) -> Path:
    """Debian's adbd and all its libraries, unpacked into ``folder``; nothing is installed."""
    root = folder / "root"
    if (root / ".complete").is_file():
        return root
    state = folder / "apt"
    for name in ("state/lists/partial", "cache/archives/partial", "etc"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (state / "sources.list").write_text(f"deb [signed-by={keyring}] {_debian_mirror()} {_SUITE} main\n")
    options = [
        f"Dir::State={state}/state", f"Dir::State::status={state}/status", f"Dir::Cache={state}/cache",
        f"Dir::Etc::sourcelist={state}/sources.list", "Dir::Etc::sourceparts=-", "APT::Sandbox::User=root",
    ]  # fmt: skip
    apt = ["apt-get", "-qq", *(f"-o{option}" for option in options)]
    subprocess.run([*apt, "update"], check=True, timeout=300, capture_output=True)
    subprocess.run([*apt, "download", *_ADBD_PACKAGES], check=True, timeout=300, cwd=state, capture_output=True)
    staging = folder / f"root-{uuid.uuid4().hex[:8]}"
    for package in state.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, staging], check=True, timeout=60)
    (staging / ".complete").touch()
    with contextlib.suppress(OSError):  # another test run was faster
        staging.rename(root)
    return root


_SHIMS = {
    "getprop": """
while IFS="=" read -r key value; do
  [ "$key" = "$1" ] && echo "$value"
done < /system/etc/properties
true""",
    "dumpsys": 'cat "/system/etc/dumpsys-$1"',
    "settings": "echo null",
}
_TOOLS = (
    "cat", "chmod", "cp", "cut", "date", "echo", "env", "find", "getconf", "grep", "head", "id", "kill", "ls", "mkdir",
    "mv", "ps", "rm", "sha256sum", "sleep", "sort", "stat", "tail", "test", "touch", "uname", "uniq", "wc", "xargs",
)  # fmt: skip

# Runs inside new mount and network namespaces; nothing of it is seen outside, or outlives the processes in it.
_START = """
set -e
mount -t tmpfs -o size=512m tmpfs "$WORK/mem"
mkdir "$WORK/mem/upper" "$WORK/mem/work" "$WORK/mem/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/mem/upper,workdir=$WORK/mem/work" "$WORK/mem/root"
cd "$WORK/mem/root"
mkdir -p data/local system/bin system/etc adbd
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount --bind "$ADBD" adbd
mount --bind "$WORK/etc" system/etc
mount --bind "$WORK/bin" system/bin
mount --bind "$WORK/etc/cpuinfo" proc/cpuinfo
if [ "$TMP_OPTIONS" != none ]; then
  mkdir -p data/local/tmp
  mount -t tmpfs -o "mode=771,$TMP_OPTIONS" tmpfs data/local/tmp
fi
ln -sf /system/bin/sh bin/sh
libraries=/adbd/usr/lib/x86_64-linux-gnu
exec chroot . /usr/bin/env -i PATH=/system/bin HOME=/data ADBD_PORT="$PORT" TEST_DEVICE_QEMU="$QEMU" \\
  LD_PRELOAD=/system/bin/preload.so \\
  $libraries/ld-linux-x86-64.so.2 --library-path $libraries:$libraries/android "$ADBD_PROGRAM"
"""

_CPUINFO = """processor\t: 0
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""


@dataclass
class TestDevice:
    """A running adbd. Files under ``etc`` are what getprop and dumpsys read."""

    work: Path
    adbd: Path
    subnet: int
    tmp_options: str = "size=256m"
    """Mount options of /data/local/tmp; ``none``: there is no such folder."""
    name: str = field(default_factory=lambda: f"cocorr-{uuid.uuid4().hex[:6]}")
    process: "subprocess.Popen[bytes] | None" = None

    __test__ = False  # for pytest: this is not a class of tests

    @property
    def address(self) -> str:
        """Of the device in its own network."""
        return f"10.77.{self.subnet}.2"

    @property
    def serial(self) -> str:
        """What adb calls it."""
        return f"{self.address}:{PORT}"

    def set_properties(self, **changed: str) -> None:
        """Write what getprop says; underscores stand for dots."""
        values = PROPERTIES | {key.replace("__", "."): value for key, value in changed.items()}
        (self.work / "etc" / "properties").write_text("".join(f"{k}={v}\n" for k, v in values.items()))

    def set_heat(self, *, celsius: float, status: int) -> None:
        """Write what dumpsys says."""
        (self.work / "etc" / "dumpsys-battery").write_text(f"  level: 80\n  temperature: {round(celsius * 10)}\n")
        (self.work / "etc" / "dumpsys-thermalservice").write_text(
            f"IsStatusOverride: false\nThermal Status: {status}\n"
        )

    def start(self) -> None:
        """Make the namespaces, and adbd inside them."""
        for name in ("mem", "etc", "bin"):
            (self.work / name).mkdir(exist_ok=True)
        self._write_system()
        run = lambda *command: subprocess.run(command, check=True, timeout=30, capture_output=True)  # noqa: E731
        run("ip", "netns", "add", self.name)
        host, inside = f"{self.name[-8:]}a", f"{self.name[-8:]}b"
        run("ip", "link", "add", host, "type", "veth", "peer", "name", inside, "netns", self.name)
        run("ip", "addr", "add", f"10.77.{self.subnet}.1/24", "dev", host)
        run("ip", "link", "set", host, "up")
        run("ip", "-n", self.name, "addr", "add", f"{self.address}/24", "dev", inside)
        run("ip", "-n", self.name, "link", "set", inside, "up")
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        self.start_adbd()

    def start_adbd(self) -> None:
        """Start adbd in the namespaces, with an empty /data."""
        program = next(path for path in self.adbd.rglob("adbd") if path.is_file() and os.access(path, os.X_OK))
        environment = {
            "PATH": os.environ["PATH"],
            "WORK": str(self.work),
            "ADBD": str(self.adbd),
            "ADBD_PROGRAM": f"/adbd/{program.relative_to(self.adbd)}",
            "TMP_OPTIONS": self.tmp_options,
            "PORT": str(PORT),
            "QEMU": shutil.which("qemu-aarch64-static") or "",
        }
        command = ["ip", "netns", "exec", self.name, "unshare", "--mount", "--propagation", "private"]
        with (self.work / "adbd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "sh", "-c", _START],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, (self.work / "adbd.log").read_text()
            listening = subprocess.run(
                ["ip", "netns", "exec", self.name, "cat", "/proc/net/tcp", "/proc/net/tcp6"],
                capture_output=True, text=True, check=False, timeout=30,
            ).stdout  # fmt: skip
            if f":{PORT:04X} " in listening:
                return
            time.sleep(0.05)
        raise AssertionError(f"adbd does not listen: {(self.work / 'adbd.log').read_text()}")

    def _write_system(self) -> None:
        self.set_properties()
        self.set_heat(celsius=25, status=0)
        (self.work / "etc" / "cpuinfo").write_text(_CPUINFO)
        folder = self.work / "bin"
        for name, body in _SHIMS.items():
            (folder / name).write_text(f"#!/system/bin/sh\n{body}\n")
            (folder / name).chmod(0o755)
        shutil.copy(Path(shutil.which("mksh") or ""), folder / "sh")
        shutil.copy(Path(shutil.which("toybox") or ""), folder / "toybox")
        for tool in _TOOLS:
            (folder / tool).unlink(missing_ok=True)
            (folder / tool).symlink_to("toybox")
        source, library = HERE / "exec_aarch64.c", folder / "preload.so"
        subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True, timeout=60)

    def processes(self) -> list[str]:
        """Command lines of everything that runs on the device, adbd aside."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False, timeout=30
        )
        own = str(self.process.pid) if self.process else ""
        lines = []
        for pid in listed.stdout.split():
            with contextlib.suppress(OSError):
                words = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if pid != own and words:
                    lines.append(f"{pid} {words}")
        return lines

    def files(self) -> list[str]:
        """Everything under /data/local/tmp, as the device sees it."""
        assert self.process is not None
        command = ["nsenter", "--mount", f"--target={self.process.pid}", "find", f"{self.work}/mem/root/data/local/tmp"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
        return [line.split("/data/local/tmp/", 1)[1] for line in listed.splitlines() if "/data/local/tmp/" in line]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to adbd."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def signal_runner(self, number: signal.Signals) -> bool:
        """Send a signal to the runner, if one runs."""
        for line in self.processes():
            pid, words = line.split(" ", 1)
            if "--model" in words:
                os.kill(int(pid), number)
                return True
        return False

    def stop(self) -> None:
        """End every process of the device, and remove its namespaces."""
        for line in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)
        subprocess.run(["ip", "netns", "del", self.name], check=False, timeout=30, capture_output=True)


@dataclass(frozen=True)
class AdbServer:
    """An adb server of the tests' own: its port, home and environment."""

    environment: dict[str, str]

    def adb(self, *arguments: str, timeout: float = 30) -> "subprocess.CompletedProcess[str]":
        """Run the client."""
        return subprocess.run(
            ["adb", *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def connect(self, serial: str) -> None:
        """Connect a network device, and wait until it answers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            said = self.adb("connect", serial).stdout
            if "connected to" in said and self.adb("-s", serial, "shell", "echo here").stdout.strip() == "here":
                return
            time.sleep(0.2)
        raise AssertionError(f"adb cannot connect to {serial}: {said}")


@contextlib.contextmanager
def adb_server(home: Path) -> Iterator[AdbServer]:
    """A server on a free port, which is ended at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home.mkdir(parents=True, exist_ok=True)
    server = AdbServer({"HOME": str(home), "ANDROID_ADB_SERVER_PORT": str(port), "ADB_MDNS": "0"})
    try:
        yield server
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.adb("kill-server", timeout=15)
