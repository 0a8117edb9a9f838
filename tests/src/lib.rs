//! The tools of the cross-region suite: real regions, really cut apart.
//!
//! The tests beside this crate run whole regions as processes that know nothing of being tested, joined through a
//! simulated WAN, and look at them from outside alone: as clients, through Redis's protocol; as operators, through the
//! admin port and Prometheus; as a digger in a cable trench, through the control of the WAN; and as a power cut, through
//! SIGKILL. What they find holds for what is shipped.
//!
//! # How a test is written
//! [`with_lab`] starts a lab of its own (`meridian lab --json`), on ports that nobody else has, and hands it to the test;
//! if the test fails, the last words of every process are in the message. All waiting is for a condition, with a generous
//! deadline that is no claim about speed ([`until`]). What is random says its seed, and how to replay it ([`Seed`]).
//!
//! # What is left out on purpose
//! Speed, which benches measure. And whatever needs thousands of schedules to be found: the simulated suite runs
//! those, in virtual time; here a few runs show that the real thing is put together right.

mod binary;
mod client;
pub mod decoders;
mod entries;
mod http;
mod lab;
mod load;
mod machines;
mod members;
mod newcomer;
mod node;
mod operator;
mod process;
mod region;
mod seed;
mod verified;
mod wait;
mod wan;

pub use binary::meridian;
pub use client::{Client, Failure, check_redirections_alone};
pub use entries::{Entry, delete, entries, set, until_same_entries};
pub use http::read_json;
pub use lab::{Lab, of_one_node, with_lab};
pub use load::{Load, Promise, Written};
pub use machines::{Machines, OneWayCut, has_namespaces, with_machines};
pub use members::{Member, key_of, members, until_feeds, until_follows, until_members};
pub use node::{LinkIn, LinkOut, Links, Node, Status};
pub use operator::{fail_over, operate, operate_regions};
pub use process::{CpuTime, Frozen, Leashed, is_running, kill, pin, terminate, until_gone};
pub use region::{Gateway, Region};
pub use seed::Seed;
pub use verified::{Differing, Said, Verified, verify};
pub use wait::{DEADLINE, until};
pub use wan::Wan;

/// Says something that is worth reading also when the test passes.
pub fn note(text: &str) {
    use std::io::Write;
    // Straight to the terminal: the test harness swallows what a passing test prints. A closed one is no failure.
    let _ = writeln!(std::io::stderr(), "{text}");
}
