insert into enrolment_history (org_id, customer_id, program_id, command_id, position, kind,
    old_linked, old_membership_id, old_tier_number, old_tier_expires_at,
    new_linked, new_membership_id, new_tier_number, new_tier_expires_at,
    reason, occurred_at, version)
values ($1::int, $2::bigint, $3::int, $4::text, $5::int, $6::text,
    $7::boolean, $8::text, $9::smallint, $10::timestamptz,
    $11::boolean, $12::text, $13::smallint, $14::timestamptz,
    $15::text, $16::timestamptz, $17::bigint)
