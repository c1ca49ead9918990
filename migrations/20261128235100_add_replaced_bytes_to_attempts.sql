-- How many bytes of outputs of earlier attempts this attempt's outputs replaced. Their content stays on the disk
-- until it is swept, so they count towards what the run may keep. Null where there were none.
alter table attempt add column replaced_bytes bigint check (replaced_bytes > 0);
