//! A password that cannot be printed by accident.
//!
//! Nothing that formats or serializes a [`Secret`] shows it; the one way to the text has a name that stands out in
//! review. It is not wiped from memory when dropped: whoever can read the memory of the process has the data anyway.

use std::{convert::Infallible, fmt, str::FromStr};

use super::{Text, serde_as_text};

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; not for logs, errors or metrics.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Text for Secret {
    const EXPECTED: &'static str = "a password in quotes";
}

serde_as_text!(Secret);

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn secret_is_in_neither_display_nor_debug() {
        let secret = Secret::new("hunter2");
        assert!(!format!("{secret} {secret:?} {secret:#?}").contains("hunter2"));
        assert_eq!(secret.expose(), "hunter2");
    }
}
