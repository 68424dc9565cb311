-- Group roles belong to the whole server: another database's migration may make them at the
-- same time, or they may be made by hand where the migrating user must not. Users are put into
-- them by the operator.
do $$
declare
    group_role text;
begin
    foreach group_role in array array['partner_program_worker', 'partner_program_ops', 'partner_program_readonly'] loop
        begin
            if not exists (select from pg_roles where rolname = group_role) then
                execute format('create role %I nologin', group_role);
            end if;
        exception
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then
                raise notice 'role % is missing and may not be created; create it and grant by hand', group_role;
        end;
        if exists (select from pg_roles where rolname = group_role) then
            execute format('grant usage on schema public to %I', group_role);
            execute format('grant select on all tables in schema public to %I', group_role);
        end if;
    end loop;

    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant insert, update on enrolment, lane to partner_program_worker;
        grant insert on enrolment_history, command_log to partner_program_worker;
        grant insert, update, delete on delivery_attempt to partner_program_worker;
        grant insert on dead_letter to partner_program_worker;
        grant usage on sequence enrolment_history_id_seq, command_log_sequence_seq to partner_program_worker;
        grant execute on function maintain_partitions(int, date) to partner_program_worker;
    end if;

    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant insert, update on org, customer, partner_program to partner_program_ops;
        grant insert, update, delete on tier to partner_program_ops;
        grant update on catalogue_version to partner_program_ops;
        grant insert, update on dead_letter to partner_program_ops;
        grant insert on dead_letter_action to partner_program_ops;
        grant usage on all sequences in schema public to partner_program_ops;
    end if;
end $$;
