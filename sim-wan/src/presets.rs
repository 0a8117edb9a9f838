//! WANs with a name, so that nobody has to look up how far Mumbai is from Sao Paulo.
//!
//! - `lab`: round figures that are easy to reckon with when one watches a lag: us-east to eu-west 50 ms, eu-west to
//!   ap-south 100 ms, us-east to ap-south 150 ms, one way. Any other name is a region too: it gets its place on a ring by
//!   the hash of its name, and a delay of 50 to 200 ms by the distance, the same on every machine and in every run.
//! - `world`: measured round trips between eight cities, halved. The way there and the way back may differ a little.
//! - `none`: no delay at all, for those who want only the faults.
//!
//! A preset gives delays; jitter, rate and loss are for the file or for the control API.

use xxhash_rust::xxh3::xxh3_64;

use crate::{model::Delay, topology::LinkSpec};

/// The names of the presets.
pub const NAMES: [&str; 3] = ["lab", "world", "none"];

/// The links of a preset between all of these regions, each ordered pair once, in the order of the regions.
///
/// # Errors
/// [`PresetError`] if there is no such preset, or if it does not know a region, or if a region is named twice.
pub fn preset(name: &str, regions: &[String]) -> Result<Vec<LinkSpec>, PresetError> {
    let delay_ms: fn(&str, &str) -> Result<f64, PresetError> = match name {
        "lab" => |from, to| Ok(lab_ms(from, to)),
        "world" => world_ms,
        "none" => |_, _| Ok(0.0),
        _ => return Err(PresetError::UnknownPreset { name: name.to_owned() }),
    };
    let mut links = Vec::with_capacity(regions.len() * regions.len().saturating_sub(1));
    for (index, from) in regions.iter().enumerate() {
        if regions[..index].contains(from) {
            return Err(PresetError::RegionTwice { region: from.clone() });
        }
        for to in regions.iter().filter(|&to| to != from) {
            let delay = Delay::from_ms(delay_ms(from, to)?).expect("every delay of a preset lies below a second");
            links.push(LinkSpec::with_delay(from, to, delay));
        }
    }
    Ok(links)
}

/// Why there are no such links.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// No preset of this name.
    #[error("there is no WAN preset {name:?}; the presets are {}", NAMES.join(", "))]
    UnknownPreset {
        /// The name that was given.
        name: String,
    },
    /// The preset `world` knows no such place.
    #[error("preset world knows no region {region:?}; it knows {}", known_places().join(", "))]
    UnknownRegion {
        /// The name that was given.
        region: String,
    },
    /// A region stands twice in the list.
    #[error("region {region:?} is named twice")]
    RegionTwice {
        /// Its name.
        region: String,
    },
}

const LAB: [(&str, &str, f64); 3] =
    [("us-east", "eu-west", 50.0), ("eu-west", "ap-south", 100.0), ("us-east", "ap-south", 150.0)];

/// The least delay between two regions that `lab` has no figure for, and what the longest way adds to it.
const LAB_NEAREST_MS: f64 = 50.0;
const LAB_SPREAD_MS: f64 = 150.0;

fn lab_ms(from: &str, to: &str) -> f64 {
    let fixed = LAB.iter().find(|(a, b, _)| (*a, *b) == (from, to) || (*a, *b) == (to, from));
    if let Some((_, _, ms)) = fixed {
        return *ms;
    }
    let apart = place_on_ring(from).abs_diff(place_on_ring(to));
    let shorter = apart.min(RING - apart);
    // Half the ring is the longest way. In whole milliseconds, which are easier to reckon with.
    (LAB_NEAREST_MS + LAB_SPREAD_MS * shorter as f64 / (RING / 2) as f64).round()
}

const RING: u64 = 1 << 32;

fn place_on_ring(region: &str) -> u64 {
    xxh3_64(region.as_bytes()) % RING
}

/// The cities in the order of [`ROUND_TRIP_MS`], and the names under which cloud regions near them go.
const PLACES: [(&str, &[&str]); 8] = [
    ("dallas", &["us-south", "us-central"]),
    ("washington", &["us-east"]),
    ("frankfurt", &["eu-central"]),
    ("london", &["eu-west"]),
    ("mumbai", &["ap-south"]),
    ("sydney", &["ap-southeast"]),
    ("tokyo", &["ap-northeast"]),
    ("sao-paulo", &["sa-east"]),
];

