"""The packets that the tests of the decoder know as bad, for whole nodes too."""

from tests.conformance.malformed.case import NAMES, SILENT, Case
from tests.mqtt.vectors import REFUSED, Refusal, Vector


def _case(vector: Vector) -> Case:
    assert isinstance(vector.expected, Refusal)
    code = int(vector.expected.reason_code) if vector.version == 5 else SILENT
    return Case(f"vector {vector.name}", vector.version, vector.data, code)


CASES = [_case(vector) for vector in REFUSED if vector.from_client and vector.version in NAMES]
