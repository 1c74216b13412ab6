"""Three hosts and an S3 server: hosts die, fall silent and join, the driver dies; how long until work continues.

A host is a network namespace with its own interface, joined to the others by a bridge, and runs its own `ray start`;
one kernel serves them all. Images and store lie on moto's S3 server beyond the bridge. Needs root, iproute2 and the
right to make namespaces; without them it says so and exits with 3.

    python benchmarks/engine_hosts.py --images 240 --output benchmarks/results/engine_hosts.md
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from engine_parts import RAY_ENVIRONMENT, Driver, config_of, draw_images, kill, load
from results_page import markdown, page, publish

from hmsa_label.pipeline.label.run import label_images
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.versions.label_store import LabelStore

SIZE, BUCKET = (64, 128), "labels"
NETWORK = "10.213.77"  # the bridge is .1, hosts are .10 and so on
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
NO_NAMESPACES = 3  # exit code


class NoNamespaces(RuntimeError):
    """Network namespaces cannot be made here."""


def ip(*arguments: str, check: bool = True) -> str:
    """`ip ARGUMENTS`."""
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True).stdout


class Host:
    """A network namespace on the bridge, and what runs in it."""

    def __init__(self, number: int) -> None:
        self.name = f"hmsa{os.getpid() % 100000}h{number}"
        self.address = f"{NETWORK}.{10 + number}"
        self._veth = f"hv{os.getpid() % 100000}{number}"
        ip("netns", "add", self.name)
        ip("link", "add", self._veth, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", self._veth, "master", bridge(), "up")
        for command in (["addr", "add", f"{self.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            ip("-n", self.name, *command)
        ip("-n", self.name, "link", "set", "lo", "up")

    @property
    def inside(self) -> tuple[str, ...]:
        """Prefix of commands that run on this host, under its own host name."""
        rename = ("unshare", "--uts", "sh", "-c", f'hostname {self.name} && exec "$@"', "sh")
        return ("ip", "netns", "exec", self.name, *rename)

    def start_ray(self, folder: str, *options: str) -> subprocess.Popen[bytes]:
        """`ray start` in the foreground, with messages into the folder."""
        ray = str(Path(sys.executable).parent / "ray")
        command = [*self.inside, ray, "start", "--block", f"--node-ip-address={self.address}", *options]
        command += [f"--object-store-memory={80 * 2**20}"]
        with open(f"{folder}/{self.name}.log", "wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def pull_the_plug(self) -> None:
        """SIGKILL of everything that runs on this host."""
        while pids := [int(pid) for pid in ip("netns", "pids", self.name).split()]:
            kill(pids)

    def cut_the_cable(self) -> None:
        """Nothing reaches this host any more, or comes from it; its processes go on."""
        ip("link", "set", self._veth, "down")

    def remove(self) -> None:
        """Ends the host and all that runs there."""
        self.pull_the_plug()
        ip("netns", "del", self.name, check=False)
        ip("link", "del", self._veth, check=False)


def bridge() -> str:
    """Name of this process's bridge."""
    return f"hb{os.getpid() % 100000}"


@contextlib.contextmanager
def network() -> Iterator[list[Host]]:
    """A bridge with an address of this machine on it; hosts put into the list are removed in the end.

    Raises:
        NoNamespaces: with the reason.
    """
    hosts: list[Host] = []
    try:
        try:
            ip("link", "add", bridge(), "type", "bridge")
            ip("addr", "add", f"{NETWORK}.1/24", "dev", bridge())
            ip("link", "set", bridge(), "up")
            hosts.append(Host(0))
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or error
            raise NoNamespaces(f"network namespaces cannot be made here: {str(reason).strip()}") from None
        yield hosts
    finally:
        for host in hosts:
            host.remove()
        with contextlib.suppress(OSError):
            ip("netns", "del", f"hmsa{os.getpid() % 100000}h0", check=False)
            ip("link", "del", bridge(), check=False)


