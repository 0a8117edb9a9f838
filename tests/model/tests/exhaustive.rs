//! x
use meridian_model::{Checked, configurations::{self, Budget, Clocks::{self, Agree, Drift}, QUIET, three, with_frontier}, rules::{Broken, Rules}};
use stateright::{Checker, Model};

#[test]
fn as_designed() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let secs: u64 = std::env::var("SECS").map_or(25, |s| s.parse().unwrap());
    for configuration in configurations::ALL.into_iter().filter(|c| c.name.contains(&only)) {
        let start = std::time::Instant::now();
        let model = Checked { configuration, rules: Rules::DESIGN, symmetric: true };
        let checker = model.checker().threads(2).timeout(std::time::Duration::from_secs(secs)).finish_when(stateright::HasDiscoveries::AnyFailures).spawn_bfs().join();
        println!(
            "{}: {} states, {} generated, depth {}, {:.1?}",
            configuration.name,
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth(),
            start.elapsed()
        );
        print(checker);
    }
}

fn print(checker: impl Checker<Checked>) {
        for (name, path) in checker.discoveries() {
            if name.starts_with("everything") { continue; }
            println!("** {name}");
            for (state, action) in path.into_vec() {
                for r in &state.regions { println!("      {:?} floor {} seen {:?} heard {:?} frontier {}", r.held.map(|h| (h.entry.map(|e| (e.time.0, e.kind)), h.logged.0, h.known.0)), r.floor.0, r.seen.map(|t| t.0), r.heard.map(|t| t.0), r.frontier.0); }
                println!("   {action:?}");
            }
        }
}

#[test]
fn broken() {
    let s = |b| three("", Agree, b);
    let f = |b| with_frontier("", Agree, b);
    let one = Budget { writes: 1, deletes: 1, early: 1, ..QUIET };
    let t = [
        (Broken::NoFloor, s(Budget { late: 1, ..one })),
        (Broken::NoReset, s(one)),
        (Broken::FreeForget, s(one)),
        (Broken::FreeAtFrontier, f(Budget { writes: 1, deletes: 1, late: 1, ..QUIET })),
        (Broken::FloorFalls, s(Budget { deletes: 2, early: 2, ..one })),
        (Broken::NoDeleteOfAbsent, s(Budget { writes: 1, deletes: 1, ..QUIET })),
        (Broken::OriginScan, s(one)),
        (Broken::SameOrigin, s(Budget { writes: 1, failovers: 1, ..QUIET })),
        (Broken::ArrivalDecides, s(Budget { writes: 1, evictions: 1, ..QUIET })),
        (Broken::LastArrivalWins, s(Budget { writes: 2, ..QUIET })),
        (Broken::FrontierOfOneRegion, f(Budget { writes: 1, deletes: 1, ..QUIET })),
        (Broken::FrontierOfOwnOrigins, f(Budget { writes: 1, deletes: 1, ..QUIET })),
        (Broken::SeenFirst, s(Budget { writes: 1, ..QUIET })),
        (Broken::TailWithoutReplacements, s(Budget { writes: 2, ..QUIET })),
        (Broken::TailPassesOverForgotten, s(one)),
        (Broken::WholeDropsNothing, s(one)),
        (Broken::WholeWithoutFloor, s(one)),
        (Broken::HeardIsIgnored, s(Budget { records: 1, crashes: 1, ..one })),
        (Broken::NobodySendsOrphans, s(Budget { crashes: 1, ..one })),
        (Broken::StampUnderFloor, three("", Drift, one)),
        (Broken::StampUnderHeld, three("", Drift, one)),
        (Broken::ScanClaimsItsEnd, s(Budget { walks: 1, ..one })),
        (Broken::ScanGoesOn, s(Budget { walks: 1, ..one })),
    ];
    let only = std::env::var("ONLY").unwrap_or_default();
    for (broken, configuration) in t {
        if !format!("{broken:?}").contains(&only) { continue; }
        let start = std::time::Instant::now();
        let model = Checked { configuration, rules: Rules::but(broken), symmetric: false };
        let checker = model.checker().threads(1).timeout(std::time::Duration::from_secs(60)).finish_when(stateright::HasDiscoveries::AnyFailures).spawn_bfs().join();
        println!(
            "{:?}: {} states, {} generated, depth {}, {:.1?}",
            broken,
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth(),
            start.elapsed()
        );
        if only.is_empty() { println!("    {:?}", checker.discoveries().iter().filter(|(n, _)| !n.starts_with("every")).map(|(n, p)| format!("{n}: {:?}", p.clone().into_actions())).collect::<Vec<_>>()); }
        else { print(checker); }
    }
}
