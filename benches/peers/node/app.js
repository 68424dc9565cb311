// amqplib and pg, one transaction per message: connections, deliveries, results.
"use strict";

const cluster = require("node:cluster");
const amqplib = require("amqplib");
const pg = require("pg");
const { apply, parse, CONFLICT, Refused } = require("./commands");

const concurrency = Number(process.env.PEER_CONCURRENCY ?? 48);
const prefetch = Number(process.env.PEER_PREFETCH ?? 2 * concurrency);
const processes = Number(process.env.PEER_PROCESSES ?? 1);
const queue = process.env.PEER_QUEUE ?? "partner-program.commands.main";
const RESULTS = "partner-program.results";

async function inTransaction(pool, work) {
  const client = await pool.connect();
  let broken;
  try {
    await client.query("begin");
    const result = await work(client);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch((lost) => { broken = lost; });
    throw error;
  } finally {
    client.release(broken);
  }
}

// Resolves when the broker has confirmed the result.
function publish(channel, command, stored) {
  const operation = stored.operation;
  return new Promise((resolve, reject) => {
    channel.publish(RESULTS, `${command.org}.${operation}.${stored.verdict}`, stored.result, {
      persistent: true,
      messageId: `${command.id}.result`,
      correlationId: command.correlationId ?? command.id,
      type: `partner-program.${operation}.result.v1`,
      contentType: "application/json",
      headers: {
        "command-id": command.id,
        "items-total": stored.items_total,
        "items-succeeded": stored.items_succeeded,
        "items-failed": stored.items_failed,
      },
    }, (error) => (error ? reject(error) : resolve()));
  });
}

async function handle(pool, consuming, publishing, message) {
  try {
    const command = parse(message);
    const stored = await inTransaction(pool, (client) => apply(client, command));
    await publish(publishing, command, stored);
    consuming.ack(message);
  } catch (error) {
    if (error instanceof Refused) {
      console.error(`refused: ${error.message}`);
      consuming.reject(message, false);
      return;
    }
    if (!CONFLICT.has(error.code)) console.error(error);
    consuming.nack(message, false, true);
  }
}

async function main() {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: concurrency });
  // A connection each: a blocked publisher must not stop the acks.
  const connections = await Promise.all([1, 2].map(() => amqplib.connect(process.env.AMQP_URL)));
  const consuming = await connections[0].createChannel();
  const publishing = await connections[1].createConfirmChannel();
  for (const emitter of [...connections, consuming, publishing]) {
    emitter.on("error", (error) => { console.error(error); process.exit(1); });
  }
  await consuming.prefetch(prefetch);
  const underway = new Set();
  const { consumerTag } = await consuming.consume(queue, (message) => {
    if (message === null) {
      console.error("the broker ended the subscription");
      process.exit(1);
    }
    const handling = handle(pool, consuming, publishing, message);
    underway.add(handling);
    handling.finally(() => underway.delete(handling));
  });
  process.once("SIGTERM", async () => {
    await consuming.cancel(consumerTag);
    await Promise.all(underway);
    await consuming.close();
    await Promise.all(connections.map((connection) => connection.close()));
    await pool.end();
    if (cluster.isWorker) cluster.worker.disconnect();
  });
}

if (processes > 1 && cluster.isPrimary) {
  for (let forked = 0; forked < processes; forked += 1) cluster.fork();
  process.once("SIGTERM", () => {
    for (const worker of Object.values(cluster.workers)) worker.process.kill("SIGTERM");
  });
} else {
  main().catch((error) => { console.error(error); process.exit(1); });
}
