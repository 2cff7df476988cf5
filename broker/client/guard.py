"""What a node asks of its clients: who they are, and whether they may do what they want. None where a node
asks nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from broker.auth import Access, Audit, AuthenticatorChain, Authorization
from broker.mqtt import MQTT_5
from broker.observability.metrics import Counters


@dataclass(frozen=True, slots=True)
class Guard:
    """For all connections of a node."""

    chain: AuthenticatorChain
    """Of listeners that say nothing else."""
    authorization: Authorization
    audit: Audit
    counters: Counters
    disconnects_for_publish: bool
    """MQTT 3 clients that publish what they may not."""
    disconnects_revoked: bool
    """Clients that have a subscription which they may not have any more."""
    chains: Mapping[str, AuthenticatorChain] = field(default_factory=dict)
    """Of others, by their names."""

    def chain_of(self, listener: str) -> AuthenticatorChain:
        """Who is asked about clients of the listener of this name."""
        return self.chains.get(listener, self.chain)

    def disconnects(self, version: int) -> bool:
        """A client of this version for a PUBLISH that it may not send."""
        return self.disconnects_for_publish and version != MQTT_5

    def note_denied(self, action: str, accesses: Sequence[Access]) -> None:
        """Counts and records what a client was denied."""
        self.counters.denied.add(action, len(accesses))
        for access in accesses:
            self.audit.denied(
                action,
                client_id=access.client_id,
                username=access.identity.username,
                address=access.address,
                topic=access.topic,
                qos=access.qos,
                retain=access.retain,
            )
