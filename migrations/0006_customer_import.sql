-- Rows of an import on their way into customer: copied here, judged as a set, merged. Unlogged,
-- because an import that a crash cuts off is simply repeated.
create unlogged table customer_import (
    batch uuid not null,
    line bigint not null,
    org text not null,
    id bigint,
    mobile text,
    email text,
    external_id text,
    state text not null,
    org_id int,
    customer_id bigint,
    problem text,
    constraint customer_import_pkey primary key (batch, line)
);
comment on table customer_import is 'Staging of `import customers`; empty between imports.';

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select, insert, update, delete on customer_import to partner_program_ops;
        grant update on all sequences in schema public to partner_program_ops;
    end if;
end $$;
