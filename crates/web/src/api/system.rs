//! The daemon itself: its properties, tokens, garbage collection.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::ExposeSecret;
use trainyard_api::{
    DaemonInfo, DaemonState, DaemonSummary, ErrorBody, GcReport, GcRequest, HeldAttempt, Lead,
    Listing, NewToken, Token, TokenMade, TokenScope, Violation,
};
use trainyard_core::principal::Act;
use trainyard_core::run::AttemptState;
use trainyard_store::{DaemonView, Error as StoreError, Scope, TokenInfo};

use super::names;
use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::{Object, Path};
use crate::state::WebState;

/// The longest name of a token, in characters.
const TOKEN_NAME_LONGEST: usize = 100;

#[utoipa::path(get, path = "/daemon", responses((status = 200, body = DaemonInfo)))]
pub(crate) async fn daemon(State(state): State<WebState>) -> Result<Json<DaemonInfo>, ApiError> {
    let settings = state.settings();
    Ok(Json(DaemonInfo {
        version: settings.version.clone(),
        instance: state.store().instance().await?.to_string(),
        url: settings.public_url.clone(),
        slots: settings.capacity.slots_total,
        pools: Some(
            settings
                .capacity
                .pools_total
                .iter()
                .map(|(name, slots)| (name.to_string(), *slots))
                .collect(),
        ),
    }))
}

#[utoipa::path(get, path = "/daemons", responses((status = 200, body = Listing<DaemonSummary>)))]
pub(crate) async fn list_daemons(
    State(state): State<WebState>,
) -> Result<Json<Listing<DaemonSummary>>, ApiError> {
    let daemons = state.store().list_daemons().await?;
    Ok(Json(Listing::whole(
        daemons.into_iter().map(daemon_summary).collect(),
    )))
}

fn daemon_summary(view: DaemonView) -> DaemonSummary {
    let state = match (view.stopped_at, view.is_alive) {
        (Some(_), _) if view.replaced => DaemonState::Replaced,
        (Some(_), _) => DaemonState::Stopped,
        (None, true) => DaemonState::Alive,
        (None, false) => DaemonState::Silent,
    };
    let leads = view.leads.into_iter().map(|(role, term)| Lead {
        role: role.as_str().to_owned(),
        term,
    });
    let holds = view.holds.into_iter().map(|held| {
        let state = if held.is_running {
            AttemptState::RUNNING
        } else {
            AttemptState::STARTING
        };
        HeldAttempt {
            run: held.run.0,
            stage: held.stage,
            attempt: held.number,
            state: state.to_owned(),
            since: held.since,
        }
    });
    DaemonSummary {
        id: view.id.to_string(),
        host: view.host,
        pid: view.pid,
        version: view.version,
        state,
        started_at: view.started_at,
        lease_until: view.lease_until,
        stopped_at: view.stopped_at,
        attempts: view.attempts,
        holds: holds.collect(),
        leads: leads.collect(),
        troubles: view.troubles.iter().map(ToString::to_string).collect(),
    }
}

#[utoipa::path(get, path = "/violations", responses((status = 200, body = Listing<Violation>)))]
pub(crate) async fn list_violations(
    State(state): State<WebState>,
) -> Result<Json<Listing<Violation>>, ApiError> {
    let rows = state.store().check_invariants().await?;
    let content = state.store().check_blobs(state.blobs()).await?;
    let items = rows.into_iter().chain(content).map(|violation| Violation {
        invariant: violation.invariant.name.to_owned(),
        says: violation.invariant.says.to_owned(),
        rows: violation.rows,
    });
    Ok(Json(Listing::whole(items.collect())))
}

#[utoipa::path(get, path = "/tokens", responses((status = 200, body = Listing<Token>)))]
pub(crate) async fn list_tokens(
    State(state): State<WebState>,
) -> Result<Json<Listing<Token>>, ApiError> {
    let tokens = state.store().list_tokens().await?;
    Ok(Json(Listing::whole(
        tokens.into_iter().map(token).collect(),
    )))
}

#[utoipa::path(
    post, path = "/tokens", request_body = NewToken,
    responses((status = 201, body = TokenMade), (status = 422, body = ErrorBody))
)]
pub(crate) async fn create_token(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Object(new): Object<NewToken>,
) -> Result<(StatusCode, Json<TokenMade>), ApiError> {
    let name = new.name.trim();
    if name.is_empty()
        || name.chars().count() > TOKEN_NAME_LONGEST
        || name.contains(char::is_control)
    {
        return Err(ApiError::invalid(format!(
            "a token's name must have 1 to {TOKEN_NAME_LONGEST} characters, without control characters"
        )));
    }
    let scope = match new.scope {
        TokenScope::Read => Scope::Read,
        TokenScope::Admin => Scope::Admin,
    };
    let (info, secret) = state.store().create_token(&act, name, scope).await?;
    let made = TokenMade {
        token: token(info),
        secret: secret.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

#[utoipa::path(
    delete, path = "/tokens/{token}", params(("token" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody))
)]
pub(crate) async fn revoke_token(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path(token): Path<String>,
) -> Result<StatusCode, ApiError> {
    match state.store().revoke_token(&act, &token).await {
        Err(error @ StoreError::NotFound { .. }) => {
            let tokens = state.store().list_tokens().await?;
            let in_use = tokens.iter().filter(|known| known.revoked_at.is_none());
            let help = names::meant(&token, in_use.map(|known| known.name.as_str()))
                .unwrap_or_else(|| "`trainyard token list` lists the tokens".to_owned());
            Err(ApiError::from(error).help(help))
        }
        revoked => {
            revoked?;
            Ok(StatusCode::NO_CONTENT)
        }
    }
}

#[utoipa::path(post, path = "/gc", request_body = GcRequest, responses((status = 200, body = GcReport)))]
pub(crate) async fn gc(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Object(request): Object<GcRequest>,
) -> Result<Json<GcReport>, ApiError> {
    let dry_run = request.dry_run;
    let rule = &state.settings().retention;
    if !dry_run {
        state.store().request_gc(&act).await?;
    }
    let pruned = state.store().prune(rule, dry_run).await?;
    let swept = state
        .store()
        .sweep_blobs(state.blobs(), dry_run.then_some(rule))
        .await?;
    if !dry_run {
        // The pruner also removes images and source archives, which this crate cannot reach.
        state.store().wakes().prune.wake();
    }
    Ok(Json(GcReport {
        dry_run,
        runs: pruned.runs,
        logs: pruned.logs,
        deliveries: pruned.deliveries,
        dag_versions: pruned.dag_versions,
        artifact_files: swept.files,
        artifact_bytes: swept.bytes,
    }))
}

fn token(info: TokenInfo) -> Token {
    Token {
        id: info.id.to_string(),
        name: info.name,
        scope: match info.scope {
            Scope::Read => TokenScope::Read,
            Scope::Admin => TokenScope::Admin,
        },
        created_at: info.created_at,
        last_used_at: info.last_used_at,
        revoked_at: info.revoked_at,
    }
}
