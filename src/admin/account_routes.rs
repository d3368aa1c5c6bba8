//! The endpoints for tenants, tokens and secrets of the state store.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use secrecy::SecretString;
use serde::Deserialize;

use super::accounts::{Act, NewToken};
use super::error::ApiError;
use super::json;
use super::state::Admin;
use super::supervisor::Supervisor;
use crate::protocol::ApiReason;
use crate::tenancy::TenantSettings;

/// The paths, and what is there.
pub(super) fn routes<S: Supervisor>() -> Vec<(&'static str, MethodRouter<Admin<S>>)> {
    vec![
        ("/api/v1/accounts", get(list_tenants::<S>)),
        (
            "/api/v1/tenants/{tenant}",
            get(show_tenant::<S>)
                .post(add_tenant::<S>)
                .patch(set_tenant::<S>)
                .delete(remove_tenant::<S>),
        ),
        ("/api/v1/tokens", get(list_tokens::<S>)),
        (
            "/api/v1/tenants/{tenant}/tokens",
            get(tokens_of::<S>).post(create_token::<S>),
        ),
        (
            "/api/v1/tenants/{tenant}/tokens/{name}",
            delete(revoke_token::<S>),
        ),
        ("/api/v1/secrets", get(list_secrets::<S>)),
        ("/api/v1/tenants/{tenant}/secrets", get(secrets_of::<S>)),
        (
            "/api/v1/tenants/{tenant}/secrets/{name}",
            put(set_secret::<S>).delete(remove_secret::<S>),
        ),
        ("/api/v1/oauth", get(list_grants::<S>)),
        ("/api/v1/tenants/{tenant}/oauth", get(grants_of::<S>)),
        (
            "/api/v1/tenants/{tenant}/oauth/{server}",
            post(link_grant::<S>).delete(revoke_grant::<S>),
        ),
    ]
}

async fn act<S: Supervisor>(admin: Admin<S>, act: Act) -> Result<Response, ApiError> {
    // A task of its own: a caller that hangs up must not leave it half done.
    let done = tokio::spawn(admin.supervisor.account(act)).await;
    let failed = |error: tokio::task::JoinError| {
        let error = format!("it did not finish: {error}");
        ApiError::new(ApiReason::Internal, error)
    };
    match done.map_err(failed)? {
        Ok(told) => Ok(json::Json(told).into_response()),
        Err(error) => Err(ApiError::new(error.reason(), error.to_string())),
    }
}

type Body<T> = Result<Json<T>, JsonRejection>;

fn read<T>(body: Body<T>) -> Result<T, ApiError> {
    let Json(value) =
        body.map_err(|error| ApiError::new(ApiReason::InvalidRequest, error.body_text()))?;
    Ok(value)
}

/// The value of a secret; `Debug` shows nothing of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretValue {
    value: String,
}

#[derive(Deserialize)]
struct OfTenant {
    tenant: Option<String>,
}

async fn list_tenants<S: Supervisor>(admin: State<Admin<S>>) -> Result<Response, ApiError> {
    act(admin.0, Act::ListTenants).await
}

async fn show_tenant<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(tenant): Path<String>,
) -> Result<Response, ApiError> {
    act(admin, Act::ShowTenant(tenant)).await
}

async fn add_tenant<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(tenant): Path<String>,
    settings: Body<TenantSettings>,
) -> Result<Response, ApiError> {
    act(admin, Act::AddTenant(tenant, read(settings)?)).await
}

async fn set_tenant<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(tenant): Path<String>,
    settings: Body<TenantSettings>,
) -> Result<Response, ApiError> {
    act(admin, Act::SetTenant(tenant, read(settings)?)).await
}

async fn remove_tenant<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(tenant): Path<String>,
) -> Result<Response, ApiError> {
    act(admin, Act::RemoveTenant(tenant)).await
}

async fn list_tokens<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Query(of): Query<OfTenant>,
) -> Result<Response, ApiError> {
    act(admin, Act::ListTokens(of.tenant)).await
}

async fn tokens_of<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(tenant): Path<String>,
) -> Result<Response, ApiError> {
    act(admin, Act::ListTokens(Some(tenant))).await
}

async fn create_token<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(tenant): Path<String>,
    token: Body<NewToken>,
) -> Result<Response, ApiError> {
    act(admin, Act::CreateToken(tenant, read(token)?)).await
}

async fn revoke_token<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path((tenant, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    act(admin, Act::RevokeToken(tenant, name)).await
}

async fn list_secrets<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Query(of): Query<OfTenant>,
) -> Result<Response, ApiError> {
    act(admin, Act::ListSecrets(of.tenant)).await
}

async fn secrets_of<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(tenant): Path<String>,
) -> Result<Response, ApiError> {
    act(admin, Act::ListSecrets(Some(tenant))).await
}

async fn set_secret<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path((tenant, name)): Path<(String, String)>,
    value: Body<SecretValue>,
) -> Result<Response, ApiError> {
    // The body is not quoted where it cannot be read: it may be the secret itself.
    let Json(SecretValue { value }) = value.map_err(|_| {
        let error = "the body must be {\"value\": \"…\"}";
        ApiError::new(ApiReason::InvalidRequest, error)
    })?;
    act(
        admin,
        Act::SetSecret(tenant, name, SecretString::from(value)),
    )
    .await
}

async fn remove_secret<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path((tenant, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    act(admin, Act::RemoveSecret(tenant, name)).await
}

async fn list_grants<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Query(of): Query<OfTenant>,
) -> Result<Response, ApiError> {
    act(admin, Act::ListGrants(of.tenant)).await
}

async fn grants_of<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path(tenant): Path<String>,
) -> Result<Response, ApiError> {
    act(admin, Act::ListGrants(Some(tenant))).await
}

async fn link_grant<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path((tenant, server)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    act(admin, Act::LinkGrant(tenant, server)).await
}

async fn revoke_grant<S: Supervisor>(
    State(admin): State<Admin<S>>,
    Path((tenant, server)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    act(admin, Act::RevokeGrant(tenant, server)).await
}
