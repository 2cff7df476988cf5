// node publish.js PORT VERSION TOPIC QOS JSON
// JSON: {"payloads": [...], "options": {...}}. Publishes all at once, prints "done" when all are acknowledged.
const mqtt = require("mqtt");

const [port, version, topic, qos, text] = process.argv.slice(2);
const { payloads, options } = JSON.parse(text);
const properties = options && options.properties;
if (properties && properties.correlationData) {
  properties.correlationData = Buffer.from(properties.correlationData, "hex");
}
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
  protocolVersion: Number(version),
  protocolId: version === "3" ? "MQIsdp" : "MQTT",
  reconnectPeriod: 200,
});

client.on("connect", async () => {
  const sent = payloads.map((payload) =>
    client.publishAsync(topic, payload, { qos: Number(qos), ...options }),
  );
  await Promise.all(sent);
  console.log("done");
  await client.endAsync();
});
