-- Each replay of a letter has a number, which its message carries: so one that was taken back is
-- recognised when it arrives, and dropped. A letter remembers, too, whether an operator has had it
-- replayed although its publisher may not act for the org.

alter table dead_letter
    add column replay_number int not null default 0
        constraint dead_letter_replay_number_check check (replay_number >= 0),
    add column publisher_overridden boolean not null default false;
comment on column dead_letter.replay_number is 'Of the latest replay. A message of an earlier one, or of one that was taken back, has no effect.';
comment on column dead_letter.publisher_overridden is 'Whether its latest replay has effect although its publisher may not act for the org.';

alter table dead_letter_operation
    add column overrides_publisher boolean not null default false;
comment on column dead_letter_operation.overrides_publisher is 'Of a replay of one letter: it has effect although the publisher may not act for the org.';

alter table dead_letter_action
    drop constraint dead_letter_action_action_check,
    add constraint dead_letter_action_action_check check (action in
        ('replay', 'override_publisher', 'edit', 'discard', 'restore', 'export', 'unmask', 'applied',
            'failed_again', 'superseded'));
