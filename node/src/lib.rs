//! A Meridian node: the shell around [`node_core`], and the command line.
//!
//! Read [`node`] first: the assembly of the process in one function. Then `server`, the way of a request.

mod admin;
mod certificates;
pub mod cli;
mod clients;
mod cluster;
mod command;
mod gateway;
mod housekeeping;
mod lab;
mod latency;
pub mod limits;
mod links;
mod logging;
mod mark;
pub mod node;
mod parameters;
mod pause;
mod process;
mod rates;
mod regions;
mod server;
mod slowlog;
mod state;
mod stats;
mod terminal;
mod transaction;
