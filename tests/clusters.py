"""A private Redis Cluster for tests: three masters with a replica each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import redis
import services
from services import Server

SLOTS = 16_384
MASTERS = 3


class Cluster:
    """The nodes, masters first; any of them may be killed and started again."""

    def __init__(self, nodes: list[Server], buses: list[int]) -> None:
        self.nodes = nodes
        self.buses = buses

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def order(self, node: Server, *words: object) -> str:
        """Send one command to one node, and return its answer as text."""
        with redis.Redis(port=node.port, socket_timeout=5) as client:
            answer = client.execute_command(*words)
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    def form(self) -> None:
        """Make one cluster of the nodes: slots, acquaintance, replicas."""
        first = self.nodes[0]
        for number, node in enumerate(self.nodes[:MASTERS]):
            start = SLOTS * number // MASTERS
            end = SLOTS * (number + 1) // MASTERS - 1
            self.order(node, "CLUSTER", "ADDSLOTSRANGE", start, end)
        for node, bus in zip(self.nodes[1:], self.buses[1:], strict=True):
            order = ("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
            self.order(first, *order)
        services.wait_for(self.knows_all, 30, "the nodes do not find each other")
        for number, node in enumerate(self.nodes[MASTERS:]):
            master = self.order(self.nodes[number], "CLUSTER", "MYID").strip()
            self.order(node, "CLUSTER", "REPLICATE", master)
        services.wait_for(self.is_whole, 30, "the replicas do not follow")

    def knows_all(self) -> bool:
        for node in self.nodes:
            known = self.order(node, "CLUSTER", "NODES").splitlines()
            lines = [line for line in known if "handshake" not in line]
            if len(lines) != len(self.nodes):
                return False
        return True

    def is_whole(self) -> bool:
        """Tell whether every node serves all slots, and each replica follows."""
        for node in self.nodes:
            with suppress(redis.ConnectionError):
                state = self.order(node, "CLUSTER", "INFO")
                known = self.order(node, "CLUSTER", "NODES")
                replicas = known.count("slave ")
                if "cluster_state:ok" not in state or replicas < MASTERS:
                    return False
        for node in self.nodes[MASTERS:]:
            with redis.Redis(port=node.port, socket_timeout=5) as client:
                if client.info("replication").get("master_link_status") == "down":
                    return False
        return True

    def owner(self, name: bytes) -> Server:
        """Return the running node that serves a name's slot."""
        for node in self.nodes:
            client = redis.Redis(port=node.port, socket_timeout=1)
            with suppress(redis.RedisError), client:
                client.exists(name)  # MovedError elsewhere
                if client.info("replication")["role"] == "master":
                    return node
        raise LookupError(f"nobody serves {name!r}")


@contextmanager
def cluster() -> Iterator[Cluster | None]:
    """Start six nodes that form a cluster; None where there is no redis-server."""
    with ExitStack() as stack:
        nodes = []
        buses = []
        for _ in range(2 * MASTERS):
            bus = services.free_port()
            options = ["--cluster-enabled", "yes", "--cluster-port", str(bus)]
            options += ["--cluster-node-timeout", "1500"]
            # A replica may take over however long it has not heard of its master.
            options += ["--cluster-replica-validity-factor", "0"]
            node = stack.enter_context(services.private("redis", *options))
            if node is None:
                yield None
                return
            nodes.append(node)
            buses.append(bus)
        made = Cluster(nodes, buses)
        made.form()
        yield made
