//! What a person sees whose file is wrong. The texts stand here in full: they are part of the product.

use config::{NodeConfig, Report};
use serde::Deserialize;

fn report(text: &str) -> Report {
    NodeConfig::parse("us-east.toml", text).unwrap_err()
}

/// Compares a report with the text between the quotes, which begins and ends with a line break.
#[track_caller]
fn assert_shown(report: &Report, expected: &str) {
    assert_eq!(report.to_string(), expected.trim_matches('\n'), "\n{report}\n");
}

#[test]
fn misspelt_key_is_shown_with_the_one_that_was_meant() {
    assert_shown(
        &report("[slowlog]\nmax_lne = 64\n"),
        "
error: unknown key `max_lne`
 --> us-east.toml:2:1
  |
2 | max_lne = 64
  | ^^^^^^^ no such key here
  |
  = help: did you mean `max_len`? known are: `log_slower_than`, `max_len`
",
    );
}

#[test]
fn value_of_the_wrong_type_is_shown_with_an_example() {
    assert_shown(
        &report("[gateway]\nheartbeat = 50\nwindow = \"large\"\n"),
        "
error: wrong type for `heartbeat`
 --> us-east.toml:2:13
  |
2 | heartbeat = 50
  |             ^^ expected a duration, such as \"500ms\"

error: cannot use the value of `window`
 --> us-east.toml:3:10
  |
3 | window = \"large\"
  |          ^^^^^^^ not a size: write a number of bytes, or a number with a unit, such as \"64KiB\", \"512mb\" or \"2GiB\"

2 problems in us-east.toml
",
    );
}

