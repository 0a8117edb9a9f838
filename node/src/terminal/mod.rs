//! What a person sees on a terminal: lines with colours, and a block that is drawn again and again.
//!
//! `paint` makes the lines, which can be tested as plain text; `screen` is the terminal itself. Used by the lab and by
//! the commands that operate a cluster.

mod paint;
mod screen;

pub(crate) use self::{
    paint::{Line, Style, grouped},
    screen::Screen,
};
