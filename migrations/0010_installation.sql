-- The identity of this installation, and which programs fit its schema.

create table installation (
    only_row boolean not null default true constraint installation_pkey primary key
        constraint installation_only_row_check check (only_row),
    id uuid not null default gen_random_uuid(),
    created_at timestamptz not null default now()
);
comment on table installation is 'The installation that this database belongs to. The broker has an exchange with this id in its name, which only `topology apply` makes; workers look for it before they subscribe. A restored or copied database has the id of its original until `topology apply --new-installation` gives it a new one.';
insert into installation default values;

create table installation_change (
    id bigint generated always as identity constraint installation_change_pkey primary key,
    kind text not null constraint installation_change_kind_check check (kind in ('adopt', 'renew')),
    -- Of an adoption, the broker's id, if the broker told it; else this database's id before.
    former_id uuid,
    installation_id uuid not null,
    actor text not null,
    reason text not null,
    source text not null,
    changed_at timestamptz not null default now()
);
comment on table installation_change is 'Brokers that this database has adopted, and ids that it had, by whom and why.';

create table schema_compatibility (
    only_row boolean not null default true constraint schema_compatibility_pkey primary key
        constraint schema_compatibility_only_row_check check (only_row),
    schema_version bigint not null,
    oldest_compatible_binary bigint not null,
    constraint schema_compatibility_order_check check (oldest_compatible_binary <= schema_version)
);
comment on table schema_compatibility is 'Written by `partner-program migrate`: the last migration, and the last migration of the oldest release that may work on this schema.';
