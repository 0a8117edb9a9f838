//! What an operator's command says, to a person or to a program.
//!
//! A person sees the plan, is asked, and then sees a bar that fills, or a line now and then where there is no terminal. A
//! program (`--json`) reads one JSON object per line: `{"plan":…}`, any number of `{"progress":…}`, and `{"result":…}` at
//! the end. Errors go to standard error in either case, and the exit code tells them apart.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    time::Instant,
};

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::{UsageError, limits};
use crate::terminal::{Line, Screen, Style, grouped};

/// How a change is asked for.
#[derive(Debug, Args)]
pub(in crate::cli) struct ChangeArgs {
    /// Go ahead without asking
    #[arg(long, short = 'y')]
    yes: bool,

    /// Show the plan and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Print the plan, the progress and the result as JSON, one object per line
    #[arg(long)]
    json: bool,
}

impl ChangeArgs {
    /// Where to speak, to standard output.
    pub(in crate::cli) fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// Whether anybody has agreed, or can be asked to.
    pub(in crate::cli) fn consent(&self) -> Consent {
        match self {
            Self { yes: true, .. } => Consent::Given,
            Self { dry_run: true, .. } => Consent::NotWanted,
            _ if io::stdin().is_terminal() => Consent::Asked,
            _ => Consent::Nobody,
        }
    }
}

/// Whether a plan is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Consent {
    /// Yes.
    Given,
    /// No: it was to be shown only.
    NotWanted,
    /// A person is asked.
    Asked,
    /// There is nobody to ask.
    Nobody,
}

/// What is about to be done.
#[derive(Debug)]
pub(in crate::cli) struct Plan {
    /// To a person.
    pub(in crate::cli) lines: Vec<Line>,
    /// To a program.
    pub(in crate::cli) json: Value,
}

/// Where a command speaks.
pub(in crate::cli) enum Output {
    /// To a person.
    Person {
        /// The terminal, or whatever standard output is.
        screen: Screen,
        /// When there was a line of progress last.
        told: Option<Instant>,
    },
    /// To a program.
    Program {
        /// Where the lines go.
        sink: Box<dyn Write + Send>,
        /// The line of progress from before.
        last: Option<Value>,
    },
}

/// The width of a bar.
const BAR: usize = 32;

impl Output {
    /// Standard output, as JSON or for a person.
    pub(in crate::cli) fn new(json: bool) -> Self {
        if json { Self::program(Box::new(io::stdout())) } else { Self::Person { screen: Screen::new(), told: None } }
    }

    /// JSON, to wherever.
    pub(in crate::cli) fn program(sink: Box<dyn Write + Send>) -> Self {
        Self::Program { sink, last: None }
    }

    /// Shows a plan, and says whether it is to be carried out.
    ///
    /// # Errors
    /// [`UsageError`] if nobody can be asked, another if somebody says no.
    pub(in crate::cli) fn agree(&mut self, plan: &Plan, consent: Consent) -> anyhow::Result<bool> {
        match self {
            Self::Person { screen, .. } => screen.say(&plan.lines)?,
            Self::Program { sink, .. } => line(sink, &json!({ "plan": plan.json }))?,
        }
        match consent {
            Consent::Given => Ok(true),
            Consent::NotWanted => Ok(false),
            Consent::Nobody => Err(UsageError::new("nobody can be asked here: give --yes to go ahead").into()),
            Consent::Asked => match ask()? {
                true => Ok(true),
                false => bail!("nothing was changed"),
            },
        }
    }

