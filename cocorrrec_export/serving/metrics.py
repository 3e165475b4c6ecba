"""What a server tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 2.5e-1, 1.0)
_USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "cocorr_requests", "Infer requests answered, by HTTP status.", ["status"], registry=self.registry
        )
        self._by_status: dict[int, Counter] = {}
        self.users = Counter("cocorr_users", "Users whose corrections were computed.", registry=self.registry)
        self.shed = Counter("cocorr_shed", "Infer requests refused with 503.", registry=self.registry)
        self.dropped = Counter(
            "cocorr_dropped", "Requests dropped before compute: their client had gone.", registry=self.registry
        )
        self.batch_size = Histogram("cocorr_batch_size", "Users of a batch.", buckets=_USERS, registry=self.registry)
        self.queue_time = Histogram(
            "cocorr_queue_seconds", "Wait of a request before its batch.", buckets=_SECONDS, registry=self.registry
        )
        self.compute_time = Histogram(
            "cocorr_compute_seconds", "Compute of a batch.", buckets=_SECONDS, registry=self.registry
        )
        self.queue_users = Gauge("cocorr_queue_users", "Users that wait.", registry=self.registry)
        self.log_dropped = Counter(
            "cocorr_log_dropped", "Lines of the log that nobody read in time.", registry=self.registry
        )
        self.ready = Gauge("cocorr_ready", "1 while the server takes new work.", registry=self.registry)

    def answered(self, status: int) -> None:
        """Count an answer to an infer request."""
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self._requests.labels(str(status))
        counter.inc()
        if status == 503:
            self.shed.inc()

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
