insert into command_log (org_id, command_id, body_hash, lane, lane_epoch, operation, verdict,
    items_total, items_succeeded, items_failed, result, correlation_id, occurred_at)
values ($1::int, $2::text, $3::bytea, 'peer', 0, $4::text, $5::text,
    $6::int, $7::int, $8::int, $9::bytea, $10::text, $11::timestamptz)
