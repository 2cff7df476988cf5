"""Any packet that MQTT allows, for Hypothesis."""

from hypothesis import strategies as st

from broker.mqtt import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)
from broker.mqtt import reason_code as codes
from broker.mqtt.property import (
    IN_ACKNOWLEDGEMENT,
    IN_AUTH,
    IN_CLIENT_DISCONNECT,
    IN_CLIENT_PUBLISH,
    IN_CONNACK,
    IN_CONNECT,
    IN_SERVER_DISCONNECT,
    IN_SERVER_PUBLISH,
    IN_SUBSCRIBE,
    IN_UNSUBSCRIBE,
    IN_WILL,
    PROPERTY_RULES,
    PropertyRule,
)

Draw = st.DrawFn

VERSIONS = (MQTT_3_1, MQTT_3_1_1, MQTT_5)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
topics = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=20)
levels = st.one_of(
    st.just("+"), st.text(st.characters(exclude_characters="\0+#/$", exclude_categories=["Cs"]), max_size=5)
)
filters = st.builds(
    lambda parts, rest: "/".join(parts + rest),
    st.lists(levels, min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool)
packet_ids = st.integers(1, 65_535)
payloads = st.binary(max_size=300)

_BY_KIND = {4: payloads, 5: texts, 6: st.tuples(texts, texts)}


def _value(rule: PropertyRule, place: int) -> st.SearchStrategy[object]:
    one: st.SearchStrategy[object] = _BY_KIND.get(rule.kind, st.integers(rule.minimum, rule.maximum))
    if rule.name == "response_topic":
        one = topics
    if rule.kind in (3, 6):
        maximum = 3 if rule.repeats & place else 1
        return st.lists(one, min_size=1, max_size=maximum).map(tuple)
    return one


@st.composite
def properties(draw: Draw, place: int, version: int) -> Properties | None:
    """Some of the properties which are allowed there, or None if there are none."""
    if version != MQTT_5:
        return None
    only_from_server = {
        "subscription_identifier": IN_CLIENT_PUBLISH,
        "server_reference": IN_CLIENT_DISCONNECT,
        "session_expiry_interval": IN_SERVER_DISCONNECT,
    }
    rules = [
        rule
        for rule in PROPERTY_RULES
        if rule.places & place and not only_from_server.get(rule.name, 0) & place
    ]
    chosen = draw(st.lists(st.sampled_from(rules), unique=True, max_size=5))
    made = Properties()
    for rule in chosen:
        setattr(made, rule.name, draw(_value(rule, place)))
    if made.authentication_data is not None or place == IN_AUTH:
        made.authentication_method = draw(texts)
    return made if made != Properties() else None


@st.composite
def connects(draw: Draw, version: int) -> Connect:
    clean_start = draw(st.booleans())
    client_id = draw(texts)
    if version == MQTT_3_1 or (version == MQTT_3_1_1 and not clean_start):
        client_id = client_id or "c"
    username = draw(st.none() | texts)
    password = draw(st.none() | payloads)
    if username is None and version != MQTT_5:
        password = None
    will = None
    if draw(st.booleans()):
        will = Will(
            draw(topics),
            draw(payloads),
            draw(st.integers(0, 2)),
            draw(st.booleans()),
            draw(properties(IN_WILL, version)),
        )
    keep_alive = draw(st.integers(0, 65_535))
    own = draw(properties(IN_CONNECT, version))
    return Connect(client_id, version, clean_start, keep_alive, username, password, will, own)


@st.composite
def connacks(draw: Draw, version: int) -> Connack:
    allowed = codes.CONNACK_REASON_CODES if version == MQTT_5 else codes.V3_CONNACK_REASON_CODES
    reason_code = draw(st.sampled_from(sorted(allowed)))
    session_present = reason_code == 0 and version != MQTT_3_1 and draw(st.booleans())
    return Connack(session_present, reason_code, draw(properties(IN_CONNACK, version)))


@st.composite
def publishes(draw: Draw, version: int, place: int) -> Publish:
    qos = draw(st.integers(0, 2))
    own = draw(properties(place, version))
    topic = draw(topics)
    if own is not None and own.topic_alias is not None and draw(st.booleans()):
        topic = ""
    dup = qos > 0 and draw(st.booleans())
    packet_id = draw(packet_ids) if qos else 0
    return Publish(topic, draw(payloads), qos, draw(st.booleans()), dup, packet_id, own)


@st.composite
def acknowledgements(draw: Draw, version: int) -> Acknowledgement:
    kind, allowed = draw(
        st.sampled_from(
            [
                (Puback, codes.PUBACK_REASON_CODES),
                (Pubrec, codes.PUBREC_REASON_CODES),
                (Pubrel, codes.PUBREL_REASON_CODES),
                (Pubcomp, codes.PUBCOMP_REASON_CODES),
            ]
        )
    )
    reason_code = draw(st.sampled_from(sorted(allowed))) if version == MQTT_5 else 0
    return kind(draw(packet_ids), reason_code, draw(properties(IN_ACKNOWLEDGEMENT, version)))


@st.composite
def subscribes(draw: Draw, version: int) -> Subscribe:
    requests = []
    for filter in draw(st.lists(filters, min_size=1, max_size=4)):
        request = SubscriptionRequest(filter, draw(st.integers(0, 2)))
        if version == MQTT_5:
            request.no_local = draw(st.booleans())
            request.retain_as_published = draw(st.booleans())
            request.retain_handling = draw(st.integers(0, 2))
        requests.append(request)
    return Subscribe(draw(packet_ids), requests, draw(properties(IN_SUBSCRIBE, version)))


@st.composite
def subacks(draw: Draw, version: int) -> Suback:
    allowed = codes.SUBACK_REASON_CODES if version == MQTT_5 else codes.V3_SUBACK_REASON_CODES
    answers = draw(st.lists(st.sampled_from(sorted(allowed)), min_size=1, max_size=4))
    return Suback(draw(packet_ids), answers, draw(properties(IN_ACKNOWLEDGEMENT, version)))


@st.composite
def unsubscribes(draw: Draw, version: int) -> Unsubscribe:
    wanted = draw(st.lists(filters, min_size=1, max_size=4))
    return Unsubscribe(draw(packet_ids), wanted, draw(properties(IN_UNSUBSCRIBE, version)))


@st.composite
def unsubacks(draw: Draw, version: int) -> Unsuback:
    answers: list[int] = []
    if version == MQTT_5:
        answers = draw(st.lists(st.sampled_from(sorted(codes.UNSUBACK_REASON_CODES)), max_size=4))
    return Unsuback(draw(packet_ids), answers, draw(properties(IN_ACKNOWLEDGEMENT, version)))


@st.composite
def disconnects(draw: Draw, version: int, place: int) -> Disconnect:
    if version != MQTT_5:
        return Disconnect()
    allowed = codes.SERVER_DISCONNECT_REASON_CODES
    if place == IN_CLIENT_DISCONNECT:
        allowed = codes.CLIENT_DISCONNECT_REASON_CODES
    return Disconnect(draw(st.sampled_from(sorted(allowed))), draw(properties(place, version)))


@st.composite
def auths(draw: Draw, allowed: frozenset[int]) -> Auth:
    return Auth(draw(st.sampled_from(sorted(allowed))), draw(properties(IN_AUTH, MQTT_5)))


def client_packets(version: int) -> st.SearchStrategy[Packet]:
    """All that a client may send after its CONNECT."""
    kinds: list[st.SearchStrategy[Packet]] = [
        publishes(version, IN_CLIENT_PUBLISH),
        acknowledgements(version),
        subscribes(version),
        unsubscribes(version),
        st.builds(Pingreq),
        disconnects(version, IN_CLIENT_DISCONNECT),
    ]
    if version == MQTT_5:
        kinds.append(auths(codes.CLIENT_AUTH_REASON_CODES))
    return st.one_of(kinds)


def server_packets(version: int) -> st.SearchStrategy[Packet]:
    """All that a server may send."""
    kinds: list[st.SearchStrategy[Packet]] = [
        connacks(version),
        publishes(version, IN_SERVER_PUBLISH),
        acknowledgements(version),
        subacks(version),
        unsubacks(version),
        st.builds(Pingresp),
    ]
    if version == MQTT_5:
        kinds.append(disconnects(version, IN_SERVER_DISCONNECT))
        kinds.append(auths(codes.SERVER_AUTH_REASON_CODES))
    return st.one_of(kinds)
