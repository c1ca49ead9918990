-- Patterns of the branches whose runs may have a secret; none is the followed branch.
alter table secret
    add column branches text[] not null default '{}' check (cardinality(branches) <= 64);