/// Round trips in milliseconds, from the row to the column: averages that IBM Cloud published for July and August 2026.
/// From elsewhere to Dallas nothing was published; the way from Dallas is taken.
const ROUND_TRIP_MS: [[u16; 8]; 8] = [
    [0, 32, 123, 113, 249, 186, 145, 142],
    [32, 0, 86, 76, 218, 215, 142, 122],
    [123, 86, 0, 13, 118, 250, 229, 191],
    [113, 76, 13, 0, 118, 261, 238, 181],
    [249, 218, 118, 118, 0, 152, 132, 338],
    [186, 215, 250, 261, 152, 0, 101, 325],
    [145, 139, 228, 239, 131, 101, 0, 284],
    [142, 124, 192, 181, 338, 325, 283, 0],
];

fn world_ms(from: &str, to: &str) -> Result<f64, PresetError> {
    let [from, to] = [place(from)?, place(to)?];
    Ok(f64::from(ROUND_TRIP_MS[from][to]) / 2.0)
}

fn place(region: &str) -> Result<usize, PresetError> {
    let found = PLACES.iter().position(|(city, aliases)| *city == region || aliases.contains(&region));
    found.ok_or_else(|| PresetError::UnknownRegion { region: region.to_owned() })
}

fn known_places() -> Vec<String> {
    PLACES.iter().map(|(city, aliases)| format!("{city} ({})", aliases.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::{NAMES, PLACES, PresetError, ROUND_TRIP_MS, lab_ms, preset};

    fn names(regions: &[&str]) -> Vec<String> {
        regions.iter().map(|&region| region.to_owned()).collect()
    }

    fn delay_ms(name: &str, from: &str, to: &str) -> f64 {
        preset(name, &names(&[from, to])).unwrap()[0].delay.ms()
    }

    #[test]
    fn lab_has_round_figures_for_the_three_regions_of_the_examples() {
        let links = preset("lab", &names(&["us-east", "eu-west", "ap-south"])).unwrap();
        assert_eq!(links.len(), 6);
        for (from, to, ms) in
            [("us-east", "eu-west", 50.0), ("eu-west", "ap-south", 100.0), ("ap-south", "us-east", 150.0)]
        {
            assert_eq!(delay_ms("lab", from, to), ms);
            assert_eq!(delay_ms("lab", to, from), ms);
        }
    }

    #[test]
    fn lab_gives_any_two_regions_a_delay_of_fifty_to_two_hundred_milliseconds() {
        for a in 0..40 {
            for b in 0..a {
                let [a, b] = [format!("region-{a}"), format!("region-{b}")];
                let ms = lab_ms(&a, &b);
                assert!((50.0..=200.0).contains(&ms), "{a} {b}: {ms}");
                assert_eq!(ms, lab_ms(&b, &a));
            }
        }
    }

    #[test]
    fn world_is_half_of_the_published_round_trips() {
        assert_eq!(delay_ms("world", "frankfurt", "london"), 6.5);
        assert_eq!(delay_ms("world", "us-east", "ap-south"), 109.0);
        assert_eq!(delay_ms("world", "tokyo", "washington"), 69.5);
        for (row, (city, _)) in PLACES.iter().enumerate() {
            for (column, (other, _)) in PLACES.iter().enumerate().filter(|&(column, _)| column != row) {
                let back = ROUND_TRIP_MS[column][row];
                assert!(ROUND_TRIP_MS[row][column].abs_diff(back) <= 4, "{city} {other}");
            }
        }
    }

    #[test]
    fn every_named_preset_exists_and_every_other_is_refused_by_name() {
        for name in NAMES {
            assert_eq!(preset(name, &names(&["us-east", "eu-west"])).unwrap().len(), 2);
        }
        let unknown = preset("mars", &[]).unwrap_err().to_string();
        assert_eq!(unknown, "there is no WAN preset \"mars\"; the presets are lab, world, none");
        let region = preset("world", &names(&["us-east", "atlantis"])).unwrap_err();
        assert!(region.to_string().contains("\"atlantis\"; it knows dallas (us-south, us-central), washington"));
        let twice = preset("lab", &names(&["a", "b", "a"])).unwrap_err();
        assert_eq!(twice, PresetError::RegionTwice { region: "a".to_owned() });
    }
}
