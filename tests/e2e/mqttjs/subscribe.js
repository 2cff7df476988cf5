// node subscribe.js PORT VERSION CLEAN CLIENT_ID TOPIC QOS [JSON: more options of connect]
// Prints "ready PRESENT" once subscribed, then one JSON line for each message, until it is killed.
const mqtt = require("mqtt");

const [port, version, clean, clientId, topic, qos, more] = process.argv.slice(2);
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
  protocolVersion: Number(version),
  protocolId: version === "3" ? "MQIsdp" : "MQTT",
  clean: clean === "true",
  clientId,
  reconnectPeriod: 200,
  ...(version === "5" && clean === "false" ? { properties: { sessionExpiryInterval: 600 } } : {}),
  ...JSON.parse(more || "{}"),
});

client.on("connect", (connack) => {
  client.subscribe(topic, { qos: Number(qos) }, (error) => {
    if (error) throw error;
    console.log(`ready ${connack.sessionPresent}`);
  });
});
client.on("message", (name, payload, packet) => {
  const properties = packet.properties || {};
  console.log(
    JSON.stringify({
      topic: name,
      payload: payload.toString(),
      qos: packet.qos,
      retain: packet.retain,
      contentType: properties.contentType,
      responseTopic: properties.responseTopic,
      correlationData: properties.correlationData && properties.correlationData.toString("hex"),
      userProperties: properties.userProperties,
      subscriptionIdentifier: properties.subscriptionIdentifier,
    }),
  );
});
client.on("error", (error) => {
  console.log(`error ${error.code || ""} ${error.message}`);
});
client.on("disconnect", (packet) => {
  console.log(`disconnect ${packet.reasonCode}`);
});
