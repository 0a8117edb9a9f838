//! What is wrong with a configuration, where, and what would be right: all of it at once.
//!
//! A [`Report`] is the error of everything in this crate that reads. It shows each problem as compilers do, with file,
//! line, column and the line itself, since whoever meets it is editing that file. A problem that was not caused by the
//! file but by a flag or by the environment says so instead. No report ever repeats a secret.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IsTerminal, Write},
    ops::Range,
};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::{document::Document, limits, redact};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    message: String,
    label: Option<String>,
    help: Option<String>,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Path(String),
    Span(Range<usize>),
}

impl Problem {
    /// A problem, in a sentence without a full stop: what is wrong.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), label: None, help: None, place: Place::Nowhere }
    }

    /// The dotted path of the key that it is about, such as `peer.0.id`.
    #[must_use]
    pub fn at(self, path: impl Into<String>) -> Self {
        Self { place: Place::Path(path.into()), ..self }
    }

    /// What stands at the arrow.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// What would be right.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    pub(crate) fn at_span(self, span: Range<usize>) -> Self {
        Self { place: Place::Span(span), ..self }
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The problems found so far; a check adds to it and goes on.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    /// What set a path, where it was not the file.
    set_elsewhere: BTreeMap<String, String>,
}

impl Problems {
    /// Notes a problem.
    pub fn add(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Notes `problem` unless `holds`.
    pub fn require(&mut self, holds: bool, problem: impl FnOnce() -> Problem) {
        if !holds {
            self.add(problem());
        }
    }

    /// Whether there is no point in looking for more.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= limits::PROBLEMS
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Notes that the value at `path` is not that of the file, and who set it.
    pub(crate) fn set_elsewhere(&mut self, path: &str, by: impl Into<String>) {
        self.set_elsewhere.insert(path.to_owned(), by.into());
    }

    /// Who set the value at `path` or the list that it is in, if it was not the file.
    fn setter(&self, path: &str) -> Option<&str> {
        let within = |whole: &str| path == whole || path.strip_prefix(whole).is_some_and(|rest| rest.starts_with('.'));
        self.set_elsewhere.iter().find(|(whole, _)| within(whole)).map(|(_, by)| by.as_str())
    }

    /// The report on `text`, or nothing if nothing is wrong.
    pub(crate) fn into_report(self, file: &str, text: &str, document: Option<&Document<'_>>) -> Result<(), Report> {
        if self.list.is_empty() {
            return Ok(());
        }
        let mut findings: Vec<_> = self
            .list
            .iter()
            .map(|problem| {
                let (span, setter) = match &problem.place {
                    Place::Nowhere => (None, None),
                    Place::Span(span) => (Some(span.clone()), None),
                    Place::Path(path) => match self.setter(path) {
                        Some(setter) => (None, Some(setter.to_owned())),
                        None => (document.and_then(|document| document.locate(path)), None),
                    },
                };
                Finding { problem: problem.clone(), span, setter }
            })
            .collect();
        findings.sort_by_key(|finding| finding.span.as_ref().map(|span| (span.start, span.end)));
        Err(Report { file: file.to_owned(), text: redact::mask(text).into_owned(), findings })
    }
}

/// A problem, and where it turned out to be.
#[derive(Clone, Debug)]
struct Finding {
    problem: Problem,
    span: Option<Range<usize>>,
    setter: Option<String>,
}

/// Everything that is wrong with one configuration.
///
/// `Display` is the plain form; [`eprint`](Self::eprint) colours it on a terminal.
#[derive(Clone, Debug)]
pub struct Report {
    file: String,
    /// The text of the file, secrets masked.
    text: String,
    findings: Vec<Finding>,
}

impl Report {
    /// A report of one problem with a file as a whole.
    pub(crate) fn of_file(file: &str, problem: Problem) -> Self {
        let finding = Finding { problem, span: None, setter: None };
        Self { file: file.to_owned(), text: String::new(), findings: vec![finding] }
    }

    /// The file, as it was named by whoever asked for it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The problems, in the order of the file.
    pub fn problems(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.findings.iter().map(|finding| &finding.problem)
    }

    /// The report as text, with ANSI colours or without.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut parts: Vec<_> =
            self.findings.iter().take(limits::PROBLEMS).map(|finding| self.render_one(finding, &renderer)).collect();
        if self.findings.len() > 1 {
            parts.push(format!("{} problems in {}", self.findings.len(), self.file));
        }
        parts.join("\n\n")
    }

    /// Prints the report to standard error, in colour if that is a terminal and `NO_COLOR` is not set.
    ///
    /// # Errors
    /// Those of writing to standard error.
    pub fn eprint(&self) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        writeln!(stderr, "{}", self.render(colour))
    }

    fn render_one(&self, finding: &Finding, renderer: &Renderer) -> String {
        let Problem { message, label, help, .. } = &finding.problem;
        let title = Level::ERROR.primary_title(message);
        let mut group = match &finding.span {
            Some(span) => {
                let arrow = AnnotationKind::Primary.span(span.clone()).label(label.as_deref());
                title.element(Snippet::source(&self.text).path(&self.file).annotation(arrow))
            }
            None => {
                let origin = match &finding.setter {
                    Some(setter) => format!("set by {setter}"),
                    None => format!("in {}", self.file),
                };
                let note = label.as_deref().map_or(origin.clone(), |label| format!("{origin}: {label}"));
                title.element(Level::NOTE.message(note))
            }
        };
        if let Some(help) = help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}
