-- What whoever looks at an attempt is told about what it was given, one note a line: that its source tree has a
-- pointer of Git LFS where a file belongs.
alter table attempt add column notes text check (notes <> '');
