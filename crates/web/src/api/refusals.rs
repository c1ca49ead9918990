//! Error answers for the OpenAPI document: those that follow from the kind of a route are written here once, not at
//! each route.

use axum::http::Method;
use trainyard_api::TokenScope;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};

use crate::auth;

/// An error status, and when it is answered.
type Refusal = (&'static str, &'static str);

const ALWAYS: [Refusal; 7] = [
    ("401", "no valid token"),
    (
        "429",
        "too many requests without a valid token came from this address",
    ),
    (
        "500",
        "a bug in Trainyard; the daemon's log has the details",
    ),
    (
        "503",
        "the database does not answer, or the daemon is overloaded",
    ),
    ("504", "the daemon did not answer in time"),
    ("409", "conflict with the present state"),
    ("422", "not valid, or the answer would be too large"),
];

/// For routes with parameters in the path or the query.
const OF_PARAMETERS: [Refusal; 2] = [
    (
        "400",
        "a parameter of the path or the query is malformed or unknown",
    ),
    ("404", "not found"),
];

const OF_BODIES: [Refusal; 4] = [
    ("400", "the body is not valid JSON, or is incomplete"),
    ("408", "the body did not arrive in time"),
    ("413", "the body is too large"),
    ("415", "the content type is not JSON"),
];

const OF_ADMINS: [Refusal; 1] = [("403", "the token may only read")];

/// Adds all error answers that a route does not describe itself.
pub(super) fn describe(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let route = format!("{}{path}", trainyard_api::PREFIX);
        let operations = [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::PATCH, &mut item.patch),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                let needed = auth::needed(&method, &route);
                describe_operation(operation, needed == Some(TokenScope::Admin));
            }
        }
    }
}

fn describe_operation(operation: &mut Operation, is_for_admins: bool) {
    add(operation, &ALWAYS);
    if is_for_admins {
        add(operation, &OF_ADMINS);
    }
    if operation
        .parameters
        .as_ref()
        .is_some_and(|all| !all.is_empty())
    {
        add(operation, &OF_PARAMETERS);
    }
    if operation.request_body.is_some() {
        add(operation, &OF_BODIES);
    }
}

fn add(operation: &mut Operation, refusals: &[Refusal]) {
    for (status, when) in refusals {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("ErrorBody")))
            .build();
        let response = ResponseBuilder::new()
            .description(*when)
            .content("application/json", content)
            .build();
        let described = &mut operation.responses.responses;
        described
            .entry((*status).to_owned())
            .or_insert_with(|| response.into());
    }
}
