//! Hides passwords in the lines that a report shows.
//!
//! A report shows the line that is wrong, and the line that is wrong may be the one with the password: the quotes are
//! missing, or the key is misspelt, so that no parser can tell that it is one. So the text is masked before anything is
//! shown of it, line by line and on suspicion alone: whatever follows `=` after a word that looks like a secret. What is
//! masked in vain does no harm. Masked text keeps its length in bytes, so that every span still points where it did.

use std::borrow::Cow;

/// The text with everything masked that may be a secret. The same length in bytes, the same line breaks.
pub(crate) fn mask(text: &str) -> Cow<'_, str> {
    if !text.lines().any(is_suspicious) {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut open = None;
    for line in text.split_inclusive('\n') {
        let hide_from = match open {
            Some(_) => Some(0),
            None => line.find('=').filter(|_| is_suspicious(line)).map(|equals| equals + 1),
        };
        let Some(hide_from) = hide_from else {
            masked.push_str(line);
            continue;
        };
        open = still_open(open, &line[hide_from..]);
        masked.push_str(&line[..hide_from]);
        line[hide_from..].chars().for_each(|char| hide(char, &mut masked));
    }
    Cow::Owned(masked)
}

/// Whether the line seems to set a secret.
fn is_suspicious(line: &str) -> bool {
    let words = line.split(|char: char| !(char.is_alphanumeric() || char == '_' || char == '-'));
    line.contains('=') && words.map(str::to_lowercase).any(|word| is_secret_name(&word))
}

fn is_secret_name(word: &str) -> bool {
    let names_a_file = word.ends_with("file");
    let looks_like_it = SECRET_WORDS.iter().any(|secret| word.contains(secret));
    !names_a_file && (looks_like_it || strsim::jaro_winkler(word, SECRET_WORDS[0]) > MIN_SIMILARITY)
}

/// The delimiter of a text of several lines that begins or goes on in `rest` and does not end there.
fn still_open(open: Option<&'static str>, rest: &str) -> Option<&'static str> {
    let delimiter = open.or_else(|| ["\"\"\"", "'''"].into_iter().find(|delimiter| rest.contains(delimiter)))?;
    let within = usize::from(open.is_some());
    ((rest.matches(delimiter).count() + within) % 2 == 1).then_some(delimiter)
}

fn hide(char: char, masked: &mut String) {
    if char.is_ascii_whitespace() {
        masked.push(char);
    } else {
        masked.extend(std::iter::repeat_n('*', char.len_utf8()));
    }
}

/// Words of which one in a key makes its value a secret. The first is our own key.
const SECRET_WORDS: [&str; 5] = ["requirepass", "pass", "secret", "token", "auth"];

/// How near a misspelt key must be to our own to be taken for it.
const MIN_SIMILARITY: f64 = 0.85;

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn secret_is_hidden_however_its_key_is_written() {
        for line in [
            "requirepass = \"hunter2\"",
            "requirepass=hunter2",
            "requierpas = 'hunter2'",
            "\"requirepass\" = \"hunter2\"",
            "auth = { requirepass = \"hunter2\" }",
            "auth.requirepass = \"hunter2\"",
            "password = \"hunter2",
            "requirepass = \"\"\"\nhunter2\nhunter2\"\"\"",
        ] {
            let masked = mask(line);
            assert!(!masked.contains("hunter2"), "{masked}");
            assert_eq!(masked.len(), line.len());
        }
    }

    #[test]
    fn nothing_else_is_hidden() {
        let text = "[auth]\nrequirepass_file = \"/run/secrets/pass\"\nlisten = \"127.0.0.1:6379\"\n";
        assert!(!mask("listen = \"127.0.0.1:6379\"\n[auth]\n# a comment").contains('*'));
        assert!(mask(text).contains("listen = \"127.0.0.1:6379\""));
    }

    #[test]
    fn masked_text_ends_with_the_secret() {
        let masked = mask("requirepass = '''a\nb'''\nlisten = 1\n");
        assert_eq!(masked, "requirepass = ****\n****\nlisten = 1\n");
    }

    #[test]
    fn spans_survive_letters_of_several_bytes() {
        let text = "requirepass = \"pä€😀\"\n";
        assert_eq!(mask(text).len(), text.len());
    }
}
