"""A listener's gate that lets everybody in."""

from broker.listeners import Admission, AdmissionLimits
from broker.listeners.admission import Visit
from broker.observability.metrics import Counters
from broker.observability.offences import Offences


def admission() -> Admission:
    """Of a node."""
    return Admission(AdmissionLimits(100, 0, 100, 0.0, 0.0, 1.0), Offences(Counters()))


def visit() -> Visit:
    """Of a connection."""
    made = admission().gate("web", 0, 0.0).enter("192.0.2.1")
    assert made is not None
    return made
