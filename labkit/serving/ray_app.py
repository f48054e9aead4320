"""The gateway on Ray Serve: the same app in replicas that follow the queue, on all machines of a cluster.

Each replica starts the backends of its settings for itself. Replicas of one machine share its folder of state, so that
keys and quotas hold for all of them; machines share them only if that folder is on a disk which they share. `/metrics`
is that of the replica which happens to answer. A request whose replica dies ends with an error or a torn stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.errors import EngineUnavailable
from labkit.serving.settings import Settings
from labkit.serving.simulation import Autoscale

if TYPE_CHECKING:
    from starlette.applications import Starlette

NAME = "labkit"


def autoscaling(scale: Autoscale) -> dict[str, Any]:
    """Say in Ray's words what was tried in a simulation; only `start` is not up to Ray."""
    return {
        "min_replicas": scale.least,
        "max_replicas": scale.most,
        "target_ongoing_requests": scale.ongoing,
        "upscale_delay_s": scale.up_after,
        "downscale_delay_s": scale.down_after,
    }


def start(
    settings: Settings, scale: Autoscale | None = None, *, address: str = "local", cpus: float = 1.0
) -> str:
    """Serve on a cluster until `stop()`; return the URL. A replica takes `cpus` cores of its machine.

    `address` is "auto", "host:port", or "local" for a cluster on this machine. Raises `EngineUnavailable` without Ray.
    """
    try:
        import ray
        from ray import serve
    except ImportError as exc:
        raise EngineUnavailable("Ray Serve is not installed", fix="pip install 'labkit[ray,serve]'") from exc

    def build() -> Starlette:
        from labkit.serving.app import create_app

        return create_app(settings)

    ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    serve.start(http_options={"host": settings.host, "port": settings.port})
    gateway = serve.deployment(
        name="gateway",
        autoscaling_config=autoscaling(scale or Autoscale()),
        max_ongoing_requests=settings.slots + settings.queue,
        graceful_shutdown_timeout_s=settings.grace,
        ray_actor_options={"num_cpus": cpus},
    )(serve.ingress(build)())
    serve.run(gateway.bind(), name=NAME, route_prefix="/")
    return f"http://{settings.host}:{settings.port}"


def stop() -> None:
    """End what `start` began, and leave the cluster."""
    import ray
    from ray import serve

    serve.shutdown()
    ray.shutdown()
