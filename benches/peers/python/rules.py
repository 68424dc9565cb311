"""What the two Python peers share: reading a command, deciding an item, writing the result."""

import hashlib
import pathlib
from dataclasses import dataclass, field
from datetime import datetime

import orjson

SQL = {
    path.stem: path.read_text()
    for path in (pathlib.Path(__file__).parent.parent / "sql").glob("*.sql")
}

COMMANDS_QUEUE = "partner-program.commands.main"
RESULTS_EXCHANGE = "partner-program.results"
CATALOGUE_SECONDS = 10
"""How long a copy of the catalogue is used before it is read again."""

KEYS = {
    "link": ("linkCustomers", "linkToPartnerPrograms", "partnerLinkStatus"),
    "update": ("customersPartnerUpdates", "partnerProgramUpdates", "updateStatus"),
    "delink": ("deLinkCustomers", "deLinkFromPartnerPrograms", "partnerDeLinkStatus"),
}
"""By operation: the root key, the key of the items, and the key of an item's status."""

MESSAGES = {
    1000: "Customer successfully retrieved",
    1012: "Customer not found",
    200: "Success",
    2001: "Not processed because the customer failed",
    2004: "Customer is not linked to the partner program",
    2005: "Customer is already linked to the partner program",
    2006: "Unknown partner program",
    2007: "Unknown or missing tier, or the program has no tiers",
    2101: "The tier or its expiry does not fit the update type",
    2103: "Partner membership id is already linked to another customer",
}
SUCCESSES = (200, 1000)


class Refused(ValueError):
    """The message can never be processed: a dead letter."""


UNPROCESSABLE = (LookupError, TypeError, ValueError)
"""What a message that can never be processed makes these functions raise."""


class Conflict(Exception):
    """A parallel handler was faster: roll back and let the message come again."""


@dataclass(slots=True)
class Command:
    """A command message."""

    org: str
    operation: str
    id: str
    correlation_id: str | None
    body_hash: bytes
    entries: list[tuple[dict, list[dict]]]
    """Customers as given, each with the items."""

    @classmethod
    def parse(
        cls, routing_key: str, message_id: str | None, correlation_id: str | None, body: bytes
    ) -> "Command":
        """Read a message."""
        if not message_id:
            raise Refused("no message id")
        org, operation, *_ = routing_key.split(".")
        root_key, list_key, _ = KEYS[operation]
        entries = [(entry["customer"], entry[list_key]) for entry in orjson.loads(body)[root_key]]
        body_hash = hashlib.sha256(body).digest()
        return cls(org, operation, message_id, correlation_id, body_hash, entries)


@dataclass(slots=True)
class Outcome:
    """The answer to a command, as it grows item by item."""

    command: Command
    entries: list[dict] = field(default_factory=list)
    total: int = 0
    succeeded: int = 0
    customers_failed: int = 0

    def customer(self, given: dict, row) -> None:
        """Add the customer of an entry: as registered, or as given if there is none."""
        if row is None:
            self.customers_failed += 1
            fields = {name: given.get(name) for name in ("mobile", "email", "externalId")}
            found = {name: str(value) for name, value in fields.items() if value is not None}
            found["status"] = status(1012)
        else:
            fields = {
                "id": row["id"],
                "mobile": row["mobile"],
                "email": row["email"],
                "externalId": row["external_id"],
            }
            found = {name: value for name, value in fields.items() if value is not None}
            found["status"] = status(1000)
        self.entries.append({"customer": found, KEYS[self.command.operation][1]: []})

    def item(self, item: dict, code: int) -> None:
        """Add an item's status to the last customer."""
        _, list_key, status_key = KEYS[self.command.operation]
        answer = {"partnerProgramName": item["partnerProgramName"]}
        if self.command.operation == "update":
            answer["updateType"] = item["updateType"]
        answer[status_key] = status(code)
        self.entries[-1][list_key].append(answer)
        self.total += 1
        self.succeeded += code in SUCCESSES

    def stored(self) -> dict:
        """Return what the inbox keeps of it, in the order of its columns."""
        if self.succeeded == self.total and not self.customers_failed:
            verdict = "succeeded"
        else:
            verdict = "partial" if self.succeeded else "failed"
        return {
            "operation": self.command.operation,
            "verdict": verdict,
            "items_total": self.total,
            "items_succeeded": self.succeeded,
            "items_failed": self.total - self.succeeded,
            "result": orjson.dumps({KEYS[self.command.operation][0]: self.entries, "warnings": []}),
        }


def status(code: int) -> dict:
    """Write a status as results have it."""
    return {"status": code in SUCCESSES, "message": MESSAGES[code], "code": code}


def normalised(name: str | None) -> str:
    """Names of programs and tiers are compared like this."""
    return (name or "").strip().lower()


def lookup(given: dict, country_code: str) -> tuple[str, object] | None:
    """Say which statement finds the customer, and with what. The highest identifier decides."""
    if given.get("id") is not None:
        return "customer_by_id", given["id"]
    if mobile := given.get("mobile"):
        digits = "".join(character for character in str(mobile) if character.isdigit())
        return "customer_by_mobile", [digits, country_code + digits]
    if email := given.get("email"):
        return "customer_by_email", email
    if external_id := given.get("externalId"):
        return "customer_by_external_id", str(external_id)
    return None


def membership_id(item: dict) -> str | None:
    """Return the membership id that a link asks for."""
    return (item.get("customerPartnerReference") or {}).get("partnerMembershipId") or None


def states(row) -> tuple:
    """Return what the history keeps of an enrolment."""
    names = ("linked", "membership_id", "tier_number", "tier_expires_at")
    return tuple(row[name] if row is not None else None for name in names)


def decide(
    operation: str, program: dict, item: dict, before, taken: bool, now: datetime
) -> tuple[int, str, dict | None]:
    """Return the item's status and, on success, the effect's kind and the enrolment after it.

    The enrolment has its columns in the order in which they are read and saved.
    """
    linked = before is not None and before["linked"]
    if linked if operation == "link" else not linked:
        return (2005 if operation == "link" else 2004), "", None
    version = before["version"] + 1 if before is not None else 1
    if operation == "delink":
        return 200, "DELINK", {**before, "linked": False, "version": version}
    if operation == "link":
        reference = item.get("customerPartnerReference") or {}
        tier, expiry = None, None
        if taken:
            return 2103, "", None
        if program["tiers"]:
            tier = program["tiers"].get(normalised(reference.get("partnerTierName")))
            expiry = reference.get("partnerTierExpiryDate")
            if tier is None:
                return 2007, "", None
        return (
            200,
            "ENROLMENT",
            {
                "linked": True,
                "membership_id": membership_id(item),
                "tier_number": tier,
                "tier_expires_at": datetime.fromisoformat(expiry) if expiry else None,
                "linked_since": now,
                "version": version,
            },
        )
    kind, details = item["updateType"], item.get("updateDetails") or {}
    tier = program["tiers"].get(normalised(details.get("updatedTierName")))
    if tier is None:
        return 2007, "", None
    expiry = details.get("updatedTierExpiryDate")
    old_tier = before["tier_number"] or 0
    fits = {"UPGRADE": tier > old_tier, "DOWNGRADE": tier < old_tier}
    fits["RENEW"] = tier == old_tier and bool(expiry)
    if not fits.get(kind):
        return 2101, "", None
    after = {**before, "tier_number": tier, "version": version}
    if expiry:
        after["tier_expires_at"] = datetime.fromisoformat(expiry)
    return 200, kind, after
