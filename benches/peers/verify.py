"""Hold peers against our worker: the same stream, the same rows and results; and how fast.

verify.py WORKER COMMANDS PEER[:KEY=VALUE,...]...

Wants DATABASE_URL and AMQP_URL of servers that hold nothing else. Every candidate gets a database
of its own; the worker comes first and says what is right. KEY=VALUE goes to the candidate's
environment; the candidate `worker` is the worker again, for other settings. With PEER_QUEUE=NAME
the peer gets a queue of that name which, other than a lane, serves several consumers at once.
"""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import asyncpg

PEERS = Path(__file__).parent
QUEUE = "partner-program.commands.main"
RESULTS = "peers.results"
TEMPLATE = "peers_template"
SECONDS_MAX = 300

CATALOGUE = """
[[org]]
code = "acme"
name = "Acme"
country_code = "91"

[[org.program]]
name = "Tiered"
kind = "EXTERNAL"
tiers = ["Bronze", "Silver", "Gold"]

[[org.program]]
name = "Plain"
kind = "EXTERNAL"
"""

# Half of the customers, but for a few, stand in both programs. Customer 1 only holds a membership
# id that others ask for.
ENROLMENTS = """
insert into enrolment (org_id, customer_id, program_id, linked, membership_id, tier_number,
    tier_expires_at, linked_since, version)
select p.org_id, c.id, p.id, true, 'old-' || c.id, case p.name when 'Tiered' then 2 end,
    case p.name when 'Tiered' then timestamptz '2099-01-01T00:00:00.123456Z' end, now(), 1
from customer c join partner_program p on p.org_id = c.org_id
where c.id = 1 or c.id % 2 = 0 and c.id % 32 <> 0
"""

ROWS = {
    "enrolment": "select customer_id, program_id, linked, membership_id, tier_number, "
    "tier_expires_at, version from enrolment order by 1, 2",
    "history": "select customer_id, program_id, command_id, position, kind, old_linked, "
    "old_membership_id, old_tier_number, old_tier_expires_at, new_linked, new_membership_id, "
    "new_tier_number, new_tier_expires_at, reason, version from enrolment_history order by 3, 4",
    "inbox": "select command_id, body_hash, operation, verdict, items_total, items_succeeded, "
    "items_failed, convert_from(result, 'UTF8'), correlation_id from command_log order by 1",
}