    /// Shows how far something is.
    ///
    /// # Errors
    /// Those of standard output.
    pub(in crate::cli) fn progress(&mut self, what: &str, done: usize, of: usize) -> io::Result<()> {
        match self {
            Self::Person { screen, .. } if screen.has_room_for(1) => screen.draw(&[bar(what, done, of)]),
            Self::Person { screen, told } => {
                if done < of && told.is_some_and(|told| told.elapsed() < limits::LINE_EVERY) {
                    return Ok(());
                }
                *told = Some(Instant::now());
                screen.say(&[Line::default().with(Style::Plain, format!("{what}: {done} of {of}"))])
            }
            Self::Program { sink, last } => {
                let progress = json!({ "progress": { "what": what, "done": done, "of": of } });
                if last.as_ref() == Some(&progress) {
                    return Ok(());
                }
                line(sink, last.insert(progress))
            }
        }
    }

    /// Says what has come of it all.
    ///
    /// # Errors
    /// Those of standard output.
    pub(in crate::cli) fn result(&mut self, text: &str, json: impl Serialize) -> io::Result<()> {
        self.table(&[Line::default().with(Style::Good, text)], &json!({ "result": json }))
    }

    /// Shows lines to a person, or JSON to a program.
    ///
    /// # Errors
    /// Those of standard output.
    pub(in crate::cli) fn table(&mut self, lines: &[Line], json: &Value) -> io::Result<()> {
        match self {
            Self::Person { screen, .. } => screen.say(lines),
            Self::Program { sink, .. } => line(sink, json),
        }
    }
}

fn line(sink: &mut dyn Write, json: &Value) -> io::Result<()> {
    writeln!(sink, "{json}")?;
    sink.flush()
}

/// Asks on standard error, so that standard output holds results alone.
fn ask() -> io::Result<bool> {
    eprint!("Go ahead? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn bar(what: &str, done: usize, of: usize) -> Line {
    let filled = (BAR * done.min(of)).checked_div(of).unwrap_or(BAR);
    let count = format!("  {} of {}", grouped(done as u64), grouped(of as u64));
    let line = Line::default().with(Style::Plain, format!("{what} "));
    let line = line.with(Style::Good, "█".repeat(filled)).with(Style::Dim, "░".repeat(BAR - filled));
    line.with(Style::Plain, count)
}

#[cfg(test)]
mod tests {
    use super::{Consent, Output, Plan, UsageError, bar};
    use crate::cli::cluster::tests::Sink;

    #[test]
    fn a_bar_fills_from_the_left() {
        let texts = [(0, 8), (4, 8), (9, 8), (0, 0)].map(|(done, of)| bar("moving", done, of).print(80, false));
        let filled: Vec<_> = texts.iter().map(|text| text.matches('█').count()).collect();
        assert_eq!(filled, [0, 16, 32, 32]);
        assert!(texts.iter().all(|text| text.chars().filter(|c| "█░".contains(*c)).count() == 32));
    }

    #[test]
    fn a_program_reads_each_progress_once() {
        let sink = Sink::default();
        let mut output = Output::program(Box::new(sink.clone()));
        for done in [0, 0, 1, 1, 2] {
            output.progress("moving", done, 2).unwrap();
        }
        output.result("done", serde_json::json!({ "epoch": 3 })).unwrap();
        let lines = sink.lines();
        let done: Vec<_> = lines.iter().filter_map(|line| line["progress"]["done"].as_u64()).collect();
        assert_eq!((done, lines.last().unwrap()["result"]["epoch"].as_u64()), (vec![0, 1, 2], Some(3)));
    }

    #[test]
    fn without_consent_nothing_is_carried_out() {
        let sink = Sink::default();
        let mut output = Output::program(Box::new(sink.clone()));
        let plan = Plan { lines: Vec::new(), json: serde_json::json!({ "moves": 1 }) };
        assert!(output.agree(&plan, Consent::Given).unwrap());
        assert!(!output.agree(&plan, Consent::NotWanted).unwrap());
        assert!(output.agree(&plan, Consent::Nobody).unwrap_err().is::<UsageError>());
        // Whatever is decided, the plan was shown.
        assert!(sink.lines().len() == 3 && sink.lines().iter().all(|line| line["plan"]["moves"] == 1));
    }
}
