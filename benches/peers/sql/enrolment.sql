select linked, membership_id, tier_number, tier_expires_at, linked_since, version
from enrolment
where org_id = $1::int and customer_id = $2::bigint and program_id = $3::int
for update
