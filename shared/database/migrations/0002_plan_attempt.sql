-- Plannings are fenced as chunks are: by a number that every claim and every retry raises.

alter table videos add column plan_attempt integer not null default 0;
