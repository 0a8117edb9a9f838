//! The control API: HTTP and JSON, to look at links and to break them.
//!
//! ```text
//! GET  /links              {"links": [{"from", "to", "delay_ms", "jitter_ms", "rate_mbit", "loss", "state"}]}
//! PUT  /links/{from}/{to}  any of {"delay_ms", "jitter_ms", "rate_mbit" (null: no limit), "loss", "state"}; the link
//! POST /partition          {"regions": [...]}: black holes between these and all others, both ways; all links
//! POST /heal               every link up again, with its delay; all links
//! GET  /stats              {"links": [{"from", "to", "bytes", "chunks", "queued_bytes", "drops", "stalls", ...}]}
//! ```
//!
//! What is asked for holds when the answer is there. A request that cannot be carried out changes nothing and is
//! answered by a 4xx and `{"error": "..."}`, which says what would be right. The body is read as JSON whatever its
//! content type, so that `curl -d` just works. There is no authentication: who can reach the address can cut the WAN,
//! so it should be one of loopback.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::hub::Hub;
use crate::{
    limits::CONTROL_BODY,
    model::{Change, InvalidChange, LineChange},
};

/// The API over this hub.
pub(super) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/links", routing::get(links))
        .route("/links/{from}/{to}", routing::put(change_link))
        .route("/partition", routing::post(partition))
        .route("/heal", routing::post(heal))
        .route("/stats", routing::get(stats))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(CONTROL_BODY))
        .with_state(hub)
}

#[derive(Serialize)]
struct All<T> {
    links: Vec<T>,
}

/// The body of `POST /partition`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Partition {
    regions: Vec<String>,
}

async fn links(State(hub): State<Arc<Hub>>) -> Response {
    all_links(&hub)
}

async fn stats(State(hub): State<Arc<Hub>>) -> Response {
    hub.view(|network| Json(All { links: network.stats().collect() }).into_response())
}

async fn change_link(
    State(hub): State<Arc<Hub>>,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let Path((from, to)) = path?;
    let change: LineChange = parse(body, r#"{"delay_ms": 50, "state": "up"}"#)?;
    if change.is_empty() {
        return Err(Refusal::bad_request("name at least one of delay_ms, jitter_ms, rate_mbit, loss, state"));
    }
    hub.change(&Change::Line { from: from.clone(), to: to.clone(), change })?;
    let link = hub.view(|network| {
        let link = network.links().find(|link| link.from == from && link.to == to);
        Json(link.expect("the link was just changed")).into_response()
    });
    Ok(link)
}

async fn partition(State(hub): State<Arc<Hub>>, body: Result<Bytes, BytesRejection>) -> Result<Response, Refusal> {
    let Partition { regions } = parse(body, r#"{"regions": ["us-east"]}"#)?;
    hub.change(&Change::Partition(regions))?;
    Ok(all_links(&hub))
}

async fn heal(State(hub): State<Arc<Hub>>) -> Result<Response, Refusal> {
    hub.change(&Change::Heal)?;
    Ok(all_links(&hub))
}

fn all_links(hub: &Hub) -> Response {
    hub.view(|network| Json(All { links: network.links().collect() }).into_response())
}

async fn unknown_path(uri: Uri) -> Refusal {
    let error = format!(
        "there is no {}; there are GET /links, PUT /links/{{from}}/{{to}}, POST /partition, POST /heal, GET /stats",
        uri.path()
    );
    Refusal { status: StatusCode::NOT_FOUND, error }
}

async fn unknown_method(method: Method, uri: Uri) -> Refusal {
    let error = format!("{method} does nothing at {}; GET looks, PUT changes a link, POST cuts or heals", uri.path());
    Refusal { status: StatusCode::METHOD_NOT_ALLOWED, error }
}

fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>, example: &str) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| Refusal { status: rejection.status(), error: rejection.body_text() })?;
    serde_json::from_slice(&body).map_err(|error| Refusal::bad_request(format!("{error}; expected such as {example}")))
}

/// Why a request is not carried out.
struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    fn bad_request(error: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: error.into() }
    }
}

impl From<InvalidChange> for Refusal {
    fn from(error: InvalidChange) -> Self {
        let status = match error {
            // The link stands in the path, the regions in the body.
            InvalidChange::UnknownLink { .. } => StatusCode::NOT_FOUND,
            InvalidChange::UnknownRegion { .. } | InvalidChange::OneSided { .. } => StatusCode::BAD_REQUEST,
        };
        Self { status, error: error.to_string() }
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self { status: rejection.status(), error: rejection.body_text() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
        }
        (self.status, Json(Body { error: self.error })).into_response()
    }
}
