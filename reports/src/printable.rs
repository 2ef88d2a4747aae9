//! Text of others made safe to print: in a terminal, where control characters move the cursor and hide
//! text, and in a workflow's log, where a line that begins with `::` is a command of GitHub's runner.

use std::borrow::Cow;

/// Whether a character changes how the text around it is shown: controls of C0 and C1, line and
/// paragraph separators, and those that reorder text (Unicode Standard Annex 9).
pub fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// One line without control characters: each is written as Rust's escape of it.
///
/// ```
/// use alertstorm_reports::printable::one_line;
///
/// assert_eq!(one_line("lost\n::error::\u{1b}[2J"), "lost\\n::error::\\u{1b}[2J");
/// ```
pub fn one_line(text: &str) -> Cow<'_, str> {
    match text.chars().any(is_control) {
        true => text.chars().map(escaped).collect::<String>().into(),
        false => text.into(),
    }
}

fn escaped(c: char) -> String {
    if is_control(c) { c.escape_default().to_string() } else { c.to_string() }
}

/// The length of the style sequence (SGR: `ESC [ digits ; … m`) at the start of a text; 0 without one.
fn style(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\u{1b}[") else { return 0 };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';');
    end.filter(|&end| rest[end..].starts_with('m')).map_or(0, |end| end + 3)
}

/// Lines for a terminal or a workflow's log. Control characters other than line ends and tabs are
/// escaped; the styles of this program's own tables stay if `styled`. A command of GitHub's runner,
/// `::` at the start of a line or `##[` anywhere, is broken by a backslash.
pub fn lines(text: &str, styled: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut at = 0;
        let mut begins = true;
        while let Some(c) = line[at..].chars().next() {
            let rest = &line[at..];
            let sequence = if styled { style(rest) } else { 0 };
            if sequence > 0 {
                out += &rest[..sequence];
                at += sequence;
                continue;
            }
            if begins && rest.starts_with("::") {
                out.push('\\');
            }
            begins &= c.is_whitespace();
            if rest.starts_with("##[") {
                out += "#\\#";
                at += 2;
                continue;
            }
            match c {
                '\n' | '\t' => out.push(c),
                c if is_control(c) => out.extend(c.escape_default()),
                c => out.push(c),
            }
            at += c.len_utf8();
        }
    }
    out
}

/// JSON text without characters that a terminal or GitHub's runner interprets. The value is the same.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            // Outside strings JSON has no such character, and within them each may be escaped.
            c if is_control(c) => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out.replace("##[", "\\u0023#[")
}

/// Text within Markdown: nothing in it is formatted, linked, mentioned or read as HTML.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '<' => out += "&lt;",
            '&' => out += "&amp;",
            '@' => out += "&#64;",
            '\\' | '`' | '*' | '[' | ']' | '|' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// A name within Markdown, as code; also in a table.
pub fn markdown_code(text: &str) -> String {
    format!("`{}`", one_line(text).replace('`', "'").replace('|', "\\|"))
}

/// The message of an annotation in a GitHub workflow, as `@actions/core` escapes it.
pub fn annotation(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of such an annotation.
pub fn annotation_property(text: &str) -> String {
    annotation(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_the_runner_are_broken_wherever_a_line_begins() {
        let text = "fine :: here\n::error::x\n  \u{1b}[2m::set-env\u{1b}[0m\n##[add-mask]y\n";
        let printed = lines(text, true);
        let expected =
            "fine :: here\n\\::error::x\n  \u{1b}[2m\\::set-env\u{1b}[0m\n#\\#[add-mask]y\n";
        assert_eq!(printed, expected);
    }

    #[test]
    fn of_all_control_characters_only_styles_of_our_own_stay() {
        let text = "\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7}\u{1b}[2J\r\u{9b}1m\u{202e}";
        let kept = lines(text, true);
        assert_eq!(
            kept,
            "\u{1b}[31mred\u{1b}[0m\\u{1b}]0;title\\u{7}\\u{1b}[2J\\r\\u{9b}1m\\u{202e}"
        );
        assert!(!lines(text, false).contains('\u{1b}'));
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({"question": "\u{9b}2J##[error]\u{202e}\u{7f}\n"});
        let text = serde_json::to_string_pretty(&value).expect("JSON");
        let printed = json(&text);
        assert!(!printed.contains("##[") && !printed.contains('\u{9b}'), "{printed}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).expect("JSON"), value);
    }

    #[test]
    fn markdown_of_others_is_plain_text() {
        let text = markdown("![x](http://a)<img>\n@team `a` | #1");
        assert_eq!(text, "!\\[x\\](http://a)&lt;img>\\\\n&#64;team \\`a\\` \\| #1");
    }
}
