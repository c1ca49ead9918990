-- The container has its spec's hash as a label, which is what is compared when it is adopted. A container that is
-- found by its recorded handle needs no comparison.
alter table attempt drop column spec_hash;
