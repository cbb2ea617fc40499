"""The gcloud commands of a pod, as argument lists: pure functions, nothing is run here.

The flags are those of `gcloud compute tpus queued-resources` (v2). A remote shell gets one string;
it is made by `shlex.join`, so no value is ever read as shell.
"""

import dataclasses
import re
import shlex

RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
CORES_PER_CHIP = {"v4": 2, "v5p": 2}
BUNDLE = "bagpiper.tar.gz"
DIRECTORY = "bagpiper"
PYTHON = f"{DIRECTORY}/.venv/bin/python"
PORT = 8476


class PodError(RuntimeError):
    """A pod that cannot be had or used; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Pod:
    """TPU slices under one name.

    Attributes:
        name: the name of the queued resource.
        project, zone: the project and the zone that it is in.
        type: the type of each slice, as gcloud calls it, e.g. v5p-128; "v5e-256" stands for v5litepod-256.
        slices: the number of slices of that type, joined by the data center's network.
        spot, reserved: how the capacity is paid for; neither means on demand.
        runtime: software version of the hosts; "" takes that of the type.
    """

    name: str
    project: str
    zone: str
    type: str
    slices: int = 1
    spot: bool = False
    reserved: bool = False
    runtime: str = ""

    def __post_init__(self):
        object.__setattr__(self, "type", re.sub(r"^v5e-", "v5litepod-", self.type))
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", self.name):
            raise PodError(
                f"{self.name!r} is no name: small letters, digits and '-', beginning with a letter"
            )
        if self.generation not in RUNTIMES or not self.type.partition("-")[2].isdigit():
            known = ", ".join(f"{name}-N" for name in RUNTIMES)
            raise PodError(f"{self.type!r} is no TPU type; known: {known}, v5e-N")
        if self.spot and self.reserved:
            raise PodError("choose --spot or --reserved, not both")

    @property
    def generation(self) -> str:
        return self.type.partition("-")[0]

    @property
    def hosts(self) -> int:
        """Hosts of one slice: four chips each, except the single hosts of v5e and v6e with up to eight."""
        chips = int(self.type.partition("-")[2]) // CORES_PER_CHIP.get(self.generation, 1)
        return 1 if chips <= (4 if self.generation in CORES_PER_CHIP else 8) else chips // 4


def _queued(pod: Pod, verb: str, *arguments: str) -> list[str]:
    place = [f"--project={pod.project}", f"--zone={pod.zone}"]
    return ["gcloud", "compute", "tpus", "queued-resources", verb, *arguments, *place]


def create(pod: Pod) -> list[str]:
    nodes = [f"--node-id={pod.name}"]
    if pod.slices > 1:
        nodes = [f"--node-count={pod.slices}", f"--node-prefix={pod.name}"]
    return _queued(
        pod, "create", pod.name, *nodes, f"--accelerator-type={pod.type}",
        f"--runtime-version={pod.runtime or RUNTIMES[pod.generation]}",
        *(["--spot"] if pod.spot else []), *(["--reserved"] if pod.reserved else []), "--async", "--quiet",
    )  # fmt: skip


def describe(pod: Pod) -> list[str]:
    return _queued(pod, "describe", pod.name, "--format=json")


def describe_node(pod: Pod, node: str) -> list[str]:
    return ["gcloud", "compute", "tpus", "tpu-vm", "describe", node, "--format=json", f"--project={pod.project}",
            f"--zone={pod.zone}"]  # fmt: skip


def delete(pod: Pod) -> list[str]:
    return _queued(pod, "delete", pod.name, "--force", "--quiet")


def upload(pod: Pod) -> list[str]:
    return _queued(pod, "scp", BUNDLE, f"{pod.name}:{BUNDLE}", "--node=all", "--worker=all", "--quiet")


def remote(pod: Pod, command: str, node: str = "all", worker: str = "all") -> list[str]:
    return _queued(
        pod, "ssh", pod.name, f"--node={node}", f"--worker={worker}", "--quiet", f"--command={command}"
    )


def install(pod: Pod, commit: str) -> list[str]:
    """On every host, unless another commit's job runs there."""
    keeper = f"{DIRECTORY}/launch/on_host.py"
    unpack = f"mkdir -p {DIRECTORY} && tar -xzf {BUNDLE} -C {DIRECTORY} launch/on_host.py"
    return remote(
        pod,
        f"{unpack} && {shlex.join(['python3', keeper, 'install', f'--name={pod.name}', f'--commit={commit}'])}",
    )


def start(pod: Pod, job: list[str], attempt: str, coordinator: str, hosts: list[int]) -> list[list[str]]:
    """One command per host, so that each has its own connection, log and exit code.

    gcloud's own `--worker=all` mixes the output, and runs 64 hosts at a time, which a pod of more waits for forever.

    Args:
        pod: the pod that it runs on.
        job: module and flags, e.g. ["bagpiper_jax", "train", "--gin_file=…"].
        attempt: the same one leads back to what it started, also when that has ended meanwhile.
        coordinator: address of the first host.
        hosts: the number of hosts of each slice.
    """
    return [
        remote(
            pod,
            _on_host(pod, job, attempt, coordinator, sum(hosts), sum(hosts[:node]) + worker),
            str(node),
            str(worker),
        )
        for node, count in enumerate(hosts)
        for worker in range(count)
    ]


def _on_host(pod: Pod, job: list[str], attempt: str, coordinator: str, count: int, index: int) -> str:
    variables = {
        "JAX_COORDINATOR_ADDRESS": f"{coordinator}:{PORT}",
        "JAX_NUM_PROCESSES": count,
        "JAX_PROCESS_ID": index,
    }
    environment = ["env", "-C", DIRECTORY, *(f"{name}={x}" for name, x in variables.items() if count > 1)]
    keeper = [
        "python3",
        f"{DIRECTORY}/launch/on_host.py",
        "run",
        f"--name={pod.name}",
        f"--attempt={attempt}",
    ]
    return shlex.join([*keeper, "--", *environment, ".venv/bin/python", "-m", *job])


def stop(pod: Pod) -> list[str]:
    return remote(
        pod, shlex.join(["python3", f"{DIRECTORY}/launch/on_host.py", "stop", f"--name={pod.name}"])
    )
