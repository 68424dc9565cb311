select id, mobile, email, external_id
from customer
where org_id = $1::int and state = 'active' and id = $2::bigint
