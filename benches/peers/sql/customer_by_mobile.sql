select id, mobile, email, external_id
from customer
where org_id = $1::int and state = 'active' and mobile = any ($2::text[])
order by array_position($2::text[], mobile)
limit 1
