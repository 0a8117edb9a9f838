//! The terminal: lines that stay, and below them a block that is drawn again and again.
//!
//! Nothing but three old escape sequences (up, to the start of a line, clear to the end) is used, and the whole block is written at
//! once, so that nothing flickers. Without a terminal, or on one that is too low for the block, there is no block.

use std::io::{self, IsTerminal, Write};

use super::paint::{self, Line};

/// The width of lines that go to a file or a pipe.
const WIDTH_OF_NO_TERMINAL: usize = usize::MAX;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    is_terminal: bool,
    colour: bool,
    /// How many lines of the block are on the screen, below which the cursor stands.
    drawn: usize,
}

impl Screen {
    /// Looks at what standard output is.
    pub(crate) fn new() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), colour: paint::colour_wanted(), drawn: 0 }
    }

    /// Whether a block of this many lines can be drawn in place.
    pub(crate) fn has_room_for(&self, lines: usize) -> bool {
        let (_, height) = self.size();
        self.is_terminal && lines < height
    }

    /// Prints lines that stay. A block that was drawn goes.
    ///
    /// # Errors
    /// Those of standard output.
    pub(crate) fn say(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = self.erase();
        self.append(&mut text, lines);
        write(&text)
    }

    /// Draws the block anew, in place.
    ///
    /// # Errors
    /// Those of standard output.
    pub(crate) fn draw(&mut self, block: &[Line]) -> io::Result<()> {
        let mut text = self.erase();
        self.append(&mut text, block);
        self.drawn = block.len();
        write(&text)
    }

    /// What moves to the start of the block and clears from there.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }

    fn append(&self, text: &mut String, lines: &[Line]) {
        let (width, _) = self.size();
        for line in lines {
            text.push_str(&line.print(width, self.colour));
            text.push('\n');
        }
    }

    /// Columns and rows; of a terminal that does not say, those of the oldest.
    fn size(&self) -> (usize, usize) {
        if !self.is_terminal {
            return (WIDTH_OF_NO_TERMINAL, 0);
        }
        let size = terminal_size::terminal_size();
        size.map_or((80, 24), |(columns, rows)| (usize::from(columns.0), usize::from(rows.0)))
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
