//! The notation in which a row of the table writes down the arguments of its command, and its reader.
//!
//! Redis documents arguments as a tree, and `COMMAND DOCS` replies with it; `redis-cli` makes its hints of that. The
//! table has the tree as the line that a human would write:
//!
//! ```text
//! key:key              an argument and its type; `string` if it has none
//! GET                  a word that stands for itself
//! EX seconds:integer   an argument with a word in front
//! name=(A | B)         one of several
//! name=(key value)     several in a row
//! [...]                may be absent
//! x...                 once or more; `[X y]...` repeats the word as well
//! ```
//!
//! The lines are constants of this crate and a test reads all of them; the reader takes what it can and never fails.

use std::fmt;

/// An argument of a command, or several that belong together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The word in front of it; or itself, if it is one.
    pub(super) token: Option<&'static str>,
    pub(super) optional: bool,
    pub(super) multiple: bool,
    /// Whether the token is repeated too.
    pub(super) multiple_token: bool,
    /// The parts of a [`Kind::OneOf`] or a [`Kind::Block`].
    pub(super) parts: Vec<Argument>,
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A value; Redis's word for its type.
    Value(&'static str),
    /// A word that stands for itself.
    Token,
    /// One of its parts.
    OneOf,
    /// All of its parts.
    Block,
}

impl Kind {
    /// Redis's word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Value(name) => name,
            Self::Token => "pure-token",
            Self::OneOf => "oneof",
            Self::Block => "block",
        }
    }
}

/// Reads the arguments of a command.
pub(super) fn parse(syntax: &'static str) -> Vec<Argument> {
    Reader { rest: syntax }.sequence()
}

struct Reader {
    rest: &'static str,
}

impl Reader {
    /// Arguments up to what ends them: `|`, `)`, `]` or the end.
    fn sequence(&mut self) -> Vec<Argument> {
        let mut arguments = Vec::new();
        while let Some(next) = self.peek()
            && !matches!(next, '|' | ')' | ']')
        {
            arguments.push(self.argument());
        }
        arguments
    }

    fn argument(&mut self) -> Argument {
        let optional = self.take("[");
        let mut argument = self.plain();
        if optional {
            argument.optional = true;
            self.take("]");
            if self.take("...") {
                argument.multiple = true;
                argument.multiple_token = argument.token.is_some() && argument.kind != Kind::Token;
            }
        }
        argument
    }

    fn plain(&mut self) -> Argument {
        let word = self.word();
        let is_token = word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        let mut argument = match (is_token, self.peek()) {
            (true, Some(next)) if next.is_ascii_lowercase() => Argument { token: Some(word), ..self.plain() },
            (true, _) => Argument { token: Some(word), ..leaf(word.to_ascii_lowercase(), Kind::Token) },
            (false, Some('=')) => self.group(word),
            (false, _) => {
                let (name, kind) = word.split_once(':').unwrap_or((word, "string"));
                leaf(name.to_owned(), Kind::Value(kind))
            }
        };
        argument.multiple |= self.take("...");
        argument
    }

    /// `=(...)`: alternatives, or a block if there is only one of them.
    fn group(&mut self, name: &str) -> Argument {
        self.take("=");
        self.take("(");
        let mut parts = self.sequence();
        let mut kind = Kind::Block;
        while self.take("|") {
            kind = Kind::OneOf;
            parts.append(&mut self.sequence());
        }
        self.take(")");
        Argument { parts, ..leaf(name.to_owned(), kind) }
    }

    fn word(&mut self) -> &'static str {
        self.peek();
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_:".contains(byte);
        // Never empty, so that every argument takes something.
        let len = self.rest.bytes().take_while(is_part).count().max(1).min(self.rest.len());
        let (word, rest) = self.rest.split_at(len);
        self.rest = rest;
        word
    }

    /// The next character that is no blank.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, mark: &str) -> bool {
        self.peek();
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

fn leaf(name: String, kind: Kind) -> Argument {
    Argument { name, kind, token: None, optional: false, multiple: false, multiple_token: false, parts: Vec::new() }
}

/// As a help text shows it: `<key> [EX <seconds>]`.
impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = match self.kind {
            Kind::Token => String::new(),
            Kind::Value(_) => format!("<{}>", self.name),
            Kind::OneOf if self.multiple || self.token.is_some() => format!("({})", join(&self.parts, "|")),
            Kind::OneOf => join(&self.parts, "|"),
            Kind::Block => join(&self.parts, " "),
        };
        if self.multiple && !self.multiple_token {
            text = if self.kind == Kind::OneOf { format!("{text} ...") } else { format!("{text} [{text} ...]") };
        }
        if let Some(token) = self.token {
            text = if text.is_empty() { token.to_owned() } else { format!("{token} {text}") };
        }
        let again = if self.multiple_token { " ..." } else { "" };
        if self.optional { write!(f, "[{text}{again}]") } else { f.write_str(&text) }
    }
}

/// Arguments as a help text shows them.
pub(super) fn join(arguments: &[Argument], separator: &str) -> String {
    arguments.iter().map(Argument::to_string).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::{Kind, join, parse};
    use crate::command_table::TABLE;

    #[test]
    fn every_row_is_read_to_its_end() {
        for command in &TABLE {
            let shown = join(&parse(command.syntax), " ");
            assert_eq!(shown.matches(['=', ':']).count(), 0, "{}: {shown}", command.name);
            assert_eq!(shown.matches('(').count(), shown.matches(')').count(), "{}: {shown}", command.name);
            assert!(shown.matches('[').count() >= command.syntax.matches('[').count(), "{}: {shown}", command.name);
            assert_eq!(command.syntax.is_empty(), shown.is_empty(), "{}", command.name);
        }
    }

    #[test]
    fn notation_means_what_it_says() {
        let arguments =
            parse("key:key value [condition=(NX | XX)] [EX seconds:integer] [P q]... [pair=(a b)]... [T x=(A | B)]");
        assert_eq!(
            join(&arguments, " "),
            "<key> <value> [NX|XX] [EX <seconds>] [P <q> ...] [<a> <b> [<a> <b> ...]] [T (A|B)]"
        );
        let [key, value, condition, ex, prefix, pair, _] = &arguments[..] else { panic!("{arguments:?}") };
        assert_eq!((key.kind, value.kind), (Kind::Value("key"), Kind::Value("string")));
        assert_eq!((condition.kind, condition.parts[1].name.as_str(), condition.optional), (Kind::OneOf, "xx", true));
        assert_eq!((ex.kind, ex.token, ex.name.as_str()), (Kind::Value("integer"), Some("EX"), "seconds"));
        assert!(prefix.multiple && prefix.multiple_token && pair.multiple && !pair.multiple_token);
        assert_eq!((pair.kind, pair.parts.len()), (Kind::Block, 2));
    }
}
