// A command: reading it, applying it within a transaction, writing its result.
"use strict";

const { createHash } = require("node:crypto");
const { readdirSync, readFileSync } = require("node:fs");
const { join, parse: parsePath } = require("node:path");
const pg = require("pg");

// Ids of customers are far below 2^53. Timestamps stay text: Date would cut their microseconds.
pg.types.setTypeParser(pg.types.builtins.INT8, Number);
pg.types.setTypeParser(pg.types.builtins.TIMESTAMPTZ, (text) => text);

const CATALOGUE_MS = 10_000;
// Codes of errors that mean that a parallel handler was faster: the message comes again.
const CONFLICT = new Set(["conflict", "23505", "40P01"]);
// By operation: the root key, the key of the items, and the key of an item's status.
const KEYS = {
  link: ["linkCustomers", "linkToPartnerPrograms", "partnerLinkStatus"],
  update: ["customersPartnerUpdates", "partnerProgramUpdates", "updateStatus"],
  delink: ["deLinkCustomers", "deLinkFromPartnerPrograms", "partnerDeLinkStatus"],
};
const MESSAGES = {
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
};

// The message can never be processed: a dead letter.
class Refused extends Error {}

// Named, so that each connection prepares a statement once.
const sql = join(__dirname, "..", "sql");
const STATEMENTS = Object.fromEntries(readdirSync(sql).map((file) => {
  const { name } = parsePath(file);
  return [name, { name, text: readFileSync(join(sql, file), "utf8") }];
}));

async function run(client, statement, ...values) {
  return (await client.query({ ...STATEMENTS[statement], values })).rows[0];
}

let catalogue = { orgs: {}, readAt: -Infinity };

// Orgs by code, at most ten seconds old.
async function orgs(client) {
  if (performance.now() - catalogue.readAt > CATALOGUE_MS) {
    const row = await run(client, "catalogue");
    catalogue = { orgs: JSON.parse(row.catalogue), readAt: performance.now() };
  }
  return catalogue.orgs;
}

function parse({ fields, properties, content }) {
  const [org, operation] = fields.routingKey.split(".");
  const [rootKey, listKey] = KEYS[operation] ?? [];
  let entries;
  try {
    entries = JSON.parse(content)[rootKey].map((entry) => ({
      given: entry.customer,
      items: entry[listKey].map((item) => ({ ...item, program: normalised(item.partnerProgramName) })),
    }));
  } catch (error) {
    throw new Refused(error.message);
  }
  if (!properties.messageId) throw new Refused("no message id");
  return {
    org,
    operation,
    id: properties.messageId,
    correlationId: properties.correlationId,
    bodyHash: createHash("sha256").update(content).digest(),
    entries,
  };
}

// Does all of a command's work; returns what the inbox keeps of it.
async function apply(client, command) {
  const org = (await orgs(client))[command.org];
  if (!org) throw new Refused(`unknown org ${command.org}`);
  const known = await run(client, "inbox", org.id, command.id);
  if (known) {
    if (known.body_hash.equals(command.bodyHash)) return known;
    throw new Refused(`the message id ${command.id} was used for another body`);
  }
  const [rootKey, listKey, statusKey] = KEYS[command.operation];
  const now = new Date();
  const answers = [];
  let [total, succeeded, customersFailed] = [0, 0, 0];
  for (const { given, items } of command.entries) {
    const customer = await findCustomer(client, org, given);
    customersFailed += customer ? 0 : 1;
    const answer = { customer: customerView(given, customer), [listKey]: [] };
    for (const item of items) {
      const code = customer
        ? await applyItem(client, org, command, customer.id, item, succeeded, now)
        : 2001;
      total += 1;
      succeeded += code === 200 ? 1 : 0;
      answer[listKey].push({
        partnerProgramName: item.partnerProgramName,
        ...(command.operation === "update" && { updateType: item.updateType }),
        [statusKey]: status(code),
      });
    }
    answers.push(answer);
  }
  const failed = succeeded > 0 ? "partial" : "failed";
  const stored = {
    operation: command.operation,
    verdict: succeeded === total && customersFailed === 0 ? "succeeded" : failed,
    items_total: total,
    items_succeeded: succeeded,
    items_failed: total - succeeded,
    result: Buffer.from(JSON.stringify({ [rootKey]: answers, warnings: [] })),
  };
  await run(client, "log", org.id, command.id, command.bodyHash, ...Object.values(stored),
    command.correlationId, now);
  return stored;
}