#[test]
fn choices_are_listed_and_the_likely_one_is_named() {
    assert_shown(
        &report("log = { level = \"warning\", format = 7 }\n"),
        "
error: unknown value for `level`
 --> us-east.toml:1:17
  |
1 | log = { level = \"warning\", format = 7 }
  |                 ^^^^^^^^^ not one of the values it can have
  |
  = help: did you mean \"warn\"? known are: \"error\", \"warn\", \"info\", \"debug\", \"trace\"

error: wrong type for `format`
 --> us-east.toml:1:37
  |
1 | log = { level = \"warning\", format = 7 }
  |                                     ^ expected one of \"text\", \"json\"

2 problems in us-east.toml
",
    );
}

#[test]
fn decay_of_less_than_a_minute_is_refused_with_what_could_be_meant() {
    assert_shown(
        &report("[memory]\nlfu_decay_time = \"10s\"\n"),
        "
error: `memory.lfu_decay_time` is not a number of whole minutes
 --> us-east.toml:2:18
  |
2 | lfu_decay_time = \"10s\"
  |                  ^^^^^ idle time is counted in minutes, as in Redis
  |
  = help: write \"1m\" for the fastest decay there is, or \"0s\" for none
",
    );
}

#[test]
fn values_that_do_not_fit_one_another_are_shown_where_they_stand() {
    let text = "[region]\nid = 1\n\n[node]\ndir = \"state\"\n\n[[peer]]\nregion = \"eu-west\"\nid = 1\naddr = \"eu-west.example:7203\"\n";
    assert_shown(
        &report(text),
        "
error: there are peers, but no gateway that their links could arrive at
 --> us-east.toml:7:1
  |
7 | [[peer]]
  | ^^^^^^^^ `gateway.listen` is off
  |
  = help: set `listen` in [gateway], such as listen = \"0.0.0.0:7103\", with `cert`, `key` and `ca`

error: two regions have the id 1
 --> us-east.toml:9:6
  |
9 | id = 1
  |      ^ this is the id of this region
  |
  = help: every region has its own id

2 problems in us-east.toml
",
    );
}

#[test]
fn text_that_is_no_toml_is_shown_where_it_breaks() {
    assert_shown(
        &report("[node]\nlisten = = 3\n"),
        "
error: this is not TOML
 --> us-east.toml:2:10
  |
2 | listen = = 3
  |          ^ extra `=`, expected nothing
",
    );
}

#[test]
fn missing_file_is_named() {
    let report = NodeConfig::load("no/such/file.toml").unwrap_err();
    assert_eq!(report.problems().len(), 1);
    assert!(report.to_string().contains("no/such/file.toml"), "{report}");
}

#[test]
fn file_that_is_too_large_is_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let length = config::limits::FILE_LEN_MAX.as_u64();
    std::fs::write(file.path(), "#".repeat(length as usize + 1)).unwrap();
    assert!(NodeConfig::load(file.path()).unwrap_err().to_string().contains("larger than 1MiB"));
}

#[test]
fn file_of_nothing_but_mistakes_is_given_up_on() {
    let text: String = (0..10_000).map(|number| format!("key{number} = 1\n")).collect();
    assert_eq!(report(&text).problems().len(), config::limits::PROBLEMS);
}

#[test]
fn no_report_repeats_a_secret() {
    for text in [
        "[auth]\nrequirepas = \"hunter2\"\n",
        "[auth]\nrequirepass = hunter2\n",
        "[auth]\nrequirepass = \"hunter2\n",
        "[auth]\nrequirepass = \"hunter2\" \"\n",
        "[auth]\nrequirepass = [\"hunter2\"]\n",
        "auth = \"hunter2\"\n",
        "requirepass hunter2\n",
        "[auth]\nrequirepass = \"hunter2\"\nrequirepass_file = \"file\"\n",
    ] {
        let report = report(text);
        assert!(!report.to_string().contains("hunter2"), "{report}");
        assert!(!format!("{report:?}").contains("hunter2"), "{report:?}");
        assert!(!report.render(true).contains("hunter2"));
    }
}

#[test]
fn report_is_plain_unless_colour_is_asked_for() {
    let report = report("x = 1");
    assert!(!report.to_string().contains('\u{1b}'));
    assert!(report.render(true).contains('\u{1b}'));
}

/// A type of somebody else, who did not think of `deny_unknown_fields`.
#[derive(Debug, PartialEq, Deserialize)]
struct Topology {
    seed: Option<u64>,
    link: Vec<Link>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Link {
    from: String,
    to: (u8, f64),
    state: State,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Up,
    Slow { rate: u32 },
    Lossy(f64),
}

#[test]
fn any_type_can_be_read() {
    let text = "
        link = [
            { from = \"a\", to = [1, 0.5], state = \"up\" },
            { from = \"b\", to = [0x10, 1e3], state = { slow = { rate = 1_000 } } },
            { from = \"c\", to = [3, -inf], state = { lossy = 0.1 } },
        ]";
    let topology: Topology = config::parse("wan.toml", text).unwrap();
    assert_eq!(topology.seed, None);
    let states: Vec<_> = topology.link.into_iter().map(|link| (link.to.0, link.state)).collect();
    assert_eq!(states, [(1, State::Up), (16, State::Slow { rate: 1_000 }), (3, State::Lossy(0.1))]);
}

#[test]
fn unknown_keys_of_any_type_are_refused() {
    let text = "sede = 1\nlink = [{ from = \"a\", to = [1, 0.5], state = \"up\", color = 1 }]";
    let report = config::parse::<Topology>("wan.toml", text).unwrap_err();
    let messages: Vec<_> = report.problems().map(|problem| problem.message()).collect();
    assert_eq!(messages, ["unknown key `sede`", "unknown key `color`"]);
}

#[test]
fn what_is_missing_only_because_it_is_wrong_is_said_once() {
    let text = "[[link]]\nfrom = 1\nto = [1, 0.5]\nstate = \"up\"\n[[link]]\nfrom = \"a\"\nto = [1, 2.0]\n";
    let report = config::parse::<Topology>("wan.toml", text).unwrap_err();
    let messages: Vec<_> = report.problems().map(|problem| problem.message()).collect();
    assert_eq!(messages, ["wrong type for `from`", "`link` lacks the key `state`"]);
}

#[test]
fn checks_of_the_caller_are_reported_like_ours() {
    let text = "seed = 7\nlink = []";
    let report = config::parse_with("wan.toml", text, |topology: Topology, problems| {
        problems.require(topology.seed != Some(7), || config::Problem::new("seven is taken").at("seed"));
        topology
    });
    assert!(report.unwrap_err().to_string().contains("wan.toml:1:8"));
}
