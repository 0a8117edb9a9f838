//! Hides passwords in the lines that a report shows.
//!
//! A report shows the line that is wrong, and the line that is wrong may be the one with the password: the quotes are
//! missing, the key is misspelt, or the line was copied from redis.conf, so that no parser can tell what it is. So the
//! text is masked before anything of it is shown, line by line and on suspicion alone: whatever follows a key that
//! looks like that of a secret. What is masked in vain does no harm. Masked text keeps its length in bytes, so that
//! every span still points where it did; the length of a password is the one thing that is not hidden.

use std::borrow::Cow;

/// The text with everything masked that may be a secret. The same length in bytes, the same line breaks.
pub(crate) fn mask(text: &str) -> Cow<'_, str> {
    if text.lines().all(|line| secret_from(line).is_none()) {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut open = None;
    for line in text.split_inclusive('\n') {
        let hide_from = if open.is_some() { Some(0) } else { secret_from(line) };
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

/// Where in the line a secret may begin: behind the first key that looks like one.
///
/// A key stands at the start of the line or of an entry of an inline table. It is the first word, or, where several
/// words stand before a `=`, all of them.
fn secret_from(line: &str) -> Option<usize> {
    const BETWEEN: [char; 4] = [' ', '\t', '=', ':'];
    let mut start = 0;
    for entry in line.split_inclusive(['{', ',']) {
        let lead = entry.len() - entry.trim_start_matches([' ', '\t', '#']).len();
        let word = entry[lead..].find(BETWEEN).map_or(entry.len(), |end| lead + end);
        let key = entry.find('=').unwrap_or(word);
        if let Some(end) = [word, key].into_iter().find(|end| names_a_secret(&entry[..*end])) {
            let between = entry[end..].len() - entry[end..].trim_start_matches(BETWEEN).len();
            return Some(start + end + between);
        }
        start += entry.len();
    }
    None
}

/// Whether any word of a key, which may be dotted or in quotes, is that of a secret.
fn names_a_secret(key: &str) -> bool {
    let words = key.split(|char: char| !(char.is_alphanumeric() || char == '_' || char == '-'));
    words.map(str::to_lowercase).any(|word| is_secret_name(&word))
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
const SECRET_WORDS: [&str; 6] = ["requirepass", "pass", "pwd", "secret", "token", "auth"];

/// How near a misspelt key must be to our own to be taken for it.
const MIN_SIMILARITY: f64 = 0.85;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            "x = { y = 1, requirepass = \"hunter2\" }",
            "requirepass hunter2",
            "requirepass hunter2 = 3",
            "  #requirepass: hunter2",
            "requirepass = \"\"\"\nhunter2\nhunter2\"\"\"",
        ] {
            let masked = mask(line);
            assert!(!masked.contains("hunter2"), "{masked}");
            assert_eq!(masked.len(), line.len());
        }
    }

    #[test]
    fn nothing_else_is_hidden() {
        let text = "listen = \"127.0.0.1:6379\"\n[auth]\n# a comment\nrequirepass_file = \"/run/secrets/pass\"\n\
            ca = \"certs/authorities.pem\"\nx = { y = 1, z = [2, 3] }\n";
        assert_eq!(mask(text), text);
    }

    #[test]
    fn masked_text_ends_with_the_secret() {
        let masked = mask("requirepass = '''a\nb'''\nlisten = 1\n");
        assert_eq!(masked, "requirepass = ****\n****\nlisten = 1\n");
    }

    proptest! {
        #[test]
        fn every_line_keeps_its_length_in_bytes(text in "(requirepass|x|[={}\"',#: \n]|[a-z€😀])*") {
            let masked = mask(&text);
            prop_assert!(masked.lines().map(str::len).eq(text.lines().map(str::len)));
        }
    }
}
