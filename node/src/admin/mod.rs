//! The admin server: metrics, health and status over HTTP, on a thread of its own.
//!
//! | path | answer |
//! |---|---|
//! | `GET /metrics` | Prometheus text |
//! | `GET /health/live` | 200 as long as the process runs |
//! | `GET /health/ready` | 200 while the process does its part; else 503 |
//! | `GET /status` | JSON |
//!
//! A node does its part while clients are served, also while the region is still being refilled.
//!
//! It starts before anything else is ready and ends last, so that a process that starts or stops can be watched doing so.
//! Nodes and gateways have the same one, and differ in what they say ([`Subject`]).

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
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{net, time};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{metrics::install as install_recorder, status::Status};

/// A process that can be looked at.
pub(crate) trait Subject: Send + Sync + 'static {
    /// Brings its gauges up to date.
    fn publish(&self);

    /// What `/health/ready` says beside that it is; or why it is not.
    fn readiness(&self) -> Result<Value, &'static str>;

    /// What `/status` says.
    fn status(&self) -> impl Serialize;
}

/// What the handlers look at.
struct Admin<S> {
    subject: Arc<S>,
    recorder: PrometheusHandle,
}

impl<S> Clone for Admin<S> {
    fn clone(&self) -> Self {
        Self { subject: self.subject.clone(), recorder: self.recorder.clone() }
    }
}

/// Serves until `closing` is cancelled.
///
/// # Errors
/// If the socket cannot be used.
pub(crate) async fn run(
    subject: Arc<impl Subject>,
    recorder: PrometheusHandle,
    listener: TcpListener,
    closing: CancellationToken,
) -> io::Result<()> {
    let listener = net::TcpListener::from_std(listener)?;
    let upkeep = upkeep(recorder.clone());
    let serving = axum::serve(listener, router(Admin { subject, recorder }));
    tokio::select! {
        outcome = serving.into_future() => outcome,
        () = upkeep => Ok(()),
        () = closing.cancelled() => Ok(()),
    }
}

fn router<S: Subject>(admin: Admin<S>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::<S>))
        .route("/health/live", get(|| async { "alive\n" }))
        .route("/health/ready", get(ready::<S>))
        .route("/status", get(status::<S>))
        .fallback(unknown)
        .with_state(admin)
}

async fn metrics<S: Subject>(State(admin): State<Admin<S>>) -> impl IntoResponse {
    admin.subject.publish();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.recorder.render())
}

async fn ready<S: Subject>(State(admin): State<Admin<S>>) -> impl IntoResponse {
    match admin.subject.readiness() {
        Ok(said) => (StatusCode::OK, Json(said)),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "reason": reason }))),
    }
}

async fn status<S: Subject>(State(admin): State<Admin<S>>) -> impl IntoResponse {
    Json(admin.subject.status()).into_response()
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
