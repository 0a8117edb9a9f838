//! What can be wrong with one entry of a document, kept as data until it is put into words.
//!
//! serde lets a format bring its own error type, and hands it the facts: the key that is unknown and the keys that are
//! known, what was found and what was expected. Formats commonly flatten these into a sentence at once. [`Fault`] keeps
//! them, which is what makes "did you mean" and the list of choices possible for every type that is ever loaded.

use std::{fmt, ops::Range};

use serde::de;

use crate::report::Problem;

/// Why a document could not be read into a type, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) place: Option<Place>,
}

/// The entry that a fault is about.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where the entry begins; identifies it, since no two entries begin at one offset.
    pub(crate) entry: usize,
    /// What to point at.
    pub(crate) span: Range<usize>,
    /// How to call it.
    pub(crate) name: String,
}

#[derive(Debug)]
pub(crate) enum FaultKind {
    UnknownKey {
        key: String,
        known: &'static [&'static str],
    },
    UnknownVariant {
        found: String,
        known: &'static [&'static str],
    },
    MissingKey(&'static str),
    WrongType {
        expected: String,
    },
    OutOfRange {
        expected: String,
    },
    Refused(String),
    /// Follows from another fault, which is reported already.
    Consequence,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind) -> Self {
        Self { kind, place: None }
    }

    /// Says where, unless something further in already did.
    pub(crate) fn or_at(mut self, place: impl FnOnce() -> Place) -> Self {
        self.place.get_or_insert_with(place);
        self
    }

    /// Puts the fault into words; `None` if it only follows from another.
    pub(crate) fn into_problem(self) -> Option<Problem> {
        let name = self.place.as_ref().map_or("the file", |place| place.name.as_str());
        let problem = match self.kind {
            FaultKind::Consequence => return None,
            FaultKind::UnknownKey { key, known } => Problem::new(format!("unknown key `{key}`"))
                .label("no such key here")
                .help(nearest(&key, known, |word| format!("`{word}`"))),
            FaultKind::UnknownVariant { found, known } => Problem::new(format!("unknown value for `{name}`"))
                .label("not one of the values it can have")
                .help(nearest(&found, known, |word| format!("\"{word}\""))),
            FaultKind::MissingKey(key) => Problem::new(format!("`{name}` lacks the key `{key}`"))
                .label(format!("`{key}` is required here"))
                .help(format!("add a line `{key} = …`")),
            FaultKind::WrongType { expected } => {
                Problem::new(format!("wrong type for `{name}`")).label(format!("expected {expected}"))
            }
            FaultKind::OutOfRange { expected } => {
                Problem::new(format!("`{name}` is out of range")).label(format!("expected {expected}"))
            }
            FaultKind::Refused(message) => Problem::new(format!("cannot use the value of `{name}`")).label(message),
        };
        Some(match self.place {
            Some(place) => problem.at_span(place.span),
            None => problem,
        })
    }
}

/// The words as a list, each in its quotes.
pub(crate) fn list(words: &[&str], quote: impl Fn(&str) -> String) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(", ")
}

/// "did you mean" if a known word is near, and the list of all of them.
fn nearest(found: &str, known: &[&str], quote: impl Fn(&str) -> String) -> String {
    let list = list(known, &quote);
    let found = found.to_lowercase().replace('-', "_");
    let similarity = |word: &str| {
        let word = word.replace('-', "_");
        let part = found.len() >= MIN_PART && word.contains(&found);
        if part { 1.0 } else { strsim::jaro_winkler(&found, &word) }
    };
    let best = known.iter().rev().map(|word| (similarity(word), word)).max_by(|(a, _), (b, _)| a.total_cmp(b));
    match best {
        Some((similarity, word)) if similarity >= MIN_SIMILARITY => {
            format!("did you mean {}? known are: {list}", quote(word))
        }
        _ => format!("known are: {list}"),
    }
}

/// From this Jaro-Winkler similarity on, a word is worth suggesting. At 0.8 one or two slips in a word of ten letters
/// are caught, and words that merely share a prefix are not.
const MIN_SIMILARITY: f64 = 0.8;

/// From this many letters on, a part of a word stands for the whole: `lru` for `allkeys-lru`.
const MIN_PART: usize = 3;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(FaultKind::Refused(message.to_string()))
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(FaultKind::WrongType { expected: in_plain_words(&expected.to_string()) })
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(FaultKind::OutOfRange { expected: in_plain_words(&expected.to_string()) })
    }

    fn invalid_length(_: usize, expected: &dyn de::Expected) -> Self {
        Self::new(FaultKind::OutOfRange { expected: in_plain_words(&expected.to_string()) })
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownVariant { found: found.to_owned(), known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownKey { key: key.to_owned(), known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(FaultKind::MissingKey(key))
    }
}

/// What serde calls by the names of Rust, in the words of a person who edits a file. Our own types say it themselves.
fn in_plain_words(expected: &str) -> String {
    let words = match expected {
        "u8" => "a whole number from 0 to 255, such as 8",
        "u16" => "a whole number from 0 to 65535, such as 8",
        "u32" | "u64" | "usize" => "a whole number, not negative, such as 8",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number, such as 8",
        "f32" | "f64" => "a number, such as 0.5",
        "a boolean" => "true or false",
        "a string" | "path string" | "a character" => "text in quotes, such as \"text\"",
        "a sequence" => "a list, such as [1, 2]",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table of keys and values",
        other if other.starts_with("enum ") => "one of its values in quotes",
        other => other,
    };
    words.to_owned()
}
