-- A database and a broker know that they belong together: the broker has an exchange with this id in its
-- name, which only `topology apply` makes. Workers look for it before they subscribe.

create table installation (
    only_row boolean not null default true constraint installation_pkey primary key
        constraint installation_only_row_check check (only_row),
    id uuid not null default gen_random_uuid(),
    created_at timestamptz not null default now() constraint installation_created_at_finite_check
        check (created_at > '-infinity' and created_at < '262143-01-01 00:00:00+00')
);
comment on table installation is 'The installation that this database is of. A restored or copied database has the id of its original, until `topology apply --new-installation` gives it one of its own.';
insert into installation default values;

create table installation_change (
    id bigint generated always as identity constraint installation_change_pkey primary key,
    kind text not null constraint installation_change_kind_check check (kind in ('adopt', 'renew')),
    -- Of an adoption, whose broker it was, as far as the broker told; else this database's id before.
    former_id uuid,
    installation_id uuid not null,
    actor text not null,
    reason text not null,
    source text not null,
    changed_at timestamptz not null default now() constraint installation_change_changed_at_finite_check
        check (changed_at > '-infinity' and changed_at < '262143-01-01 00:00:00+00')
);
comment on table installation_change is 'Brokers that this database has adopted, and ids that it had, by whom and why.';

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant select on installation to partner_program_worker;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select, update on installation to partner_program_ops;
        grant select, insert on installation_change to partner_program_ops;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on installation, installation_change to partner_program_readonly;
    end if;
end $$;
