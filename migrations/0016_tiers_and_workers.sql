-- Tiers keep their identity when their order is edited, and a commit knows whether the catalogue that it
-- was decided by is still the current one.
--
-- `number` is a tier's id within its program from now on: it is what enrolments and the history name, and
-- all of their rows stay as they are. Until now numbers were ranks as well, so they are the first ranks.
alter table tier add column rank smallint constraint tier_rank_check check (rank > 0);
update tier set rank = number;
alter table tier add constraint tier_rank_key unique (org_id, program_id, rank) deferrable initially immediate;
comment on table tier is 'A tier of a partner program; kept after its removal, for the history.';
comment on column tier.number is 'The tier''s id within its program: enrolments and the history name it. Never changed and never given again.';
comment on column tier.rank is 'Its place in the order of the program''s tiers; a higher rank is a higher tier. Null: removed, and no customer is linked in it.';
comment on column enrolment.tier_number is 'The tier''s id, `tier.number`.';
comment on column enrolment_history.old_tier_number is 'The tier''s id, `tier.number`.';
comment on column enrolment_history.new_tier_number is 'The tier''s id, `tier.number`.';

-- Releases before this one take the number for the rank: their tiers are ranked as they are numbered,
-- and their import may not give a tier's number to another one.
create function tier_keeps_identity() returns trigger language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'INSERT' then
        new.rank := coalesce(new.rank, new.number);
    elsif new.normalised_name <> old.normalised_name then
        raise exception 'tier "%" keeps its name: its number stands for it in enrolments and history', old.name
            using errcode = 'restrict_violation', hint = 'import the catalogue with a release of schema 16 or later';
    end if;
    return new;
end $$;

create trigger tier_identity before insert or update on tier
    for each row execute function tier_keeps_identity();

-- Commits hold shared locks of their orgs, and an import of the catalogue exclusive ones: after an import
-- no commit goes by what was there before. Locks are per org, folded into 64, so that a batch of many
-- orgs does not fill the server's lock table; they are taken in order, so that no two transactions wait for each other.
create function lock_catalogue(org_ids int[], exclusive boolean) returns void language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    slot int;
begin
    for slot in select distinct id & 63 from unnest(org_ids) id order by 1 loop
        if exclusive then
            perform pg_advisory_xact_lock(hashtext('partner_program.catalogue'), slot);
        else
            perform pg_advisory_xact_lock_shared(hashtext('partner_program.catalogue'), slot);
        end if;
    end loop;
end $$;
comment on function lock_catalogue is 'Locks the catalogue of these orgs until the transaction ends.';

-- Volatile, so the version is read by a snapshot that is taken once the locks are held.
create function catalogue_is_current(org_ids int[], known_version bigint) returns boolean language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.lock_catalogue(org_ids, false);
    return coalesce((select version = known_version from public.catalogue_version), false);
end $$;
comment on function catalogue_is_current is 'Whether the catalogue has still this version; if so, it has for these orgs until the transaction ends.';

-- Which customers a batch was decided by: a batch that comes later goes by none that are older. Each
-- transaction that changes customers counts in a row that no other one has locked, so none waits for
-- another; there are as many rows as such transactions have been open at a time.
create table customer_change_count (
    id int generated always as identity constraint customer_change_count_pkey primary key,
    changes bigint not null
);
comment on table customer_change_count is 'The sum grows with each commit that changes customers, so that two readings can be told apart.';

-- With its owner's rights: a role that may write customers need not have any on the count.
create function count_customer_change() returns trigger language plpgsql security definer
    set search_path = pg_catalog, public, pg_temp
as $$
begin
    update public.customer_change_count set changes = changes + 1
    where id = (select id from public.customer_change_count order by id limit 1 for update skip locked);
    if not found then
        insert into public.customer_change_count (changes) values (1);
    end if;
    return null;
end $$;

create trigger customer_count_change after insert or update or delete or truncate on customer
    for each statement execute function count_customer_change();

-- The processes of workers, so that two with one worker_id are told apart.
create table worker_process (
    id uuid constraint worker_process_pkey primary key,
    worker text not null,
    host text not null,
    os_process_id int not null,
    started_at timestamptz not null default now()
        constraint worker_process_started_at_finite_check
        check (started_at > '-infinity' and started_at < '262143-01-01 00:00:00+00'),
    seen_at timestamptz not null default now()
        constraint worker_process_seen_at_finite_check
        check (seen_at > '-infinity' and seen_at < '262143-01-01 00:00:00+00')
);
comment on table worker_process is 'The processes of workers, each of which says every few seconds that it lives; forgotten an hour after the last time.';

alter table lane add column process uuid;
comment on column lane.process is 'The process that took the lane last, see worker_process: a worker_id may be given to two.';

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant select, insert, update, delete on worker_process to partner_program_worker;
        grant select on customer_change_count to partner_program_worker;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select on worker_process, customer_change_count to partner_program_ops;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on worker_process, customer_change_count to partner_program_readonly;
    end if;
end $$;
