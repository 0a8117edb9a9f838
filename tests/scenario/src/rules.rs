//! Alert rules in a hurry: those that are shipped, with shorter times, for a run that takes seconds.
//!
//! Every `for:` and `interval:` is divided, and scraping is as much faster. Thresholds and ranges stay, so that what fires is what
//! would fire.

use std::fmt::Display;

/// How often Prometheus is meant to scrape, in milliseconds.
const SCRAPE_MS: u64 = 5_000;

/// A duration of the rules that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration of whole seconds or minutes: {0}")]
pub struct InvalidDuration(String);

/// The rules, with every `for:` and `interval:` divided.
///
/// # Errors
/// If one of them is no whole number of seconds or minutes.
pub fn faster(rules: &str, divisor: u64) -> Result<String, InvalidDuration> {
    let line = |line: &str| {
        let Some((key, time)) = line.split_once(": ").filter(|(key, _)| matches!(key.trim(), "for" | "interval"))
        else {
            return Ok(line.to_owned());
        };
        let whole = |digits: &str| digits.parse::<u64>().map_err(|_| InvalidDuration(line.to_owned()));
        let seconds = match (time.trim().strip_suffix('s'), time.trim().strip_suffix('m')) {
            (Some(seconds), _) => whole(seconds)?,
            (_, Some(minutes)) => 60 * whole(minutes)?,
            _ => return Err(InvalidDuration(line.to_owned())),
        };
        Ok(format!("{key}: {}ms", seconds * 1_000 / divisor))
    };
    Ok(rules.lines().map(line).collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// The configuration of a Prometheus that has these rules in `rules.yml` and scrapes these addresses, each of a region.
pub fn scraping(targets: impl IntoIterator<Item = (impl Display, impl Display)>, divisor: u64) -> String {
    let target = |(region, address)| format!("{{ targets: [\"{address}\"], labels: {{ region: \"{region}\" }} }}");
    let targets: Vec<_> = targets.into_iter().map(target).collect();
    format!(
        "global: {{ scrape_interval: {ms}ms, scrape_timeout: {ms}ms, evaluation_interval: {ms}ms }}\n\
         rule_files: [rules.yml]\n\
         scrape_configs: [{{ job_name: meridian, static_configs: [{targets}] }}]\n",
        ms = SCRAPE_MS / divisor,
        targets = targets.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::{faster, scraping};

    #[test]
    fn times_are_divided_and_nothing_else() {
        let rules = "- alert: A\n  expr: x > 10\n  for: 10s\n- alert: B\n  for: 2m\n";
        assert_eq!(faster(rules, 5).unwrap(), "- alert: A\n  expr: x > 10\n  for: 2000ms\n- alert: B\n  for: 24000ms");
        assert!(faster("for: soon", 5).is_err());
        assert!(faster(config::ALERT_RULES, 5).unwrap().contains("for: "));
    }

    #[test]
    fn every_target_is_scraped() {
        let config = scraping([("us-east", "127.0.0.1:1"), ("eu-west", "127.0.0.1:2")], 5);
        assert!(config.contains("scrape_interval: 1000ms"), "{config}");
        for target in [
            r#"{ targets: ["127.0.0.1:1"], labels: { region: "us-east" } }"#,
            r#"{ targets: ["127.0.0.1:2"], labels: { region: "eu-west" } }"#,
        ] {
            assert!(config.contains(target), "{config}");
        }
    }
}
