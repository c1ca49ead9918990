//! Holds the sources to the list of fail points: a write to the database or a call to Docker that has no
//! name could not be made to fail by the fault programme, so none may come unnoticed.
//!
//! It reads syntax, not types. So a call to Docker is one on something called `client`, and a write is
//! a `commit`, or SQL that writes and is given to a pool and not to a transaction. Reads need no name: a
//! daemon that dies at one dies between two effects.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

use std::path::{Path, PathBuf};

use quote::ToTokens as _;
use syn::visit::{self, Visit};
use syn::{Expr, ExprMethodCall, ItemFn};

/// The method calls that are effects.
type IsEffect = fn(&ExprMethodCall) -> bool;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The receiver's last name: `client` of `self.engine.client`.
fn name(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        Expr::Field(field) => Some(field.member.to_token_stream().to_string()),
        Expr::Reference(reference) => name(&reference.expr),
        _ => None,
    }
}

fn calls_docker(call: &ExprMethodCall) -> bool {
    // A wait is a stream, and sends its request only when it is polled; there it has its name.
    let asks = !["clone", "client_version", "wait_container"]
        .iter()
        .any(|method| call.method == method);
    asks && name(&call.receiver).is_some_and(|name| name == "client")
}

fn writes(call: &ExprMethodCall) -> bool {
    // A draft is committed with a transaction and a name, and names the transaction's own commit.
    if call.method == "commit" && call.args.is_empty() {
        // One that only reads has nothing to commit.
        return name(&call.receiver).is_none_or(|name| name != "snapshot");
    }
    let by_itself = call
        .args
        .first()
        .and_then(name)
        .is_some_and(|name| ["pool", "relaxed"].contains(&name.as_str()));
    let runs = [
        "execute",
        "fetch",
        "fetch_all",
        "fetch_one",
        "fetch_optional",
    ];
    if !by_itself || !runs.iter().any(|method| call.method == method) {
        return false;
    }
    let sql = call.receiver.to_token_stream().to_string().to_lowercase();
    let words = ["insert into", "delete from", "pg_notify", "update "];
    words.iter().any(|word| sql.contains(word)) && !reads_for_update(&sql)
}

/// Whether `update` is only said of the rows that are locked.
fn reads_for_update(sql: &str) -> bool {
    sql.matches("update ").count() == sql.matches("for update ").count()
        && !["insert into", "delete from", "pg_notify"]
            .iter()
            .any(|word| sql.contains(word))
}

struct Search {
    is_effect: IsEffect,
    /// The function that is read.
    within: String,
    seen: usize,
    /// Those without a name, with their function.
    nameless: Vec<String>,
}

impl Search {
    fn over(folder: &str, is_effect: IsEffect) -> Self {
        let mut search = Self {
            is_effect,
            within: String::new(),
            seen: 0,
            nameless: Vec::new(),
        };
        for path in sources(&root().join(folder)) {
            let text = std::fs::read_to_string(&path).unwrap();
            let file = syn::parse_file(&text).unwrap();
            let before = search.nameless.len();
            search.visit_file(&file);
            for found in &mut search.nameless[before..] {
                *found = format!("{}: {found}", path.strip_prefix(root()).unwrap().display());
            }
        }
        search
    }

    fn of(text: &str, is_effect: IsEffect) -> Vec<String> {
        let mut search = Self {
            is_effect,
            within: String::new(),
            seen: 0,
            nameless: Vec::new(),
        };
        search.visit_file(&syn::parse_file(text).unwrap());
        search.nameless
    }
}

impl<'ast> Visit<'ast> for Search {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.within = item.sig.ident.to_string();
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within = item.sig.ident.to_string();
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if call.method == "at"
            && let Expr::MethodCall(effect) = &*call.receiver
            && (self.is_effect)(effect)
        {
            self.seen += 1;
            visit::visit_expr_method_call(self, effect);
            return;
        }
        if (self.is_effect)(call) {
            let within = &self.within;
            self.nameless
                .push(format!("`.{}()` in `{within}`", call.method));
        }
        visit::visit_expr_method_call(self, call);
    }
}

#[test]
fn every_write_to_the_database_can_be_made_to_fail() {
    let search = Search::over("crates/store/src", writes);
    assert_eq!(search.nameless, [""; 0], "without `.at(Point::…)`");
    assert!(search.seen > 40, "only {} writes were seen", search.seen);
}

#[test]
fn every_call_to_docker_can_be_made_to_fail() {
    let search = Search::over("crates/executor/src/docker", calls_docker);
    assert_eq!(search.nameless, [""; 0], "without `.at(Point::…)`");
    assert!(search.seen > 25, "only {} calls were seen", search.seen);
}

#[test]
fn a_write_without_a_name_is_found() {
    let nameless = |body: &str| Search::of(&format!("async fn f() {{ {body} }}"), writes);
    assert_eq!(nameless("transaction.commit().await?;").len(), 1);
    assert_eq!(
        nameless("transaction.commit().at(Point::X).await?;"),
        [""; 0]
    );
    assert_eq!(
        nameless("draft.commit(transaction, Point::X).await?;"),
        [""; 0]
    );
    assert_eq!(
        nameless(r#"sqlx::query!("update a set b = 1").execute(&self.core.pool).await?;"#).len(),
        1
    );
    assert_eq!(
        nameless(r#"sqlx::query!("select 1 for update of a").fetch_all(&core.pool).await?;"#),
        [""; 0]
    );
    assert_eq!(
        nameless(r#"sqlx::query!("update a set b = 1").execute(&mut *transaction).await?;"#),
        [""; 0]
    );
}

#[test]
fn a_call_without_a_name_is_found() {
    let nameless = |body: &str| Search::of(&format!("async fn f() {{ {body} }}"), calls_docker);
    assert_eq!(nameless("self.client.ping().await?;").len(), 1);
    assert_eq!(
        nameless("within(SHORT, client.ping().at(Point::X)).await?;"),
        [""; 0]
    );
}
