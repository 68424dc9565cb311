"""Celery and psycopg 3, one transaction per message.

The lane's messages are no Celery messages, so the consumer turns each into a call of the one task,
which the pool of processes runs.
"""

import logging
import os
from datetime import UTC, datetime
from time import monotonic

import orjson
import psycopg
from celery import Celery
from celery.exceptions import Reject
from celery.signals import worker_process_init
from celery.worker.consumer import Consumer
from kombu import Exchange, Queue
from psycopg.rows import dict_row
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

PROCESSES = int(os.environ.get("PEER_PROCESSES", "12"))
PREFETCH = int(os.environ.get("PEER_PREFETCH", str(4 * PROCESSES)))
QUEUE = os.environ.get("PEER_QUEUE", COMMANDS_QUEUE)

CONFLICTS = (Conflict, psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)
"""A parallel handler was faster: the message comes again."""

log = logging.getLogger("peer")


class CommandConsumer(Consumer):
    """Takes commands for calls of the task."""

    class Blueprint(Consumer.Blueprint):
        """Without the exchanges and queues for delayed tasks: there are none."""

        default_steps = [step for step in Consumer.Blueprint.default_steps if "delayed" not in step]

    def create_task_handler(self, *args, **kwargs):
        """Wrap Celery's handler: it gets each message as a publisher of tasks would send it."""
        on_task_received = super().create_task_handler(*args, **kwargs)

        def on_command(message) -> None:
            properties = message.properties
            id_, correlation_id = properties.get("message_id"), properties.get("correlation_id")
            routing_key = message.delivery_info["routing_key"]
            body = bytes(message.body).decode(errors="surrogateescape")
            message.content_type, message.content_encoding = "application/json", "utf-8"
            message.headers = {"task": handle.name, "id": id_, "lang": "py"}
            message.body = orjson.dumps([[routing_key, id_, correlation_id, body], {}, {}])
            on_task_received(message)

        return on_command


app = Celery("peer", broker=os.environ["AMQP_URL"])
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
    task_acks_on_failure_or_timeout=False,
    task_ignore_result=True,
    task_queues=[Queue(QUEUE, no_declare=True, queue_arguments={"x-queue-type": "quorum"})],
    task_reject_on_worker_lost=True,
    worker_concurrency=PROCESSES,
    worker_consumer=CommandConsumer,
    worker_prefetch_multiplier=PREFETCH // PROCESSES,
)
results = Exchange(RESULTS_EXCHANGE, type="topic", no_declare=True)
orgs: dict[str, dict] = {}
orgs_read_at = float("-inf")


@worker_process_init.connect
def connect(**_: object) -> None:
    """Give each process of the pool its connections."""
    global database, producer
    database = psycopg.connect(
        os.environ["DATABASE_URL"], cursor_factory=psycopg.RawCursor, row_factory=dict_row
    )
    database.prepare_threshold = 0
    producer = app.connection_for_write().Producer(exchange=results, auto_declare=False)


database: psycopg.Connection
producer = None


@app.task
def handle(routing_key: str, id_: str | None, correlation_id: str | None, body: str) -> None:
    """Commit, publish the result and wait for its confirm; Celery acks then."""
    try:
        command = Command.parse(routing_key, id_, correlation_id, body.encode())
        with database.transaction():
            stored = apply(command)
    except UNPROCESSABLE as error:
        raise Reject(error, requeue=False) from error
    except CONFLICTS as error:
        raise Reject(error, requeue=True) from error
    except psycopg.OperationalError as error:
        log.exception("the database is away")
        connect()
        raise Reject(error, requeue=True) from error
    producer.publish(
        stored["result"],
        routing_key=f"{command.org}.{stored['operation']}.{stored['verdict']}",
        delivery_mode="persistent",
        message_id=f"{command.id}.result",
        correlation_id=command.correlation_id or command.id,
        type=f"partner-program.{stored['operation']}.result.v1",
        content_type="application/json",
        content_encoding="utf-8",
        headers={
            "command-id": command.id,
            "items-total": stored["items_total"],
            "items-succeeded": stored["items_succeeded"],
            "items-failed": stored["items_failed"],
        },
    )


def one(statement: str, *values: object) -> dict | None:
    """Return the only row of a statement."""
    return database.execute(SQL[statement], values, prepare=True).fetchone()


def apply(command: Command) -> dict:
    """Do all of a command's work within the transaction; return what the inbox keeps of it."""
    org = catalogue()[command.org]
    known = one("inbox", org["id"], command.id)
    if known is not None:
        if known["body_hash"] != command.body_hash:
            raise Refused(f"the message id {command.id} was used for another body")
        return known
    now, outcome, effects = datetime.now(UTC), Outcome(command), 0
    for given, items in command.entries:
        wanted = lookup(given, org["countryCode"])
        customer = one(wanted[0], org["id"], wanted[1]) if wanted else None
        outcome.customer(given, customer)
        for item in items:
            code = 2001
            if customer is not None:
                code = apply_item(org, command, customer["id"], item, effects, now)
                effects += code == 200
            outcome.item(item, code)
    stored = outcome.stored()
    database.execute(
        SQL["log"],
        (
            org["id"],
            command.id,
            command.body_hash,
            *stored.values(),
            command.correlation_id,
            now,
        ),
        prepare=True,
    )
    return stored


def apply_item(
    org: dict, command: Command, customer_id: int, item: dict, position: int, now: datetime
) -> int:
    """Apply an item under the lock of its enrolment; return its status."""
    program = org["programs"].get(normalised(item["partnerProgramName"]))
    if program is None:
        return 2006
    key = (org["id"], customer_id, program["id"])
    before = one("enrolment", *key)
    taken = False
    if command.operation == "link" and (membership := membership_id(item)):
        taken = one("holder", org["id"], program["id"], membership)["taken"]
    code, kind, after = decide(command.operation, program, item, before, taken, now)
    if after is None:
        return code
    if one("save", *key, *after.values()) is None:
        raise Conflict(command.id)
    database.execute(
        SQL["history"],
        (
            *key,
            command.id,
            position,
            kind,
            *states(before),
            *states(after),
            item.get("reason") if kind == "DELINK" else None,
            now,
            after["version"],
        ),
        prepare=True,
    )
    return code


def catalogue() -> dict[str, dict]:
    """Return the orgs by code, at most ten seconds old."""
    global orgs, orgs_read_at
    if monotonic() - orgs_read_at > CATALOGUE_SECONDS:
        orgs = orjson.loads(one("catalogue")["catalogue"])
        orgs_read_at = monotonic()
    return orgs
