"""FastStream and asyncpg, one transaction per message."""

import logging
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import monotonic

import asyncpg
import orjson
from faststream import AckPolicy, FastStream
from faststream.exceptions import NackMessage, RejectMessage
from faststream.rabbit import Channel, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue
from rules import (
    CATALOGUE_SECONDS,
    COMMANDS_QUEUE,
    RESULTS_EXCHANGE,
    SQL,
    UNPROCESSABLE,
    Command,
    Conflict,
    Outcome,
    Refused,
    decide,
    lookup,
    membership_id,
    normalised,
    states,
)

CONCURRENCY = int(os.environ.get("PEER_CONCURRENCY", "16"))
PREFETCH = int(os.environ.get("PEER_PREFETCH", str(2 * CONCURRENCY)))
QUEUE = os.environ.get("PEER_QUEUE", COMMANDS_QUEUE)

logging.basicConfig(level=logging.WARNING)
log = logging.getLogger("peer")
# A logger of our own, because FastStream's writes two lines per message; and no injection of
# parameters, which takes each message through a pool of threads.
broker = RabbitBroker(
    os.environ["AMQP_URL"],
    apply_types=False,
    default_channel=Channel(prefetch_count=PREFETCH, publisher_confirms=True),
    logger=log,
)
results = RabbitExchange(RESULTS_EXCHANGE, declare=False)


CONFLICTS = (Conflict, asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError)
"""A parallel handler was faster: the message comes again."""


async def keep_session(_connection: asyncpg.Connection) -> None:
    """Spare the round trip that resets a session: the handlers change nothing about it."""


@asynccontextmanager
async def lifespan():
    """Hold the pool for as long as the application runs."""
    global pool
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=CONCURRENCY, max_size=CONCURRENCY, reset=keep_session
    ) as pool:
        yield


pool: asyncpg.Pool
app = FastStream(broker, lifespan=lifespan)
orgs: dict[str, dict] = {}
orgs_read_at = float("-inf")


async def decode(message: RabbitMessage) -> Command:
    """Read a command; what can't be read is rejected."""
    raw = message.raw_message
    try:
        return Command.parse(raw.routing_key, raw.message_id, raw.correlation_id, message.body)
    except UNPROCESSABLE as error:
        log.warning("refused: %r", error)
        raise RejectMessage from error


@broker.subscriber(
    RabbitQueue(QUEUE, declare=False),
    ack_policy=AckPolicy.NACK_ON_ERROR,
    decoder=decode,
    no_reply=True,
)
async def handle(command: Command) -> None:
    """Commit, publish the result and wait for its confirm; the ack follows, or a requeue."""
    try:
        async with pool.acquire() as connection, connection.transaction():
            stored = await apply(connection, command)
    except UNPROCESSABLE as error:
        log.warning("refused: %r", error)
        raise RejectMessage from error
    except CONFLICTS as error:
        raise NackMessage from error
    await broker.publish(
        stored["result"],
        exchange=results,
        routing_key=f"{command.org}.{stored['operation']}.{stored['verdict']}",
        persist=True,
        mandatory=False,
        message_id=f"{command.id}.result",
        correlation_id=command.correlation_id or command.id,
        message_type=f"partner-program.{stored['operation']}.result.v1",
        content_type="application/json",
        headers={
            "command-id": command.id,
            "items-total": stored["items_total"],
            "items-succeeded": stored["items_succeeded"],
            "items-failed": stored["items_failed"],
        },
    )


async def apply(connection: asyncpg.Connection, command: Command):
    """Do all of a command's work within the transaction; return what the inbox keeps of it."""
    org = (await catalogue(connection))[command.org]
    known = await connection.fetchrow(SQL["inbox"], org["id"], command.id)
    if known is not None:
        if known["body_hash"] != command.body_hash:
            raise Refused(f"the message id {command.id} was used for another body")
        return known
    now, outcome, effects = datetime.now(UTC), Outcome(command), 0
    for given, items in command.entries:
        wanted = lookup(given, org["countryCode"])
        customer = None
        if wanted is not None:
            statement, value = wanted
            customer = await connection.fetchrow(SQL[statement], org["id"], value)
        outcome.customer(given, customer)
        for item in items:
            code = 2001
            if customer is not None:
                code = await apply_item(
                    connection, org, command, customer["id"], item, effects, now
                )
                effects += code == 200
            outcome.item(item, code)
    stored = outcome.stored()
    await connection.execute(
        SQL["log"],
        org["id"],
        command.id,
        command.body_hash,
        *stored.values(),
        command.correlation_id,
        now,
    )
    return stored


async def apply_item(
    connection: asyncpg.Connection,
    org: dict,
    command: Command,
    customer_id: int,
    item: dict,
    position: int,
    now: datetime,
) -> int:
    """Apply an item under the lock of its enrolment; return its status."""
    program = org["programs"].get(normalised(item["partnerProgramName"]))
    if program is None:
        return 2006
    key = (org["id"], customer_id, program["id"])
    before = await connection.fetchrow(SQL["enrolment"], *key)
    taken = False
    if command.operation == "link" and (membership := membership_id(item)):
        taken = await connection.fetchval(SQL["holder"], org["id"], program["id"], membership)
    code, kind, after = decide(command.operation, program, item, before, taken, now)
    if after is None:
        return code
    if await connection.fetchval(SQL["save"], *key, *after.values()) is None:
        raise Conflict(command.id)
    await connection.execute(
        SQL["history"],
        *key,
        command.id,
        position,
        kind,
        *states(before),
        *states(after),
        item.get("reason") if kind == "DELINK" else None,
        now,
        after["version"],
    )
    return code


async def catalogue(connection: asyncpg.Connection) -> dict[str, dict]:
    """Return the orgs by code, at most ten seconds old."""
    global orgs, orgs_read_at
    if monotonic() - orgs_read_at > CATALOGUE_SECONDS:
        orgs = orjson.loads(await connection.fetchval(SQL["catalogue"]))
        orgs_read_at = monotonic()
    return orgs
