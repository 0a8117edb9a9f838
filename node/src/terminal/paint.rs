//! Lines with colours, cut to the width of a terminal.
//!
//! A line is built of plain words and their styles, and becomes escape sequences only when it is printed. So it can be
//! measured, cut and tested as plain text. Colour is left out where nobody would see it: into a file, on a dumb terminal,
//! or where `NO_COLOR` asks for that (<https://no-color.org>).

use std::{env, io::IsTerminal};

/// How a word looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As the terminal has it.
    Plain,
    /// What stands out.
    Bold,
    /// What can be overlooked.
    Dim,
    /// All is well.
    Good,
    /// Something is going on.
    Warn,
    /// Something is wrong.
    Bad,
}

impl Style {
    /// The parameters of the escape sequence `SGR`: the eight basic colours, which follow the terminal's theme.
    fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        }
    }
}

/// One line of words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    words: Vec<(Style, String)>,
}

impl Line {
    /// Adds text as it stands.
    #[must_use]
    pub(crate) fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.words.push((style, text.into()));
        self
    }

    /// Adds text at the left of a column of this width.
    #[must_use]
    pub(crate) fn left(self, style: Style, width: usize, text: &str) -> Self {
        self.with(style, format!("{text:<width$}"))
    }

    /// Adds text at the right of a column of this width.
    #[must_use]
    pub(crate) fn right(self, style: Style, width: usize, text: &str) -> Self {
        self.with(style, format!("{text:>width$}"))
    }

    /// The line as it is printed: of at most `width` characters, with colours or without, without spaces at its end.
    pub(crate) fn print(&self, width: usize, colour: bool) -> String {
        let mut printed = String::new();
        let mut room = width;
        let last = self.words.len().saturating_sub(1);
        for (index, (style, text)) in self.words.iter().enumerate() {
            let text: String = text.chars().take(room).collect();
            room -= text.chars().count();
            let text = if index == last { text.trim_end() } else { &text };
            if colour && *style != Style::Plain && !text.trim().is_empty() {
                printed.push_str(&format!("\x1b[{}m{text}\x1b[0m", style.sgr()));
            } else {
                printed.push_str(text);
            }
        }
        printed
    }
}

/// A number with a comma at each thousand.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Whether colours are wanted on standard output.
pub(crate) fn colour_wanted() -> bool {
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdout().is_terminal() && !no_color && !dumb
}

#[cfg(test)]
mod tests {
    use super::{Line, Style, grouped};

    #[test]
    fn line_is_cut_to_the_width_whatever_its_colours() {
        let line = Line::default().left(Style::Good, 6, "up").with(Style::Dim, "→ 50 ms");
        assert_eq!(line.print(80, false), "up    → 50 ms");
        assert_eq!(line.print(8, false), "up    →");
        assert_eq!(line.print(8, true), "\x1b[32mup    \x1b[0m\x1b[2m→\x1b[0m");
        assert_eq!(line.print(0, true), "");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
