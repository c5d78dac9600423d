-- Keys may end by themselves, and tell when they were used last.

alter table api_keys add column expires_at timestamptz;     -- null: never
alter table api_keys add column last_used_at timestamptz;   -- to about a minute
