// node listeners.js JSON
// JSON: {"urls": [...], "ca": FILE, "topic": ..., "sizes": [...]}, and "cert" and "key" of the client. For each URL, MQTT 3.1.1 and 5.0 and each QoS:
// subscribes, publishes payloads of these sizes, and prints one line with the sizes that came back.
const fs = require("fs");
const mqtt = require("mqtt");

const { urls, ca, cert, key, topic, sizes } = JSON.parse(process.argv[2]);

async function roundTrip(client, qos) {
  const received = [];
  const all = new Promise((done) => {
    client.on("message", (_, payload) => {
      received.push(payload.length);
      if (received.length === sizes.length) done();
    });
  });
  for (const size of sizes) await client.publishAsync(topic, Buffer.alloc(size), { qos });
  await all;
  client.removeAllListeners("message");
  return received;
}

(async () => {
  for (const url of urls) {
    for (const protocolVersion of [4, 5]) {
      const own = cert ? { cert: fs.readFileSync(cert), key: fs.readFileSync(key) } : {};
      const options = { protocolVersion, ca: fs.readFileSync(ca), ...own, reconnectPeriod: 0 };
      const client = await mqtt.connectAsync(url, options);
      await client.subscribeAsync(topic, { qos: 2 });
      for (const qos of [0, 1, 2]) {
        console.log(`${url} ${protocolVersion} ${qos} ${(await roundTrip(client, qos)).join(" ")}`);
      }
      await client.endAsync();
    }
  }
})();
