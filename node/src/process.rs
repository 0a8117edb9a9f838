//! What the kernel says of this process: memory and processor time, from /proc, and how many files it may open.
//!
//! Asked only when somebody wants to know. Where /proc is missing, all is zero.

use std::{fs, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Clock ticks per second of the times in /proc: the same on every Linux (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Raises the number of files that the process may open as far as it can without privileges. The usual soft limit of
/// 1,024 is there for programs that use `select`; a tenth of the clients that Redis allows would meet it. Returns
/// the limit that holds; `None` if there is none.
pub(crate) fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit on open files");
            limit.current
        }
    }
}

/// Bytes of memory that the process holds: its resident set.
pub(crate) fn resident_bytes() -> u64 {
    field_kib("/proc/self/status", "VmRSS:") * 1_024
}

/// Bytes of memory of the machine.
pub(crate) fn machine_bytes() -> u64 {
    field_kib("/proc/meminfo", "MemTotal:") * 1_024
}

/// Processor time so far, in user mode and in the kernel.
pub(crate) fn cpu_times() -> (Duration, Duration) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, in parentheses, may hold blanks; utime and stime are the 14th and the 15th of all.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut time = || {
        let ticks: u64 = fields.next().and_then(|ticks| ticks.parse().ok()).unwrap_or_default();
        Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
    };
    (time(), time())
}

fn field_kib(file: &str, name: &str) -> u64 {
    let content = fs::read_to_string(file).unwrap_or_default();
    let line = content.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_knows_this_process() {
        assert!(super::resident_bytes() > 0);
        assert!(super::machine_bytes() > super::resident_bytes());
    }
}
