"""The same application on Ray Serve: several replicas, autoscaling, replicas replaced when they die.

    serve run cocorrrec_export.serving.ray:deploy artifact=dist/gcn-onnx-fp32

Each replica checks and loads the artifact itself, has its own queue and batches, and answers the same endpoints.
"""

import sys
from pathlib import Path
from typing import Any

from cocorrrec_export.errors import UsageError
from cocorrrec_export.extras import require
from cocorrrec_export.isolation import keep_current_folder_out

MAX_ONGOING = 512
TARGET_ONGOING = 64
_HOME = str(Path(__file__).resolve().parents[2])
"""Where this package is imported from."""


def deploy(arguments: dict[str, str]) -> Any:
    """The Ray Serve application; ``serve run`` passes its ``key=value`` arguments.

    Args:
        arguments: ``artifact``, the folder of an exported GCN on every node; optional ``min_replicas`` and
            ``max_replicas`` (1 and 8), which are numbers.

    Raises:
        UsageError: an argument is missing or unknown.
    """
    unknown = arguments.keys() - {"artifact", "min_replicas", "max_replicas"}
    if unknown or "artifact" not in arguments:
        raise UsageError("give artifact=FOLDER, and if you like min_replicas=N max_replicas=N")
    low, high = (int(arguments.get(f"{end}_replicas", default)) for end, default in (("min", 1), ("max", 8)))
    return build(Path(arguments["artifact"]).resolve(), min_replicas=low, max_replicas=high)


def build(artifact: Path, *, min_replicas: int, max_replicas: int, num_cpus: float = 1.0) -> Any:
    """The Ray Serve application of one exported GCN.

    Args:
        artifact: the folder; every node must have it under this path.
        min_replicas: always running.
        max_replicas: at the most, by the number of requests under way.
        num_cpus: what one replica reserves.
    """
    require("ray")
    from ray import serve

    replica = serve.deployment(
        name="gcn",
        max_ongoing_requests=MAX_ONGOING,
        health_check_period_s=2,
        autoscaling_config={
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "target_ongoing_requests": TARGET_ONGOING,
        },
        ray_actor_options={"num_cpus": num_cpus},
    )(Replica)
    return replica.bind(str(artifact), str(Path.cwd()))


def keep_driver_folder_out(started_in: str) -> None:
    """No module of a replica comes from the folder that the driver was started in; nor of the processes it starts.

    Where this package itself is there, as in a checkout, the folder stays, behind all others.
    """
    sys.path[:] = [entry for entry in sys.path if entry not in ("", started_in)]
    if started_in == _HOME:
        sys.path.append(_HOME)
    keep_current_folder_out()


class Replica:
    """One copy of the server's application.

    Args:
        artifact: folder of an exported GCN.
        started_in: the folder that the driver was started in, which Ray puts in front of every module of a replica.

    Raises:
        CocorrrecError: it is missing or changed; Ray Serve reports the replica as failed.
    """

    def __init__(self, artifact: str, started_in: str = "") -> None:
        keep_driver_folder_out(started_in)
        from cocorrrec_export.serving.app import create_app
        from cocorrrec_export.serving.model import open_served

        self._app = create_app(open_served(Path(artifact))[1])
        self._started = False

    async def __call__(self, request: Any) -> Any:
        """Answer one request that Ray's proxy has taken."""
        from starlette.responses import Response

        if not self._started:  # here and not above: it needs the replica's event loop
            self._app.start()
            self._started = True
        body: bytes | None = await request.body()
        sent: list[Any] = []

        async def receive() -> Any:
            nonlocal body
            if body is None:
                return await request.receive()
            whole, body = body, None
            return {"type": "http.request", "body": whole, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(request.scope, receive, send)
        if not sent:
            return Response(status_code=499)  # its client has gone
        start, end = sent
        response = Response(end["body"], start["status"])
        response.raw_headers = list(start["headers"])
        return response
