//! The JSON API: one file per noun. The OpenAPI document is generated from the same handlers.

mod artifacts;
mod audit;
mod dags;
mod logs;
mod quarantine;
mod refusals;
mod repos;
mod retry;
mod runs;
mod secrets;
mod system;

use axum::Router;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::WebState;

#[derive(OpenApi)]
#[openapi(
    info(title = "Trainyard", description = "Runs, DAGs and repos of one Trainyard installation."),
    servers((url = "/api/v1")),
    security(("token" = [])),
    modifiers(&Security)
)]
struct Description;

struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut Document) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The routes and the document that describes them.
pub(crate) fn router() -> (Router<WebState>, Document) {
    let (router, mut document) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(system::daemon))
        .routes(routes!(system::list_daemons))
        .routes(routes!(system::list_violations))
        .routes(routes!(audit::list))
        .routes(routes!(quarantine::list))
        .routes(routes!(quarantine::release))
        .routes(routes!(system::list_tokens, system::create_token))
        .routes(routes!(system::revoke_token))
        .routes(routes!(system::gc))
        .routes(routes!(repos::list, repos::add))
        .routes(routes!(repos::show, repos::change, repos::remove))
        .routes(routes!(repos::history))
        .routes(routes!(repos::deliveries))
        .routes(routes!(repos::sync))
        .routes(routes!(runs::cancel_all))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::set, secrets::remove))
        .routes(routes!(dags::list))
        .routes(routes!(dags::show, dags::remove))
        .routes(routes!(dags::history))
        .routes(routes!(dags::trigger))
        .routes(routes!(dags::pause))
        .routes(routes!(dags::ticks))
        .routes(routes!(runs::list))
        .routes(routes!(runs::show))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::abandon))
        .routes(routes!(retry::retry))
        .routes(routes!(runs::events))
        .routes(routes!(logs::read))
        .routes(routes!(artifacts::list))
        .routes(routes!(artifacts::download))
        .routes(routes!(runs::metrics))
        .split_for_parts();
    refusals::describe(&mut document);
    (router, document)
}

/// The OpenAPI document.
#[must_use]
pub fn openapi() -> Document {
    router().1
}