@contextlib.contextmanager
def s3_server() -> Iterator[dict[str, Any]]:
    """Storage options that lead to an S3 server on the bridge with an empty bucket."""
    command = [sys.executable, __file__, "--serve"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True) as server:
        assert server.stdout is not None
        endpoint = server.stdout.readline().strip()
        try:
            access = {"aws_access_key_id": "made-up", "aws_secret_access_key": "made-up", "region_name": "us-east-1"}
            boto3.client("s3", endpoint_url=endpoint, **access).create_bucket(Bucket=BUCKET)
            yield {"key": "made-up", "secret": "made-up", "endpoint_url": endpoint}
        finally:
            server.kill()


def serve() -> None:
    """Serves S3 on the bridge until the standard input is closed."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=f"{NETWORK}.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()


@dataclass
class Timeline:
    """Drivers one after the other over the same store, and what was measured."""

    images: int
    drivers: list[Driver] = field(default_factory=list)
    rows: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def driver(self) -> Driver:
        return self.drivers[-1]

    def labeled(self) -> int:
        """Images reported to the drivers so far."""
        return sum(len(driver.seen("ImageLabeled")) for driver in self.drivers)

    def wait_for_share(self, share: float) -> None:
        """Returns when that share of the images is labeled."""
        self.driver.wait_for(lambda: self.labeled() >= share * self.images)

    def measure(self, what: str, strike: Callable[[], None], recovered: Callable[[float], object]) -> None:
        """Strikes, and notes the seconds until the next label, and until `recovered` holds of what came since."""
        began, before = time.time(), len(self.drivers)
        strike()
        if len(self.drivers) > before:
            self.driver.wait_for(lambda: self.driver.seen("ImageLabeled"))
        self.driver.wait_for(lambda: self._labels_since(began))
        next_label = self._labels_since(began)[0]["at"] - began
        self.driver.wait_for(lambda: recovered(began))
        self.rows.append((what, next_label, time.time() - began))

    def _labels_since(self, began: float) -> list[dict[str, Any]]:
        return [event for event in self.driver.seen("ImageLabeled") if event["at"] > began]

    def since(self, name: str, began: float) -> list[dict[str, Any]]:
        """Events of the current driver of one kind since a moment."""
        return [event for event in self.driver.seen(name) if event["at"] > began]


def strike_all(line: Timeline, hosts: list[Host], folder: str, start: Callable[[], Driver]) -> None:
    """The run, from the first driver to the end: a host dies, one joins, the driver dies, a host falls silent."""
    line.drivers.append(start())
    line.wait_for_share(0.15)
    line.measure(
        "a host dies (SIGKILL of everything on it)",
        hosts[1].pull_the_plug,
        lambda began: line.since("WorkerLost", began),
    )

    def join() -> None:
        hosts.append(Host(3))
        hosts[3].start_ray(folder, f"--address={hosts[0].address}:6379", "--num-cpus=1")

    line.wait_for_share(0.3)
    line.measure("another host joins", join, lambda began: line.since("WorkerStarted", began))

    def kill_driver() -> None:
        line.driver.process.kill()
        line.driver.process.wait()
        line.driver.poll()
        line.drivers.append(start())

    line.wait_for_share(0.5)
    line.measure("the driver dies and is started again", kill_driver, lambda began: line.since("ImageLabeled", began))
    line.wait_for_share(0.6)
    line.measure(
        "a host falls silent (its cable is cut)", hosts[2].cut_the_cable, lambda began: line.since("WorkerLost", began)
    )


def start_cluster(hosts: list[Host], folder: str) -> None:
    """A head that labels nothing, and two hosts with room for one worker each."""
    ray = ["--head", "--port=6379", "--num-cpus=0", f"--temp-dir={folder}", "--include-dashboard=false"]
    hosts[0].start_ray(folder, *ray)
    wait_for_hosts(hosts, folder)  # others give up on a head that is not there yet
    for number in (1, 2):
        hosts.append(Host(number))
        hosts[number].start_ray(folder, f"--address={hosts[0].address}:6379", "--num-cpus=1")
        wait_for_hosts(hosts, folder)  # they share a folder for sockets, whose names two at once may both take


def measure(images: int, ms: float) -> tuple[str, bool]:
    """The result page, and whether every image was labeled once and right."""
    busy, line = load(), Timeline(images)
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets want a short path
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        hosts = stack.enter_context(network())
        options = stack.enter_context(s3_server())
        draw_images(Path(folder) / "images", images, SIZE)
        here = {"data": f"{folder}/images", "store": f"{folder}/here", "ms": 0}
        whole = label_images(config_of({**here, "engine": {"executor": "local", "workers": 1}}))
        upload(Path(folder) / "images", options)
        start_cluster(hosts, folder)
        engine = {"ray_address": f"{hosts[0].address}:6379", "threads": 3, "workers": 2}
        place = {"data": f"s3://{BUCKET}/images", "store": f"s3://{BUCKET}/store", "storage_options": options}
        run = {**place, "ms": ms, "engine": engine}
        strike_all(line, hosts, folder, lambda: Driver(run, hosts[0].inside))
        summary = line.driver.finish()
        checks = check(line, summary, run, whole.digest)
    rows = [[what, f"{label:.1f}", f"{all_:.1f}"] for what, label, all_ in line.rows]
    table = markdown(["event", "next label after, s", "handled after, s"], rows)
    text = page("Hosts that die, join and fall silent", "/tmp", explanation(images, ms, busy), table, *checks[0])
    return text, checks[1]


def upload(folder: Path, options: dict[str, Any]) -> None:
    """Puts the pictures into the bucket."""
    access = {"aws_access_key_id": options["key"], "aws_secret_access_key": options["secret"]}
    client = boto3.client("s3", endpoint_url=options["endpoint_url"], region_name="us-east-1", **access)
    for path in sorted((folder / "all").iterdir()):
        client.upload_file(str(path), BUCKET, f"images/all/{path.name}")


def wait_for_hosts(hosts: list[Host], folder: str) -> None:
    """Returns when all hosts have joined.

    Raises:
        RuntimeError: if they do not within two minutes, with what the head said.
    """
    ray = str(Path(sys.executable).parent / "ray")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        state = subprocess.run(
            [*hosts[0].inside, ray, "status", "--address", f"{hosts[0].address}:6379"], capture_output=True, text=True
        )
        if state.stdout.count("node_") >= len(hosts):
            return
        time.sleep(1)
    said = "".join(Path(folder, f"{host.name}.log").read_text() for host in hosts)
    raise RuntimeError(f"{said}{state.stdout}{state.stderr}")


def check(line: Timeline, summary: dict[str, Any], run: dict[str, Any], digest: str) -> tuple[list[str], bool]:
    """What became of the images, in words, and whether it is as it should be."""
    store = LabelStore.open(run["store"], storage_options=run["storage_options"])
    reported = Counter(event["key"] for driver in line.drivers for event in driver.seen("ImageLabeled"))
    problems = verify(run["store"], storage_options=run["storage_options"])
    equal = summary["digest"] == store.digest == digest
    complete = len(store) == len(set(store.keys())) == line.images and summary["images_failed"] == 0
    twice = sum(count > 1 for count in reported.values())
    words = [
        f"Images in the store: {len(store)} of {line.images}, each once. "
        f"Bytes equal to a single-process run on a disk: {'yes' if equal else 'NO'}. "
        f"`audit verify --deep`: {len(problems)} problems. Reported to more than one driver: {twice}; "
        f"adopted by the second driver from the storage: {line.images - len(reported)}."
    ]
    return words, equal and complete and not problems and not twice


def explanation(images: int, ms: float, busy: str) -> str:
    """What was done, and what the columns say."""
    settings = ", ".join(f"{name}={value}" for name, value in HEALTH.items())
    return (
        f"{images} images of {SIZE[0]}x{SIZE[1]} on S3 (moto), fake teacher of {ms:g} ms; three hosts at first, of "
        f"which the head labels nothing; the head has {settings}. {busy}.\n\n*Next label*: seconds until any image is "
        "labeled after the event. *Handled*: until the driver has noticed the loss and gives the host's images to "
        "others, until the worker on the new host is ready, or until the new driver labels."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--ms", type=float, default=300, help="time that the teacher takes for an image")
    parser.add_argument("--output", help="write the result there as Markdown")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    os.environ.update({**RAY_ENVIRONMENT, **HEALTH})
    try:
        text, sound = measure(arguments.images, arguments.ms)
    except NoNamespaces as error:
        print(error, file=sys.stderr)
        sys.exit(NO_NAMESPACES)
    publish(text, arguments.output)
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
