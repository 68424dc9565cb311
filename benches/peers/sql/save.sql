-- Writes no row where a parallel handler enrolled the same customer meanwhile.
insert into enrolment as e (org_id, customer_id, program_id, linked, membership_id, tier_number,
    tier_expires_at, linked_since, version)
values ($1::int, $2::bigint, $3::int, $4::boolean, $5::text, $6::smallint, $7::timestamptz,
    $8::timestamptz, $9::bigint)
on conflict (org_id, customer_id, program_id) do update
set linked = excluded.linked, membership_id = excluded.membership_id,
    tier_number = excluded.tier_number, tier_expires_at = excluded.tier_expires_at,
    linked_since = excluded.linked_since, version = excluded.version
where e.version = excluded.version - 1
returning version
