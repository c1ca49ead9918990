-- Listings of DAGs search the faults of a path at heads of branches; the deletion of a version searches its DAG.
create index dag_fault_path on dag_fault (repo, path);
create index repo_ref_sha on repo_ref (repo, sha) where sha is not null;
create index dag_current_version on dag (current_version) where current_version is not null;
