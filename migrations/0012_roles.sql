-- Group roles and their rights; the operator puts login users into them.
--
-- Roles belong to the whole server: another database's migration may make them at the same time, or a
-- person made them where the migrating user must not.
do $$
declare
    group_role text;
begin
    foreach group_role in array array['partner_program_worker', 'partner_program_operator', 'partner_program_readonly'] loop
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
            execute format('grant usage on schema %I to %I', current_schema(), group_role);
            -- Not parked_command: it may hold personal data, and no customer_import: it is staging.
            execute format('grant select on org, program, tier, catalogue_version, customer,
                customer_change_count, enrolment, enrolment_history, routing_map, routing_lane,
                routing_binding, routing_change, worker_process, lane, lane_pause, lane_metric,
                lane_waiting, canary, command_log, delivery_attempt, dead_letter, dead_letter_action,
                bulk_job, dead_letter_group, dead_letter_group_hour, dead_letter_volume, hold,
                hold_customer, parked_customer, installation, schema_compatibility to %I', group_role);
        end if;
    end loop;

    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant insert, update on enrolment, lane, lane_pause, canary, dead_letter, bulk_job
            to partner_program_worker;
        grant insert on enrolment_history, command_log, dead_letter_action to partner_program_worker;
        grant insert, update, delete on delivery_attempt, worker_process, lane_waiting, hold, hold_customer,
            parked_customer to partner_program_worker;
        grant select, insert, update, delete on parked_command to partner_program_worker;
        grant insert, delete on lane_metric to partner_program_worker;
        grant select on routing_marker to partner_program_worker;
        grant update (drained_at) on routing_change to partner_program_worker;
        grant usage on sequence enrolment_history_id_seq, command_log_sequence_seq, hold_sequence
            to partner_program_worker;
        grant execute on function maintain_partitions(int, date), delete_expired_dead_letters(int, int)
            to partner_program_worker;
    end if;

    if exists (select from pg_roles where rolname = 'partner_program_operator') then
        grant insert, update on org, program, customer, dead_letter, bulk_job, lane, lane_pause,
            routing_map, routing_lane, routing_binding, routing_change to partner_program_operator;
        grant select, insert, update on routing_marker to partner_program_operator;
        grant insert, update, delete on tier, lane_waiting to partner_program_operator;
        grant select, insert, update, delete on customer_import to partner_program_operator;
        grant update on catalogue_version, hold, installation to partner_program_operator;
        grant insert on dead_letter_action to partner_program_operator;
        grant select, insert on installation_change to partner_program_operator;
        grant select, update (lane) on parked_command to partner_program_operator;
        grant usage, update on sequence org_id_seq, program_id_seq, customer_id_seq
            to partner_program_operator;
    end if;

    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on installation_change to partner_program_readonly;
    end if;
end $$;
