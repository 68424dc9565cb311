-- Orgs by code, each with its programs and their tiers by normalised name, as one document.
select coalesce(jsonb_object_agg(o.code, jsonb_build_object(
    'id', o.id,
    'countryCode', o.country_code,
    'programs', (
        select coalesce(jsonb_object_agg(p.normalised_name, jsonb_build_object(
            'id', p.id,
            'tiers', (
                select coalesce(jsonb_object_agg(t.normalised_name, t.number), '{}')
                from tier t
                where t.org_id = p.org_id and t.program_id = p.id
            )
        )), '{}')
        from program p
        where p.org_id = o.id
    )
)), '{}')::text as catalogue
from org o
