select id, mobile, email, external_id
from customer
where org_id = $1::int and state = 'active' and external_id = $2::text
