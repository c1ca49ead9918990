-- The content of the artifact store that has an owner, by its hash. The content is in the store for as long as its
-- row is here: it arrives before the row is written, and is removed only after the row was deleted.
create table blob (
    sha256 text primary key check (sha256 ~ '^[0-9a-f]{64}$'),
    size bigint not null check (size >= 0)
);
insert into blob (sha256, size) select sha256, max(size) from artifact group by sha256;

-- An artifact is an owner. So is each table with a foreign key to `blob`; it also has a part in `blob_reference`.
alter table artifact drop constraint artifact_sha256_check, drop column size, add foreign key (sha256) references blob;

-- Who owns content: the only place that the sweep asks. `run` is the run that the reference is deleted with, and null
-- where retention of runs does not end it.
create view blob_reference (sha256, run) as select sha256, run from artifact;
