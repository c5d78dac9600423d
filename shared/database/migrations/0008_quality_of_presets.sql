-- What a rendition aims at within its bit rate. Presets set so far aim at the usual quality from now on.
alter table presets
    add column rate_control text not null default 'quality' check (rate_control in ('quality', 'abr')),
    add column quality double precision check (quality between 20 and 100),
    add column profile text not null default 'balanced' check (profile in ('speed', 'balanced', 'quality'));
