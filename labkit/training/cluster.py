"""Settings for training on a cluster with Agent Lightning, VERL and vLLM: typed here, rendered as the files they read.

Nothing of it runs on a machine without GPUs. What can be checked without one is checked: the files parse, VERL and
Agent Lightning know every name in them, and Agent Lightning makes a Kubernetes Job of the template.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2

from labkit.errors import OptionInvalid
from labkit.types import require_whole

# The job is a Jinja template itself, so that what is filled in here has other marks.
MARKED = jinja2.Environment(
    "{%", "%}", "<<", ">>", undefined=jinja2.StrictUndefined, keep_trailing_newline=True
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Describe a run: `nodes` machines with `gpus` each train `model`; agents run as Kubernetes Jobs from `image`.

    A step takes `tasks` tasks with `samples` rollouts of each; `kl` weighs the divergence from the start. `timeout` is
    a rollout's, in seconds. Every process reads the gateway's key from AGL_KEY; it is in no file.
    """

    model: str = "Qwen/Qwen2.5-1.5B-Instruct"
    gateway: str = "http://agl-gateway:8080"
    image: str = "agent:1"
    nodes: int = 1
    gpus: int = 8
    tensor_parallel: int = 1
    tasks: int = 32
    samples: int = 8
    epochs: int = 2
    timeout: int = 300
    learning_rate: float = 1e-6
    kl: float = 0.001

    def __post_init__(self) -> None:
        for name in ("nodes", "gpus", "tensor_parallel", "tasks", "samples", "epochs", "timeout"):
            require_whole(name, getattr(self, name), 1, 100_000)
        if not (0 < self.learning_rate < 1 and 0 <= self.kl < 100):
            rates = f"learning_rate={self.learning_rate!r:.20}, kl={self.kl!r:.20}"
            raise OptionInvalid(
                f"no run has {rates}", fix="a learning rate like 1e-6, and a kl of 0 or a little more"
            )
        if self.nodes * self.gpus % self.tensor_parallel:
            fix = f"a divisor of {self.nodes * self.gpus}, the number of GPUs"
            raise OptionInvalid(f"tensor_parallel cannot be {self.tensor_parallel}", fix=fix)

    def files(self) -> dict[str, str]:
        """Return the files by name: for trainer, gateway and controller, for each agent's Job, and for its image."""
        found = sorted(Path(__file__).with_name("cluster_files").iterdir())
        return {path.name: MARKED.from_string(path.read_text("utf-8")).render(asdict(self)) for path in found}
