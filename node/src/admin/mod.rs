//! The admin server: metrics, health and status over HTTP, on a thread of its own.
//!
//! | path | answer |
//! |---|---|
//! | `GET /metrics` | Prometheus text |
//! | `GET /health/live` | 200 as long as the process runs |
//! | `GET /health/ready` | 200 while clients are served, also while the region is still being refilled; else 503 |
//! | `GET /status` | JSON |
//!
//! It starts before anything else is ready and ends last, so that a node that starts or stops can be watched doing so.

mod cluster;
pub(crate) mod metrics;
mod status;

use std::{io, net::TcpListener, sync::Arc};

use ::metrics_exporter_prometheus::PrometheusHandle;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde_json::json;
use tokio::{net, time};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{metrics::install as install_recorder, status::Status};
use crate::server::Server;

/// What the handlers look at.
#[derive(Clone)]
struct Admin {
    server: Arc<Server>,
    recorder: PrometheusHandle,
}

/// Serves until `closing` is cancelled.
///
/// # Errors
/// If the socket cannot be used.
pub(crate) async fn run(
    server: Arc<Server>,
    recorder: PrometheusHandle,
    listener: TcpListener,
    closing: CancellationToken,
) -> io::Result<()> {
    let listener = net::TcpListener::from_std(listener)?;
    let upkeep = upkeep(recorder.clone());
    let serving = axum::serve(listener, router(Admin { server, recorder }));
    tokio::select! {
        outcome = serving.into_future() => outcome,
        () = upkeep => Ok(()),
        () = closing.cancelled() => Ok(()),
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(|| async { "alive\n" }))
        .route("/health/ready", get(ready))
        .route("/status", get(status))
        .fallback(unknown)
        .with_state(admin)
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let text = metrics::render(&admin.server, &admin.recorder, admin.server.clock.now());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.server.is_ready() {
        return (StatusCode::OK, Json(json!({ "ready": true, "complete": admin.server.links.is_complete() })));
    }
    let stopping = admin.server.stopping.is_cancelled();
    let reason = if stopping { "the node is stopping" } else { "the node is starting" };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "reason": reason })))
}

async fn status(State(admin): State<Admin>) -> impl IntoResponse {
    Json(Status::of(&admin.server, admin.server.clock.now()))
}

async fn unknown() -> impl IntoResponse {
    let paths = ["/metrics", "/health/live", "/health/ready", "/status"];
    (StatusCode::NOT_FOUND, Json(json!({ "error": "there is nothing here", "paths": paths })))
}

async fn upkeep(recorder: PrometheusHandle) {
    let mut interval = time::interval(metrics::UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        recorder.run_upkeep();
    }
}
