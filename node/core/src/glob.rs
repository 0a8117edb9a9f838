//! Glob patterns as KEYS, SCAN, CONFIG GET and COMMAND LIST take them.
//!
//! The rules are Redis's own and no crate has them: `*`, `?`, `[a-z]`, `[^a-z]`, `\` before any of these. Over bytes,
//! not characters. With their corners, each of which some client may have come to rely on:
//!
//! * a class that is never closed ends with the pattern, and an empty one matches nothing;
//! * a range may stand the wrong way round: `[z-a]` is `[a-z]`;
//! * a `\` in a class makes the next byte a plain member, and exactly that one, also when case is ignored;
//! * a `\` at the very end of the pattern is a plain byte;
//! * the empty text matches the empty pattern alone, not even `*`. (SCAN and KEYS take the pattern `*` alone as "all"
//!   before they come here, see [`matches_all`].)
//!
//! Redis matches by recursion, one level for each `*`, which takes exponential time on patterns such as `a*a*a*b` until
//! it gives up (CVE-2022-36021). Here a mismatch goes back to the last `*` alone: whatever an earlier `*` could still
//! take, the last one can take in its place. So the time is at most pattern times text, and there is no recursion.

/// Whether upper and lower case are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// They differ: keys.
    Sensitive,
    /// They are the same, for ASCII letters: names of commands and parameters.
    Insensitive,
}

/// Whether `pattern` is the one that callers may take as "everything", without matching.
pub fn matches_all(pattern: &[u8]) -> bool {
    pattern == b"*"
}

/// Whether `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut pattern, mut text) = (pattern, text);
    // The pattern after the last `*`, and the text that this `*` has not swallowed yet.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            if rest.is_empty() {
                return true;
            }
            pattern = rest;
            retry = Some((rest, text));
            continue;
        }
        let Some((&byte, text_rest)) = text.split_first() else {
            // Only stars may be left, and those were taken above; or no swallowing more will help.
            return pattern.is_empty();
        };
        match one(pattern, byte, case) {
            Some(pattern_rest) => (pattern, text) = (pattern_rest, text_rest),
            None => {
                let Some((after_star, [_, unswallowed @ ..])) = retry else { return false };
                (pattern, text) = (after_star, unswallowed);
                retry = Some((after_star, unswallowed));
            }
        }
    }
}

/// Matches one byte against the element at the start of `pattern`, no `*`, and returns the pattern after it.
fn one(pattern: &[u8], byte: u8, case: Case) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', b'^', class @ ..] => {
            let (member, rest) = class_member(class, byte, case);
            (!member).then_some(rest)
        }
        [b'[', class @ ..] => {
            let (member, rest) = class_member(class, byte, case);
            member.then_some(rest)
        }
        [b'\\', plain, rest @ ..] | [plain, rest @ ..] => same(*plain, byte, case).then_some(rest),
    }
}

/// Whether `byte` is in the class whose members begin at `class`, and the pattern after the class.
fn class_member(mut class: &[u8], byte: u8, case: Case) -> (bool, &[u8]) {
    let mut member = false;
    loop {
        match class {
            [] => return (member, class),
            [b'\\', plain, rest @ ..] => {
                member |= *plain == byte;
                class = rest;
            }
            [b']', rest @ ..] => return (member, rest),
            [from, b'-', to, rest @ ..] => {
                let [from, to, byte] = [*from, *to, byte].map(|byte| fold(byte, case));
                member |= (from.min(to)..=from.max(to)).contains(&byte);
                class = rest;
            }
            [plain, rest @ ..] => {
                member |= same(*plain, byte, case);
                class = rest;
            }
        }
    }
}

fn same(a: u8, b: u8, case: Case) -> bool {
    fold(a, case) == fold(b, case)
}

fn fold(byte: u8, case: Case) -> u8 {
    match case {
        Case::Sensitive => byte,
        Case::Insensitive => byte.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::{Case, matches, one};

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for (texts, expected) in [(yes, true), (no, false)] {
            for text in texts {
                let found = matches(pattern.as_bytes(), text.as_bytes(), Case::Sensitive);
                assert_eq!(found, expected, "{pattern:?} against {text:?}");
            }
        }
    }

    #[test]
    fn stars_and_question_marks() {
        check("h?llo", &["hello", "hallo"], &["hllo", "heello"]);
        check("h*llo", &["hllo", "heeeello", "hllollo"], &["hell", "xhllo"]);
        check("*", &["a", "abc"], &[""]);
        check("**", &["a"], &[""]);
        check("a*", &["a", "ab"], &["b", ""]);
        check("a**", &["a"], &[]);
        check("*a", &["a", "ba", "aa"], &["ab"]);
        check("*a*b*", &["ab", "xaxbx"], &["ba", "a"]);
        check("", &[""], &["a"]);
        check("?", &["a"], &["", "ab"]);
    }

    #[test]
    fn classes_and_their_corners() {
        check("h[ae]llo", &["hello", "hallo"], &["hillo"]);
        check("h[^e]llo", &["hallo", "hbllo"], &["hello"]);
        check("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]);
        check("[z-a]", &["m"], &["M"]);
        check("[]", &[], &["a", "]"]);
        check("[^]", &["a"], &["", "ab"]);
        check("[abc", &["a", "c"], &["d", "ab"]);
        check("[", &[], &["["]);
        check("[^", &["x"], &[]);
        check("[a-", &["a", "-"], &["b"]);
        check("[a-]", &["^", "a", "]"], &["b", "-"]);
        check("[\\]]", &["]"], &["\\"]);
        check("[\\", &["\\"], &["["]);
    }

    #[test]
    fn backslash_makes_plain() {
        check("a\\*", &["a*"], &["ab", "a\\*"]);
        check("a\\", &["a\\"], &["a"]);
        check("\\?\\[", &["?["], &["a["]);
    }

    #[test]
    fn case_is_ignored_on_request() {
        for (pattern, text, expected) in
            [("GeT*", "getRANGE", true), ("[A-c]", "B", true), ("[\\A]", "a", false), ("\\A", "a", true)]
        {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), Case::Insensitive), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn hostile_pattern_takes_no_exponential_time() {
        let pattern = [b"a*".repeat(5_000), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &b"a".repeat(10_000), Case::Sensitive));
    }

    /// The definition, word for word: a star takes any number of bytes, everything else takes one.
    fn by_definition(pattern: &[u8], text: &[u8], case: Case) -> bool {
        match (pattern, text) {
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| by_definition(rest, &text[taken..], case)),
            (_, [byte, text @ ..]) => one(pattern, *byte, case).is_some_and(|rest| by_definition(rest, text, case)),
            (_, []) => pattern.is_empty(),
        }
    }

    proptest! {
        #[test]
        fn matcher_keeps_to_the_definition(pattern in r"[ab*?\[\]^\\B-]{0,8}", text in r"[abB\]\\^-]{1,8}") {
            for case in [Case::Sensitive, Case::Insensitive] {
                let expected = by_definition(pattern.as_bytes(), text.as_bytes(), case);
                assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), case), expected, "{pattern:?} {text:?}");
            }
        }
    }
}
