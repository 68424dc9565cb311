select body_hash, operation, verdict, items_total, items_succeeded, items_failed, result
from command_log
where org_id = $1::int and command_id = $2::text
