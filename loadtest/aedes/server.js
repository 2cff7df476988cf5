// aedes on Redis, as its documentation puts it together: node server.js PORT REDIS_SOCKET
// No limit of its own drops messages; nothing else differs from its defaults.
const { createServer } = require('node:net')
const { Aedes } = require('aedes')
const persistence = require('aedes-persistence-redis')
const emitter = require('mqemitter-redis')

const NO_LIMIT = 0x7fffffff

async function main (port, path) {
  const broker = await Aedes.createBroker({
    mq: emitter({ path }),
    persistence: persistence({ path, maxSessionDelivery: NO_LIMIT }),
    queueLimit: NO_LIMIT,
    maxInflightInbound: 0
  })
  const server = createServer({ noDelay: true }, broker.handle)
  server.listen(Number(port), '127.0.0.1')
  process.once('SIGTERM', () => process.exit(0))
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message)
  process.exit(1)
})
