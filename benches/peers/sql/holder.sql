select exists (
    select from enrolment
    where org_id = $1::int and program_id = $2::int and membership_id = $3::text and linked
) as taken