def customer(number: int) -> dict:
    """Name a customer by one of the identifiers, in turns."""
    return (
        {"mobile": str(9000000000 + number)},
        {"email": f"C{number}@Example.com"},
        {"externalId": f"x-{number}", "email": ""},
        {"id": number},
    )[number // 2 % 4]


def command(number: int) -> tuple[str, dict]:
    """Return the operation and body for a customer of its own."""
    who, turn = customer(number), number // 2
    if turn % 40 == 7:
        who = {"mobile": "5550000000", "externalId": "nobody"}
    program = ("Tiered", " plain ")[turn % 2]
    if turn % 40 == 9:
        program = "Nowhere"
    expiry = "2098-12-29T23:59:59+05:30"
    if number % 2 or turn % 20 == 3:
        reference = {"partnerMembershipId": f"new-{number}"}
        if turn % 40 == 11:
            reference["partnerMembershipId"] = "old-1"
        if turn % 2 == 0:
            reference |= {"partnerTierName": "silver", "partnerTierExpiryDate": expiry}
            if turn % 40 == 12:
                reference["partnerTierName"] = "Platinum"
        items = [{"partnerProgramName": program, "customerPartnerReference": reference}]
        entry = {"customer": who, "linkToPartnerPrograms": items}
        return "link", {"linkCustomers": [entry]}
    if turn % 3 == 0:
        items = [{"partnerProgramName": name, "reason": "moved"} for name in (program, "Tiered ")]
        entry = {"customer": who, "deLinkFromPartnerPrograms": items[: 1 + turn % 2]}
        return "delink", {"deLinkCustomers": [entry]}
    kind = ("UPGRADE", "RENEW", "DOWNGRADE")[turn // 6 % 3]
    tier = {"UPGRADE": "Gold", "RENEW": "Silver", "DOWNGRADE": "Bronze"}[kind]
    details = {"updatedTierName": "Gold" if turn % 8 == 0 else tier}
    if turn % 7:
        details["updatedTierExpiryDate"] = expiry
    items = [{"partnerProgramName": program, "updateType": kind, "updateDetails": details}]
    entry = {"customer": who, "partnerProgramUpdates": items}
    return "update", {"customersPartnerUpdates": [entry]}


def load(count: int) -> list[tuple[str, str, bytes]]:
    """Return routing keys, ids and bodies; one in fifty comes twice."""
    messages = []
    for number in range(2, count + 2):
        operation, body = command(number)
        message = (f"acme.{operation}", f"command-{number}", json.dumps(body).encode())
        messages += [message] * (2 if number % 50 == 0 else 1)
    return messages


async def make_template(worker: str, count: int, root: asyncpg.Connection) -> None:
    """Make the database that every candidate starts from, and the exchanges and queues."""
    await root.execute(f"drop database if exists {TEMPLATE}")
    await root.execute(f"create database {TEMPLATE}")
    await find_tables(root, TEMPLATE)
    environment = os.environ | {"DATABASE_URL": database_url(TEMPLATE)}
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    catalogue, customers = (folder / f"peers-{os.getpid()}.{kind}" for kind in ("toml", "csv"))
    catalogue.write_text(CATALOGUE)
    rows = (
        f"acme,{n},{919000000000 + n},c{n}@example.com,x-{n},active\n" for n in range(1, count + 2)
    )
    customers.write_text("org,id,mobile,email,external_id,state\n" + "".join(rows))
    try:
        for arguments in (
            ["migrate"],
            ["topology", "apply"],
            ["import", "catalogue", str(catalogue)],
            ["import", "customers", str(customers)],
        ):
            process = await asyncio.create_subprocess_exec(
                worker, *arguments, env=environment, stdout=asyncio.subprocess.DEVNULL
            )
            if await process.wait():
                sys.exit(f"{arguments} failed")
    finally:
        catalogue.unlink()
        customers.unlink()
    connection = await asyncpg.connect(database_url(TEMPLATE))
    await connection.execute(ENROLMENTS)
    await connection.execute("vacuum analyze")
    await connection.close()


async def find_tables(root: asyncpg.Connection, database: str) -> None:
    """Let each session find the worker's tables without naming their schema."""
    await root.execute(f"alter database {database} set search_path = partner_program, pg_temp")


def database_url(name: str) -> str:
    """Return the server's URL with another database."""
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


async def drain(argv: list[str], extra: dict, messages: list, channel, root) -> tuple[dict, float]:
    """Let a candidate work off the messages; return its rows and its commands a second."""
    database = "peers_candidate"
    await root.execute(f"drop database if exists {database} with (force)")
    await root.execute(f"create database {database} template {TEMPLATE}")
    await find_tables(root, database)
    results = await channel.get_queue(RESULTS)
    await results.purge()
    lane = await channel.get_queue(QUEUE)
    await lane.purge()
    exchange = await channel.get_exchange("partner-program.commands")
    if name := extra.get("PEER_QUEUE"):
        # While it is bound the lane gets nothing: it takes what nobody else does.
        queue = await channel.declare_queue(
            name, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 100}
        )
        await queue.bind(exchange, "#")
    for start in range(0, len(messages), 500):
        await asyncio.gather(
            *(
                exchange.publish(
                    aio_pika.Message(
                        body, message_id=id_, correlation_id=f"c-{id_}", delivery_mode=2
                    ),
                    key,
                )
                for key, id_, body in messages[start : start + 500]
            )
        )
    connection = await asyncpg.connect(database_url(database))
    environment = os.environ | extra | {"DATABASE_URL": database_url(database)}
    process = await asyncio.create_subprocess_exec(*argv, env=environment)
    wanted = len({id_ for _, id_, _ in messages})
    warm_at, count, end = None, 0, time.monotonic() + SECONDS_MAX
    while count < wanted:
        if process.returncode is not None or time.monotonic() > end:
            print(f"{argv}: {count} of {wanted}, exit {process.returncode}", flush=True)
            break
        await asyncio.sleep(0.02)
        # Cheap, but a rollback counts, too: so the rows themselves are counted at the end.
        count = await connection.fetchval("select last_value from command_log_sequence_seq")
        if count >= wanted:
            count = await connection.fetchval("select count(*) from command_log")
        if warm_at is None and count >= wanted / 10:
            warm_at, warm = time.monotonic(), count
    rate = (wanted - warm) / (time.monotonic() - warm_at) if warm_at else 0
    for _ in range(300):
        state = await channel.declare_queue(RESULTS, passive=True)
        if state.declaration_result.message_count >= len(messages):
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(process.wait(), 60)
    rows = {name: await connection.fetch(query) for name, query in ROWS.items()}
    await connection.close()
    worked = await channel.declare_queue(name or QUEUE, passive=True)
    left = worked.declaration_result.message_count
    if name:
        await worked.delete(if_unused=False, if_empty=False)
    published = []
    while message := await results.get(no_ack=True, fail=False):
        published.append(
            (message.message_id, message.routing_key, message.correlation_id, message.body.decode())
        )
    rows["results"] = sorted(published)
    rows["left in the queue"] = [left]
    rows["exit code"] = [code]
    return rows, rate


async def main(worker: str, count: int, candidates: list[str]) -> None:
    """Compare each candidate with the worker."""
    root = await asyncpg.connect(os.environ["DATABASE_URL"])
    await make_template(worker, count, root)
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    channel = await connection.channel()
    queue = await channel.declare_queue(RESULTS, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.bind("partner-program.results", "#")
    messages = load(count)
    right, rate = await drain([worker, "run"], {}, messages, channel, root)
    print(f"worker: {rate:.0f} commands/s, {len(right['inbox'])} commands", flush=True)
    codes = re.findall(r'"code":(\d+)', " ".join(row[7] for row in right["inbox"]))
    kinds = [row["kind"] for row in right["history"]]
    print(f"  {dict(sorted(Counter(codes + kinds).items()))}", flush=True)
    for candidate in candidates:
        name, _, settings = candidate.partition(":")
        extra = dict(pair.split("=") for pair in settings.split(",") if pair)
        argv = [worker, "run"] if name == "worker" else [str(PEERS / "run.sh"), name]
        rows, rate = await drain(argv, extra, messages, channel, root)
        wrong = [kind for kind in right if rows[kind] != right[kind]]
        print(f"{candidate}: {rate:.0f} commands/s, {wrong or 'as the worker'}", flush=True)
        for kind in wrong:
            pairs = zip(right[kind], rows[kind], strict=False)
            differing = next(((a, b) for a, b in pairs if a != b), None)
            print(f"  {kind}: {len(right[kind])}, {len(rows[kind])}: {differing}", flush=True)
    await queue.delete(if_unused=False, if_empty=False)
    await connection.close()
    await root.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