// The highest identifier given decides.
function findCustomer(client, org, { id, mobile, email, externalId }) {
  if (id != null) return run(client, "customer_by_id", org.id, id);
  if (mobile) {
    const digits = String(mobile).replace(/\D/g, "");
    return run(client, "customer_by_mobile", org.id, [digits, org.countryCode + digits]);
  }
  if (email) return run(client, "customer_by_email", org.id, email);
  if (externalId) return run(client, "customer_by_external_id", org.id, String(externalId));
  return undefined;
}

// Applies an item under the lock of its enrolment; returns its status.
async function applyItem(client, org, command, customerId, item, position, now) {
  const program = org.programs[item.program];
  if (!program) return 2006;
  const key = [org.id, customerId, program.id];
  const before = await run(client, "enrolment", ...key);
  const membershipId = item.customerPartnerReference?.partnerMembershipId || null;
  const taken = command.operation === "link" && membershipId
    && (await run(client, "holder", org.id, program.id, membershipId)).taken;
  const { code, kind, after } = decide(command.operation, program, item, before, taken, now);
  if (!after) return code;
  if (!(await run(client, "save", ...key, ...states(after), after.linked_since, after.version))) {
    throw Object.assign(new Error(command.id), { code: "conflict" });
  }
  await run(client, "history", ...key, command.id, position, kind, ...states(before),
    ...states(after), kind === "DELINK" ? item.reason : null, now, after.version);
  return 200;
}

function decide(operation, program, item, before, taken, now) {
  const version = (before?.version ?? 0) + 1;
  if (operation === "link") {
    if (before?.linked) return { code: 2005 };
    if (taken) return { code: 2103 };
    const reference = item.customerPartnerReference ?? {};
    const hasTiers = Object.keys(program.tiers).length > 0;
    const tier = program.tiers[normalised(reference.partnerTierName)];
    if (hasTiers && !tier) return { code: 2007 };
    const after = {
      linked: true,
      membership_id: reference.partnerMembershipId || null,
      tier_number: tier ?? null,
      tier_expires_at: (hasTiers && reference.partnerTierExpiryDate) || null,
      linked_since: now,
      version,
    };
    return { code: 200, kind: "ENROLMENT", after };
  }
  if (!before?.linked) return { code: 2004 };
  if (operation === "delink") {
    return { code: 200, kind: "DELINK", after: { ...before, linked: false, version } };
  }
  const { updatedTierName, updatedTierExpiryDate: expiry } = item.updateDetails ?? {};
  const tier = program.tiers[normalised(updatedTierName)];
  if (!tier) return { code: 2007 };
  const fits = {
    UPGRADE: tier > before.tier_number,
    DOWNGRADE: tier < before.tier_number,
    RENEW: tier === before.tier_number && Boolean(expiry),
  };
  if (!fits[item.updateType]) return { code: 2101 };
  const after = { ...before, tier_number: tier, version };
  if (expiry) after.tier_expires_at = expiry;
  return { code: 200, kind: item.updateType, after };
}

// What the history keeps of an enrolment.
function states(enrolment) {
  return ["linked", "membership_id", "tier_number", "tier_expires_at"]
    .map((column) => enrolment?.[column] ?? null);
}

// As registered, or as given if there is none. JSON leaves out what is undefined.
function customerView(given, customer) {
  const view = customer
    ? { id: customer.id, mobile: customer.mobile, email: customer.email, externalId: customer.external_id }
    : { mobile: given.mobile, email: given.email, externalId: given.externalId };
  for (const [name, value] of Object.entries(view)) {
    view[name] = name === "id" ? value : (value ?? undefined)?.toString();
  }
  return { ...view, status: status(customer ? 1000 : 1012) };
}

function status(code) {
  return { status: code === 200 || code === 1000, message: MESSAGES[code], code };
}

function normalised(name) {
  return (name ?? "").trim().toLowerCase();
}

module.exports = { apply, parse, CONFLICT, Refused };
