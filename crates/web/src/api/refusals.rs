//! How requests may be refused, for the document: what follows from the kind of a route is written here once, not at
//! each of them.

use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};

/// A status with which requests are refused, and when.
type Refusal = (&'static str, &'static str);

const ALWAYS: [Refusal; 6] = [
    ("401", "no good token"),
    (
        "429",
        "too many requests without a good token came from this address",
    ),
    ("500", "a bug of Trainyard; the daemon's log has it"),
    (
        "503",
        "the database does not answer, or too much is under way",
    ),
    ("504", "not in time"),
    ("409", "not now, or not so"),
];

/// Where the path or a query names something.
const OF_PARAMETERS: [Refusal; 3] = [
    (
        "400",
        "a part of the path or the query cannot be read, or is not known",
    ),
    ("404", "not found"),
    ("422", "not valid"),
];

const OF_BODIES: [Refusal; 5] = [
    ("400", "the body is not valid JSON, or broke off"),
    ("408", "the body did not come in time"),
    ("413", "the body is too large"),
    ("415", "the body is not said to be JSON"),
    ("422", "not valid"),
];

const OF_CHANGES: [Refusal; 1] = [("403", "the token may only read")];

/// Describes all refusals that a route does not describe itself.
pub(super) fn describe(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        if let Some(reading) = &mut item.get {
            describe_operation(reading, false);
        }
        let changing = [
            &mut item.put,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in changing.into_iter().flatten() {
            describe_operation(operation, true);
        }
    }
}

fn describe_operation(operation: &mut Operation, changes: bool) {
    add(operation, &ALWAYS);
    if changes {
        add(operation, &OF_CHANGES);
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
